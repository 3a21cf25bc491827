"""Checkpoints are whole or absent, and bring everything back."""

import json
import resource
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save_file

from llmdiff import tensor_files
from llmdiff.errors import LLMDiffError
from llmdiff.training import checkpoint
from llmdiff.training.randomness import Streams
from training.regression import Regression

TENSORS = {"module.a": torch.arange(6.0).reshape(2, 3), "ema.a": torch.ones(2, 3, dtype=torch.float16)}


def save(folder: Path, *steps: int) -> list[Path]:
    return [checkpoint.save(folder, step, TENSORS, {"skipped": step}) for step in steps]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    (path,) = save(tmp_path / "new" / "folder", 7)
    tensors, info = checkpoint.load(path)
    assert info == {"skipped": 7, "step": 7}
    assert tensors.keys() == TENSORS.keys()
    assert all(
        torch.equal(tensors[name], value) and tensors[name].dtype == value.dtype for name, value in TENSORS.items()
    )


def test_tensors_that_share_memory_or_lie_strided_are_saved(tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    path = checkpoint.save(tmp_path, 1, {"whole": whole, "part": whole[:2], "turned": whole.T}, {})
    assert torch.equal(checkpoint.load(path)[0]["turned"], whole.T)


def test_the_newest_two_are_kept(tmp_path):
    save(tmp_path, 5, 10, 15)
    assert names(tmp_path) == ["step-00000010.safetensors", "step-00000015.safetensors"]
    checkpoint.save(tmp_path, 20, TENSORS, {}, keep=1)
    assert names(tmp_path) == ["step-00000020.safetensors"]
    checkpoint.save(tmp_path, 25, TENSORS, {}, keep=9)
    assert len(names(tmp_path)) == 2


def test_there_is_none_in_an_empty_or_missing_folder(tmp_path):
    assert checkpoint.newest(tmp_path) is None
    assert checkpoint.newest(tmp_path / "missing") is None


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "other"])
def test_a_damaged_newest_one_is_passed_over(tmp_path, damage):
    older, newer = save(tmp_path, 5, 10)
    if damage == "other":
        save_file({"x": torch.ones(2)}, newer)
    else:
        content = {"truncated": newer.read_bytes()[:-9], "empty": b"", "garbage": bytes(range(256)) * 9}
        newer.write_bytes(content[damage])
    assert checkpoint.newest(tmp_path) == older
    with pytest.raises(LLMDiffError, match=r"step-00000010\.safetensors is not a readable checkpoint"):
        checkpoint.load(newer)


@pytest.mark.fault("checksum")
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), flip=st.integers(1, 255), cut=st.booleans())
def test_what_is_cut_off_or_has_a_changed_byte_is_never_loaded(tmp_path, place, flip, cut):
    """Anywhere in the file; where it loads in spite of it, a blank of the header say, it is what it was."""
    newer = save(tmp_path, 5, 10)[1]
    content = bytearray(newer.read_bytes())
    place %= len(content)
    newer.write_bytes(
        content[:place] if cut else content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :]
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tensors, info = checkpoint.load_newest(tmp_path, lambda *_: None)
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())
    assert tensors.keys() == TENSORS.keys()
    named = [str(newer) in str(one.message) for one in caught]
    assert (info, named) in [({"skipped": 10, "step": 10}, []), ({"skipped": 5, "step": 5}, [True])]


