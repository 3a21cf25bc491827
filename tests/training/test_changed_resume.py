"""Resuming with other settings, with damaged notes and logs, and with everything in another place."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdiff.errors import LLMDiffError
from llmdiff.training import checkpoint, train
from llmdiff.training.metric_logging import _forget_after
from llmdiff.training.recipe import Recipe, load_recipe
from llmdiff.training.run_manifest import FREE, PLACES, _binding, check_facts, check_folder
from tiny_base import Places
from training.test_run import assert_same, interrupted, weights, write_recipe

FREED = {
    "loop.learning_rate": 1e-5,
    "loop.steps": 6,
    "loop.warmup": 0,
    "loop.decay": 0,
    "loop.clip": 0.5,
    "loop.weight_decay": 0,
    "loop.log_every": 3,
    "loop.save_every": 1,
    "loop.heldout_every": 1,
    "loop.sample_every": 0,
    "loop.micro_batch": 1,
    "loop.trackers": ["tensorboard"],
    "precision": "float16",
    "compile": False,
    "gradient_checkpointing": True,
    "cache.latents": False,
    "cache.workers": 1,
    "cache.check": True,
    "heldout.levels": 2,
    "heldout.pictures": 7,
    "objective.scalar_rate": 1,
    "samples": [],
}
BOUND = {
    "loop.batch_size": 3,
    "loop.seed": 4,
    "loop.ema": 0.5,
    "objective.caption_dropout": 0.5,
    "objective.timesteps": "high",
    "cache.terms": "grouped",
    "llm_dtype": "bfloat16",
    "heldout.share": 0.5,
    "mode": "augment",
    "data.pictures": 3,
    "refiner": {"blocks": 1, "width": 16},
    "lora": {"rank": 2},
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, places: Places) -> Path:
    """The folder of a run of four steps that was interrupted in its third."""
    folder = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        interrupted(write_recipe(folder, places), patch)
    return folder


@pytest.fixture
def recipe(begun: Path, tmp_path: Path, places: Places) -> str:
    """Of such a run, in a folder that may be changed."""
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    return write_recipe(tmp_path, places)


@pytest.mark.fault("lost work")
def test_a_run_goes_on_with_a_lower_learning_rate_a_longer_run_and_other_intervals(recipe: str, tmp_path: Path) -> None:
    options = ["loop.learning_rate=1e-5", "loop.warmup=0", "loop.decay=0", "loop.steps=9", "loop.log_every=2"]
    assert train(recipe, options, resume=True)["steps"] == 9
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 6, 8]
    assert [row["rate"] for row in rows[3:]] == [1e-5] * 3
    assert train(recipe, [*options, "loop.steps=12"], resume=True)["steps"] == 12


@pytest.mark.fault("lost work")
def test_every_free_key_may_change(recipe: str) -> None:
    """Each by itself, and all of them together, but for the workers, which take seconds to come."""
    for key, value in FREED.items():
        assert check_folder(load_recipe(recipe, [f"{key}={json.dumps(value)}"]), resume=True)
    options = [f"{key}={json.dumps(value)}" for key, value in FREED.items() if key != "cache.workers"]
    assert train(recipe, options, resume=True)["steps"] == 6


@pytest.mark.fault("lost work")
def test_a_key_on_which_the_weights_depend_may_not_and_is_named(recipe: str) -> None:
    for key, value in BOUND.items():
        said = rf"has another '{key}.*' \(.* then, .* now\): resume it as it was, or set folder"
        with pytest.raises(LLMDiffError, match=said):
            check_folder(load_recipe(recipe, [f"{key}={json.dumps(value)}"]), resume=True)


def test_every_key_of_a_recipe_is_free_or_bound_or_a_place() -> None:
    """And those declared free or a place are there."""
    recipe = load_recipe("sd15", ["lora.rank=2", "refiner.blocks=1", "heldout.share=0.1"])
    bound = {key.split(".")[0] for key in _binding(recipe)}
    assert bound | {key for key, value in FREE.items() if value is True} == set(Recipe.model_fields)
    assert set(PLACES) <= set(Recipe.model_fields)
    for section, keys in FREE.items():
        assert keys is True or keys <= set(type(getattr(recipe, section)).model_fields)


def test_a_run_that_is_past_its_new_end_says_so(recipe: str) -> None:
    with pytest.raises(LLMDiffError, match=r"3 steps are done already: set loop\.steps to as many or more"):
        train(recipe, ["loop.steps=2"], resume=True)


DAMAGE = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "not UTF-8": lambda content: content.replace(b"a", b"\xff"),
    "nested": lambda content: b"[" * 100_000,
    "other JSON": lambda content: b"[1, 2]",
    "other keys": lambda content: b'{"folder": 3}',
}


@pytest.mark.fault("lost work")
@pytest.mark.filterwarnings("ignore:.*is not checked")
def test_damaged_notes_and_logs_stop_no_resume(recipe: str, tmp_path: Path) -> None:
    """However they are damaged; a run with all of them damaged is trained to its end, and has whole ones then."""
    run = tmp_path / "run"
    whole = {note: note.read_bytes() for note in (run / "recipe.json", run / "data.json")}
    for note, content in whole.items():
        for damage in DAMAGE.values():
            note.write_bytes(damage(content))
            assert check_folder(load_recipe(recipe), resume=True)
            check_facts(load_recipe(recipe), {"captions": "0"} if note.name == "data.json" else {})
            note.write_bytes(content)
    log = run / "log.jsonl"
    for note in (*whole, log):
        note.write_bytes(note.read_bytes()[:-20] + b"\xcf")
    assert train(recipe, resume=True)["steps"] == 4
    for note, content in whole.items():
        elsewhere = {"folder": str(run)} if note.name == "recipe.json" else {}
        assert json.loads(note.read_bytes()) == json.loads(content) | elsewhere
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 2, 4]


@pytest.mark.fault("lost work")
def test_what_is_not_checked_is_said(recipe: str, tmp_path: Path) -> None:
    note = tmp_path / "run" / "recipe.json"
    note.write_text('{"folder": "ru')
    with pytest.warns(
        UserWarning, match=r"recipe\.json cannot be used \(.*\): the run goes on, but whether its recipe"
    ):
        train(recipe, resume=True)


@pytest.mark.fault("special files")
@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore:.*is not checked")
@pytest.mark.parametrize("note", ["recipe.json", "data.json"])
def test_a_note_that_is_no_file_is_not_waited_for(recipe: str, tmp_path: Path, note: str) -> None:
    (tmp_path / "run" / note).unlink()
    os.mkfifo(tmp_path / "run" / note)
    assert check_folder(load_recipe(recipe), resume=True)
    check_facts(load_recipe(recipe), {})


@pytest.mark.fault("special files")
@pytest.mark.timeout(60)
def test_a_log_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.jsonl")
    with pytest.raises(OSError, match="it is a device, a FIFO or a socket"):
        _forget_after(2, tmp_path / "log.jsonl")


@pytest.mark.fault("lost work")
def test_a_run_without_its_recipe_goes_on(recipe: str, tmp_path: Path) -> None:
    (tmp_path / "run" / "recipe.json").unlink()
    assert train(recipe, resume=True)["steps"] == 4


@pytest.mark.fault("lost work")
@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 120), junk=st.binary(max_size=20))
def test_a_log_cut_anywhere_keeps_its_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes
) -> None:
    """In the middle of a character too: `σ` has two bytes."""
    log = tmp_path_factory.mktemp("log") / "log.jsonl"
    lines = [json.dumps({"step": n, "heldout/σ0.5": 1.0}, ensure_ascii=False).encode() + b"\n" for n in (1, 2, 3)]
    whole = b"".join(lines)
    log.write_bytes(whole[:cut] + junk)
    _forget_after(2, log)
    kept = log.read_bytes()
    complete = min(cut // len(lines[0]), 2)
    assert kept[: len(b"".join(lines[:complete]))] == b"".join(lines[:complete])
    assert all(json.loads(line)["step"] <= 2 for line in kept.splitlines())


@pytest.mark.fault("lost work")
@pytest.mark.timeout(60)
def test_drafts_and_things_that_are_no_checkpoints_are_in_nobody_s_way(recipe: str, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    (folder / ".1.0000abcd.part").write_bytes(b"half")
    (folder / ".2.0000abcd.part").mkdir()
    (folder / ".tmpabc").mkdir()
    (folder / "step-00000009.safetensors").mkdir()
    os.mkfifo(folder / "step-00000008.safetensors")
    (folder / "step-00000007.safetensors").symlink_to("nowhere")
    assert train(recipe, resume=True)["steps"] == 4
    assert (folder / "step-00000004.safetensors").is_file()
    assert not (folder / ".1.0000abcd.part").exists()


def pictures(folder: Path) -> dict[str, Any]:
    from PIL import Image

    folder.mkdir()
    for n in range(4):
        Image.new("RGB", (20, 16), (60 * n, 200, 30)).save(folder / f"{n}.png")
        (folder / f"{n}.txt").write_text(f"picture {n}")
    return {"kind": "folder", "path": str(folder)}


@pytest.mark.fault("identity")
def test_data_and_models_in_another_place_are_resumed_to_the_bit(
    tmp_path: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it moved and given another time: pictures, base, LLM, the run's folder and the recipe."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    moved = Places(here / "base", here / "llm", places.adapter)
    for old, new in ((places.base, moved.base), (places.llm, moved.llm)):
        shutil.copytree(old, new)
    recipe = write_recipe(here, moved, data=pictures(here / "pictures"), mode="augment")
    interrupted(recipe, monkeypatch)
    expected = tmp_path / "expected"
    shutil.copytree(here, expected)
    train(recipe, resume=True)
    shutil.move(expected, there)
    shutil.rmtree(here / "base")
    recipe = there / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(here), str(there)))
    for path in (there / "pictures").iterdir():
        os.utime(path, ns=(1, 1))
    train(str(recipe), resume=True)
    assert_same(weights(here), weights(there))


@pytest.mark.fault("identity")
@pytest.mark.parametrize(("key", "file"), [("base", "unet/config.json"), ("llm", "config.json")])
def test_a_changed_model_is_no_base_to_go_on_from(
    key: str, file: str, tmp_path: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the name that it had: one number of its settings is another."""
    copy = Places(tmp_path / "base", tmp_path / "llm", places.adapter)
    for old, new in ((places.base, copy.base), (places.llm, copy.llm)):
        shutil.copytree(old, new)
    recipe = write_recipe(tmp_path, copy)
    interrupted(recipe, monkeypatch)
    path = getattr(copy, key) / file
    config = json.loads(path.read_text())
    config |= {"norm_eps": 1e-3} if key == "base" else {"rms_norm_eps": 1e-3}
    path.write_text(json.dumps(config))
    said = "the base model" if key == "base" else "the LLM"
    with pytest.raises(LLMDiffError, match=f"have changed: {said}. Put back what was there"):
        train(recipe, resume=True)


