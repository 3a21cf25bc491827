"""A step of training on a device runs without the host's waiting for it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from llmdiff.errors import LLMDiffError
from llmdiff.training import objective as objective_module
from llmdiff.training.loop_settings import LoopSettings
from llmdiff.training.trainer import Trainer
from training.device_reads import DeviceReads
from training.outcomes import assert_same, losses, weights
from training.regression import Regression, settings
from training.tiny_objective import Make


def watched(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> DeviceReads:
    """Counts reads of the weights, of the adapter and of the base model, and of what is moved to the device."""
    pipe = trainer.objective.base.pipe
    parts = [part for part in pipe.components.values() if isinstance(part, nn.Module)]
    frozen = [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]
    device = DeviceReads([*trainer.objective.module.parameters(), *frozen, *trainer.ema.values()])
    device.watch_host(monkeypatch)
    to_device = objective_module.to_device
    monkeypatch.setattr(objective_module, "to_device", lambda *args: device.mark(to_device(*args).clone()))
    return device


@pytest.fixture(params=[{"mode": "replace"}, {"mode": "augment", "min_snr": 5.0}, {"mode": "replace", "refined": True}])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    chosen = dict(request.param)
    if chosen.pop("refined", False):
        chosen |= {"refiner": {"blocks": 1, "width": 16}, "distil_layers": 3, "noise_offset": 0.1}
    return chosen


def test_no_value_of_a_device_is_read_in_a_step(
    make: Make, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = make(**options)
    objective.explains = False
    trainer = Trainer(objective, LoopSettings(steps=9, batch_size=4, log_every=100, save_every=100), tmp_path)
    trainer.most_unread = 10
    trainer._one_step()
    with watched(trainer, monkeypatch) as device:
        for _ in range(4):
            trainer._one_step()
        assert device.found == []
        trainer._read()
        assert device.found == ["tolist"]


def test_what_is_asked_for_is_read(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is each loss, to be explained, and the figures of each step."""
    trainer = Trainer(make(mode="replace"), LoopSettings(steps=2, batch_size=4), tmp_path)
    with watched(trainer, monkeypatch) as device:
        trainer._one_step()
        assert len(device.found) == 2
        assert set(device.found) == {"aten._local_scalar_dense.default"}


def test_a_run_reads_seldom_and_ends_in_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    often = Trainer(Regression(), settings(40, log_every=15, save_every=100), tmp_path / "often")
    often.run()
    seldom = Trainer(Regression(), settings(40, log_every=15, save_every=100), tmp_path / "seldom")
    seldom.most_unread = 10
    reads: list[int] = []
    read = Trainer._read
    monkeypatch.setattr(Trainer, "_read", lambda self: reads.append(self.step) or read(self))
    told: list[float] = []
    seldom.run(lambda trainer, figures: told.append(figures["loss"]))
    assert reads == [1, 12, 15, 26, 30, 40]
    assert len(told) == 40
    assert losses(tmp_path / "seldom") == losses(tmp_path / "often")
    same, other = weights(seldom), weights(often)
    assert_same(*({k: v for k, v in of.items() if not k.startswith("ema")} for of in (same, other)))
    torch.testing.assert_close(same, other)


def test_steps_that_are_skipped_on_the_device_change_nothing_and_are_counted(tmp_path: Path) -> None:
    trainers = []
    for most_unread in (0, 10):
        trainer = Trainer(Regression(bad={5, 6, 13}), settings(20, log_every=50), tmp_path / str(most_unread))
        trainer.most_unread = most_unread
        with pytest.warns(UserWarning, match=r"^Step 6 is skipped, because the loss is not finite\.$"):
            trainer.run()
        trainers.append(trainer)
    assert [trainer.skipped for trainer in trainers] == [3, 3]
    torch.testing.assert_close(*map(weights, trainers))


def test_ten_in_a_row_end_a_run_that_reads_seldom(tmp_path: Path) -> None:
    trainer = Trainer(Regression(bad=set(range(60))), settings(60, log_every=50), tmp_path)
    trainer.most_unread = 10
    before = {name: p.detach().clone() for name, p in trainer.trained()}
    with pytest.warns(UserWarning, match="Step 1 is skipped"), pytest.raises(LLMDiffError, match="ten steps in a row"):
        trainer.run()
    assert trainer.step <= 20
    assert_same(before, {name: p.detach() for name, p in trainer.trained()})