PARAMETERS = {"a": torch.ones(2, 3), "b": torch.ones(4)}
GOOD: dict[str, torch.Tensor] = {
    **{f"{kind}.{name}": value for kind in ("module", "ema") for name, value in PARAMETERS.items()},
    "optimizer.a.step": torch.tensor(3.0),
    "optimizer.a.exp_avg": torch.zeros(2, 3),
    "optimizer.a.exp_avg_sq": torch.zeros(2, 3),
}
INFO = {"skipped": 0, "micro_batch": 4, "scale": {"value": 1.0, "good": 0, "adapts": False}}
MISFITS: dict[str, tuple[dict[str, torch.Tensor | None], dict[str, object]]] = {
    "has optimizer.a.exp_avg as": ({"optimizer.a.exp_avg": torch.zeros(2)}, {}),
    "has optimizer.a.exp_avg_sq as": ({"optimizer.a.exp_avg_sq": torch.zeros(2, 3).half()}, {}),
    "has optimizer.a.step as": ({"optimizer.a.step": torch.zeros(3)}, {}),
    "has ema.b as": ({"ema.b": torch.zeros(5)}, {}),
    "has ema.a as": ({"ema.a": torch.zeros(2, 3, dtype=torch.int32)}, {}),
    "has module.a as": ({"module.a": torch.zeros(2, 3, dtype=torch.float64)}, {}),
    "lacks optimizer.a.exp_avg": ({"optimizer.a.exp_avg": None}, {}),
    "lacks optimizer.a.step": ({"optimizer.a.step": None}, {}),
    "lacks ema.b": ({"ema.b": None}, {}),
    "has an unknown optimizer.c.step": ({"optimizer.c.step": torch.zeros(())}, {}),
    "has an unknown optimizer.a.max_exp_avg_sq": ({"optimizer.a.max_exp_avg_sq": torch.zeros(2, 3)}, {}),
    "has an unknown x": ({"x": torch.zeros(1)}, {}),
    "settings that cannot be: skipped": ({}, {"skipped": -1}),
    "settings that cannot be: skipped: input": ({}, {"skipped": "many"}),
    "settings that cannot be: micro_batch": ({}, {"micro_batch": 0}),
    "settings that cannot be: scale": ({}, {"scale": {"value": float("nan")}}),
    "settings that cannot be: scale: the scale": ({}, {"scale": {"value": 0.0}}),
}


@pytest.mark.fault("checkpoint")
@pytest.mark.parametrize("said", MISFITS)
def test_what_does_not_fit_what_is_trained_is_found_before_a_number_is_restored(tmp_path, said):
    tensors, info = MISFITS[said]
    changed = {name: value for name, value in (GOOD | tensors).items() if value is not None}
    path = checkpoint.save(tmp_path, 7, changed, INFO | info)
    found = checkpoint.misfit(path, *checkpoint.load(path), PARAMETERS, True)
    assert f"{path} {said}" in found or f"{path} has {said}" in found
    good = checkpoint.save(tmp_path, 6, GOOD, INFO)
    assert checkpoint.misfit(good, *checkpoint.load(good), PARAMETERS, True) is None


@pytest.mark.fault("checkpoint")
def test_a_checkpoint_under_another_ones_name_is_found(tmp_path):
    path = checkpoint.save(tmp_path, 7, GOOD, INFO)
    moved = path.rename(tmp_path / "step-00000009.safetensors")
    assert checkpoint.misfit(moved, *checkpoint.load(moved), PARAMETERS, True) == f"{moved} is that of step 7."


@pytest.mark.fault("checkpoint")
def test_a_folder_of_damaged_checkpoints_is_refused(tmp_path):
    for path in save(tmp_path, 5, 10):
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(LLMDiffError, match=r"No checkpoint in .* can be used \(.*step-00000010.*train anew\.$"):
        checkpoint.load_newest(tmp_path, lambda *_: None)


def test_a_checkpoint_of_before_checksums_is_read(tmp_path):
    path = tmp_path / "step-00000005.safetensors"
    save_file(TENSORS, path, metadata={"state": json.dumps({"step": 5, "skipped": 0})})
    tensors, info = checkpoint.load_newest(tmp_path, lambda *_: None)
    assert info == {"step": 5, "skipped": 0}
    assert torch.equal(tensors["module.a"], TENSORS["module.a"])


def test_equal_checkpoints_are_equal_files(tmp_path):
    one, other = (save(tmp_path / name, 5)[0] for name in "ab")
    assert one.read_bytes() == other.read_bytes()


def test_a_checkpoint_that_no_memory_holds_is_found_at_once(tmp_path):
    """A file of 1 TB, of which the disk keeps nothing but the header."""
    size = 2**40
    header = {
        "__metadata__": {"state": json.dumps({"step": 5})},
        "module.a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]},
    }
    text = json.dumps(header).encode()
    path = tmp_path / "step-00000005.safetensors"
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        try:
            file.truncate(8 + len(text) + size)
        except OSError:
            pytest.skip("no sparse files here")
    assert checkpoint.newest(tmp_path) == path
    with path.open("r+b") as file:
        file.truncate(8 + len(text) + size - 1)
    assert checkpoint.newest(tmp_path) is None


