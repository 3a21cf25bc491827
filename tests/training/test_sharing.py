"""Files by the user's umask, so that a group can share caches; caches that may only be read; what may not be read."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from llmdiff.errors import LLMDiffError
from llmdiff.language.store import EncodingStore
from llmdiff.training import train
from privileges import laid_down
from tiny_base import Places
from training.test_run import assert_same, weights, write_recipe

GROUP, OTHER = 2000, 65534


@contextmanager
def umask(bits: int) -> Iterator[None]:
    before = os.umask(bits)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def member_of(group: int) -> Iterator[None]:
    """Within it this process is of a group, and has no right to files but those that users have."""
    before = os.getgroups()
    os.setgroups([group])
    try:
        with laid_down():
            yield
    finally:
        os.setgroups(before)


def trained(folder: Path, places: Places, cache: Path, captions: int = 6) -> set[str]:
    """Trains in a folder of its own with a cache of several; returns the names of the stages."""
    stages: set[str] = set()
    folder.mkdir()
    recipe = write_recipe(folder, places, data={"kind": "scenes", "captions": captions, "pictures": 2}, samples=[])
    train(recipe, [f"cache.folder={cache}"], progress=lambda stage, _: stages.add(stage.split(",")[0]))
    return stages


@pytest.mark.fault("umask")
@pytest.mark.parametrize("bits", [0o002, 0o077])
def test_all_that_a_run_writes_has_the_permissions_of_a_new_file(bits: int, tmp_path: Path, places: Places) -> None:
    """Notes, logs, checkpoints, latents, terms, sheets, the adapter; libraries have a mind of their own about it."""
    with umask(bits):
        (tmp_path / "own").mkdir()
        train(write_recipe(tmp_path / "own", places), ["loop.steps=2"])
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "own").rglob("*")}
    kinds = {".json", ".jsonl", ".safetensors", ".png", ".md"}
    assert kinds <= {path.suffix for path in found}, "a kind of file is not tried"
    assert any(path.parent.name == "tensorboard" for path in found)
    expected = {path: (0o777 if path.is_dir() else 0o666) & ~bits for path in found}
    assert {str(path): oct(mode) for path, mode in found.items() if mode != expected[path]} == {}


@pytest.mark.fault("umask")
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only the superuser can give files to others")
def test_two_users_of_a_group_share_a_cache(tmp_path: Path, places: Places) -> None:
    """The second reads what the first has encoded, and adds to it."""
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, OTHER, GROUP)
    shared.chmod(0o2775)
    with umask(0o002):
        assert "Encoding pictures" in trained(tmp_path / "one", places, shared / "cache")
        for path in shared.rglob("*"):
            os.chown(path, OTHER, GROUP)  # as if another user had run it
        with member_of(GROUP):
            assert not trained(tmp_path / "two", places, shared / "cache") & {"Encoding pictures", "Reading captions"}
            assert "Encoding pictures" in trained(tmp_path / "three", places, shared / "cache", captions=9)
    assert_same(weights(tmp_path / "one"), weights(tmp_path / "two"))


@pytest.mark.fault("umask")
def test_a_cache_that_may_only_be_read_is_used(tmp_path: Path, places: Places) -> None:
    """And one that lacks something says what it would take."""
    cache = tmp_path / "cache"
    trained(tmp_path / "one", places, cache)
    before = sorted(cache.rglob("*"))
    for path in (cache, *before):
        path.chmod(0o555 if path.is_dir() else 0o444)
    with laid_down():
        assert not trained(tmp_path / "two", places, cache) & {"Encoding pictures", "Reading captions"}
        with pytest.raises(LLMDiffError, match=r"cache .* cannot be written \(.*[Pp]ermission.*set cache\.folder"):
            trained(tmp_path / "three", places, cache, captions=9)
    assert sorted(cache.rglob("*")) == before
    assert_same(weights(tmp_path / "one"), weights(tmp_path / "two"))


@pytest.mark.fault("umask")
@pytest.mark.parametrize("kind", ["latents", "terms"])
def test_a_cache_file_that_may_not_be_read_is_not_called_damaged(kind: str, tmp_path: Path, places: Places) -> None:
    cache = tmp_path / "cache"
    trained(tmp_path / "one", places, cache)
    (path,) = cache.glob(f"{kind}-*/*.safetensors")
    path.chmod(0)
    with laid_down(), pytest.raises(LLMDiffError, match=f"no permission to read the cache file {path}: ask its owner"):
        trained(tmp_path / "two", places, cache)
    assert path.is_file()


@pytest.mark.fault("umask")
def test_encodings_of_others_are_read_where_allowed_and_never_taken_away(tmp_path: Path) -> None:
    store, embeds = EncodingStore(tmp_path / "encodings", 10**6), torch.ones(2, 3)
    store.put("a", embeds)
    store.put("b", embeds)
    (tmp_path / "encodings" / "b.safetensors").chmod(0)
    with laid_down():
        assert store.get("b") is None
        assert (tmp_path / "encodings" / "b.safetensors").exists(), "it may be whole"
        (tmp_path / "encodings").chmod(0o555)
        assert torch.equal(store.get("a"), embeds)
        store.put("c", embeds)
        assert store.get("c") is None


@pytest.mark.fault("umask")
@pytest.mark.parametrize("note", ["recipe.json", "data.json"])
def test_a_note_that_may_not_be_read_says_so(note: str, tmp_path: Path, places: Places) -> None:
    recipe = write_recipe(tmp_path, places, samples=[])
    train(recipe, ["loop.steps=2", "loop.sample_every=0"])
    (tmp_path / "run" / note).chmod(0)
    with laid_down(), pytest.warns(UserWarning, match=rf"{note} cannot be used \(no permission\)"):
        train(recipe, ["loop.steps=2", "loop.sample_every=0"], resume=True)


@pytest.mark.fault("umask")
def test_a_run_s_folder_that_may_not_be_written_says_so(tmp_path: Path, places: Places) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o555)
    recipe = write_recipe(tmp_path, places)
    with laid_down(), pytest.raises(LLMDiffError, match=f"no permission to write to {tmp_path / 'run'}: set folder to"):
        train(recipe)


@pytest.mark.fault("umask")
def test_a_checkpoint_that_may_not_be_read_is_not_passed_over(tmp_path: Path, places: Places) -> None:
    """Else the run would begin anew, or go on from an older one."""
    recipe = write_recipe(tmp_path, places, samples=[])
    train(recipe, ["loop.steps=2", "loop.sample_every=0"])
    path = tmp_path / "run" / "checkpoints" / "step-00000002.safetensors"
    path.chmod(0)
    with laid_down(), pytest.raises(LLMDiffError, match=f"no permission to read {path}: ask its owner"):
        train(recipe, ["loop.sample_every=0"], resume=True)