@pytest.mark.fault("identity")
def test_an_older_run_whose_models_are_not_known_is_bound_to_their_places(
    recipe: str, tmp_path: Path, places: Places
) -> None:
    note = tmp_path / "run" / "data.json"
    facts = json.loads(note.read_text())
    note.write_text(json.dumps({name: value for name, value in facts.items() if name not in ("base model", "LLM")}))
    shutil.copytree(places.base, tmp_path / "other")
    with pytest.raises(LLMDiffError, match="has another 'base'"):
        train(recipe, [f"base={tmp_path / 'other'}"], resume=True)
    assert train(recipe, resume=True)["steps"] == 4
    assert train(recipe, [f"base={tmp_path / 'other'}"], resume=True)["steps"] == 4, "now they are known"


@pytest.mark.fault("checkpoint")
def test_a_checkpoint_of_another_run_is_passed_over_and_named(
    recipe: str, tmp_path: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one of the same recipe, whose shapes and settings all fit."""
    (tmp_path / "other").mkdir()
    train(write_recipe(tmp_path / "other", places))
    mine, theirs = (folder / "run" / "checkpoints" for folder in (tmp_path, tmp_path / "other"))
    shutil.copy(theirs / "step-00000004.safetensors", mine)
    with pytest.warns(UserWarning, match=r"Passed over, .*step-00000004\.safetensors is a checkpoint of another run"):
        assert train(recipe, resume=True)["steps"] == 4
    shutil.rmtree(mine)
    shutil.copytree(theirs, mine)
    with pytest.raises(LLMDiffError, match=r"is a checkpoint of another run .*\): delete them, or set folder"):
        train(recipe, resume=True)


@pytest.mark.fault("checkpoint")
@pytest.mark.parametrize("lost", ["note", "marks", "both"])
def test_a_run_of_before_or_without_its_note_goes_on_and_is_one_from_then_on(
    recipe: str, tmp_path: Path, lost: str
) -> None:
    note, checkpoints = tmp_path / "run" / "data.json", tmp_path / "run" / "checkpoints"
    facts = json.loads(note.read_text())
    if lost != "marks":
        note.write_text(json.dumps(facts | {"run": 3}))
    if lost != "note":
        for path in checkpoints.iterdir():
            tensors, info = checkpoint.load(path)
            checkpoint.save(checkpoints, info["step"], tensors, {key: info[key] for key in info.keys() - {"run"}})
    assert train(recipe, resume=True)["steps"] == 4
    found = json.loads(note.read_text())["run"]
    assert (found == facts["run"]) == (lost != "both")
    assert checkpoint.run_of(checkpoints) == found
    assert train(recipe, ["loop.steps=5"], resume=True)["steps"] == 5