def test_what_follows_damaged_ones_is_not_thrown_away_for_them(tmp_path):
    """Three checkpoints, the newer two spoilt: the run goes back to the first, and what it saves then stays."""
    (good,) = save(tmp_path, 5)
    for step in (10, 15):
        (tmp_path / f"step-{step:08d}.safetensors").write_bytes(b"spoilt")
    assert checkpoint.newest(tmp_path) == good
    (path,) = save(tmp_path, 7)
    assert checkpoint.newest(tmp_path) == path


@pytest.mark.parametrize("name", [".123.0badcafe.part", ".tmpXxbPrG"])
def test_a_half_written_one_is_never_chosen_and_is_cleared_away(tmp_path, name):
    (good,) = save(tmp_path, 5)
    half = tmp_path / name
    half.write_bytes(good.read_bytes()[:50])
    assert checkpoint.newest(tmp_path) == good
    save(tmp_path, 10)
    assert not half.exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error: no space")])
def test_a_full_disk_leaves_the_earlier_ones_and_nothing_else(tmp_path, monkeypatch, error):
    (good,) = save(tmp_path, 5)

    def fill(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(tensor_files, "save_file", fill)
    with pytest.raises(LLMDiffError, match=r"step-00000010\.safetensors could not be written \(.*space"):
        save(tmp_path, 10)
    assert names(tmp_path) == [good.name]
    assert checkpoint.newest(tmp_path) == good


def test_a_disk_that_fills_up_in_mid_file_leaves_the_earlier_ones_and_nothing_else(tmp_path):
    """The system itself refuses what goes beyond a file's largest size, as a full disk does."""
    (good,) = save(tmp_path, 5)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(LLMDiffError, match="could not be written"):
            checkpoint.save(tmp_path, 10, {"module.a": torch.ones(400, 400)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == [good.name]
    assert checkpoint.newest(tmp_path) == good


def test_a_place_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LLMDiffError, match="could not be written"):
        save(tmp_path / "file" / "checkpoints", 1)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(LLMDiffError, match="Permission denied"):
        save(tmp_path / "read-only", 1)


def test_the_optimizer_comes_back_to_the_bit(tmp_path):
    objective = Regression()
    names_of = {p: name for name, p in objective.module.named_parameters()}
    optimizer = torch.optim.AdamW(objective.module.parameters(), fused=True)
    for step in range(3):
        optimizer.zero_grad()
        objective.loss(np.arange(4), step, Streams(0, range(4))).backward()
        optimizer.step()
    path = checkpoint.save(tmp_path, 3, checkpoint.optimizer_tensors(optimizer, names_of), {})
    fresh = torch.optim.AdamW(objective.module.parameters(), fused=True)
    checkpoint.restore_optimizer(fresh, names_of, checkpoint.load(path)[0])
    trained = [p for p in objective.module.parameters() if p.requires_grad]
    assert set(fresh.state) == set(trained)
    for p in trained:
        assert fresh.state[p].keys() == optimizer.state[p].keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(fresh.state[p][slot], value) for slot, value in optimizer.state[p].items())


def test_the_optimizer_goes_on_where_weights_lie_channels_last(tmp_path):
    """A fused optimizer reads its state in the order of the parameter's memory."""
    torch.manual_seed(0)
    whole, again = (torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last) for _ in range(2))
    optimizer, fresh = (torch.optim.AdamW(conv.parameters(), fused=True) for conv in (whole, again))
    x = torch.randn(2, 3, 5, 5)

    def step(conv: torch.nn.Module, own: torch.optim.Optimizer) -> None:
        own.zero_grad()
        conv(x).square().sum().backward()
        own.step()

    step(whole, optimizer)
    path = checkpoint.save(tmp_path, 1, checkpoint.optimizer_tensors(optimizer, named(whole)), {})
    again.load_state_dict(whole.state_dict())
    checkpoint.restore_optimizer(fresh, named(again), checkpoint.load(path)[0])
    step(whole, optimizer)
    step(again, fresh)
    assert torch.equal(whole.weight, again.weight)


def named(module: torch.nn.Module) -> dict[torch.Tensor, str]:
    return {p: name for name, p in module.named_parameters()}


def test_names_are_told_apart_by_their_prefix():
    tensors = {**checkpoint.prefixed("ema", {"a.b": TENSORS["ema.a"]}), "emanate.c": TENSORS["ema.a"]}
    assert set(checkpoint.under("ema", tensors)) == {"a.b"}
