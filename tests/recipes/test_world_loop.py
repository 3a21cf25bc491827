"""Slices of training: that they end in time, and go on as if nothing had been."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llmdiff.errors import LLMDiffError
from llmdiff.training import checkpoint
from llmdiff.training.loop_settings import LoopSettings
from world.handover import read_start, write_start
from world.loop import Loop
from world.machine import Machine

HERE = Machine(torch.device("cpu"), torch.float32)


class Squares:
    """A linear map that is to be the identity."""

    figures: tuple[str, ...] = ("loss", "largest")

    def __init__(self, width: int = 4) -> None:
        torch.manual_seed(0)
        self.module: nn.Module = nn.Linear(width, width)

    def compile(self) -> None:
        self.module.compile()

    def batch(self, size: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        return (torch.randn(size, self.module.in_features, generator=rng, device=rng.device),)

    def loss(self, *batch: Tensor) -> Tensor:
        error = self.module(batch[0]) - batch[0]
        return torch.stack((error.square().mean(), error.abs().max()))


def settings(**changes: Any) -> LoopSettings:
    values = {
        "steps": 12,
        "batch_size": 4,
        "optimizer": "muon",
        "learning_rate": 0.01,
        "warmup": 2,
        "log_every": 1,
        "save_every": 3,
    }
    return LoopSettings(**values | changes)


def loop(folder: Path, width: int = 4, **changes: Any) -> Loop:
    return Loop(Squares(width), settings(**changes), folder, HERE)


def never() -> float:
    return time.monotonic() + 1000


def state(done: Loop) -> dict[str, Tensor]:
    all_of_it = done.objective.module.state_dict() | {f"average {k}": v for k, v in done.averages().items()}
    return all_of_it | checkpoint.optimizer_tensors(done._optimizer, done._names())


class KilledError(Exception):
    """Where a process is killed, nothing more of it is run."""


def kill_at(step: int) -> Any:
    def on_log(running: Loop, _: dict[str, float]) -> None:
        if running.step == step:
            raise KilledError

    return on_log


@pytest.mark.parametrize("width", [4, 20])  # all by AdamW; the matrix by Muon
@pytest.mark.parametrize("step", [1, 3, 5, 11])
def test_a_run_that_was_killed_ends_in_the_same_bits(tmp_path, step, width):
    whole = loop(tmp_path / "whole", width)
    whole.run(never())
    assert any(group["muon"] for group in whole._optimizer.param_groups) == (width == 20)
    with pytest.raises(KilledError):
        loop(tmp_path / "killed", width).run(never(), kill_at(step))
    again = loop(tmp_path / "killed", width)
    assert again.resume() == (step > 3)  # the kill comes before the checkpoint of its step
    assert again.step == (step - 1) // 3 * 3
    again.run(never())
    expected, found = state(whole), state(again)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert again.is_done


def test_it_learns_and_the_averages_follow(tmp_path):
    losses: list[float] = []
    done = loop(tmp_path, steps=120, learning_rate=0.02, ema=0.9, save_every=1000)
    done.run(never(), lambda _, figures: losses.append(figures["loss"]))
    assert losses[-1] < 0.3 * losses[0]
    weight = done.averages()["weight"]
    assert (weight - torch.eye(4)).abs().max() < 0.5
    own = done.objective.module.weight.detach().clone()
    with done.averaged():
        assert torch.equal(done.objective.module.weight, weight)
    assert torch.equal(done.objective.module.weight, own)
    assert not torch.equal(own, weight)


def test_a_slice_ends_at_its_deadline_with_a_checkpoint(tmp_path):
    first = loop(tmp_path, steps=10**6, save_every=10**6)
    started = time.monotonic()
    first.run(started + 0.3)
    assert time.monotonic() - started < 5
    assert not first.is_done
    second = loop(tmp_path, steps=10**6)
    assert second.resume()
    assert second.step == first.step > 0
    assert second.seconds == pytest.approx(first.seconds)
    assert 0 < first.seconds < 5


def test_a_signal_ends_a_slice_with_a_checkpoint(tmp_path):
    def on_log(running: Loop, _: dict[str, float]) -> None:
        if running.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        loop(tmp_path, save_every=1000).run(never(), on_log)
    again = loop(tmp_path)
    assert again.resume()
    assert again.step == 2


def test_a_checkpoint_has_eight_bytes_for_each_parameter(tmp_path):
    done = loop(tmp_path, width=200)
    done.run(never())
    path = max((tmp_path / "checkpoints").iterdir())
    assert 8 <= path.stat().st_size / (200 * 201) < 8.2


@pytest.mark.parametrize(("bits", "off"), [(16, 1e-3), (8, 8e-3)])
def test_weights_that_were_handed_over_are_begun_with(tmp_path, bits, off):
    torch.manual_seed(1)
    weights = {name: torch.randn(p.shape) for name, p in Squares().module.named_parameters()}
    write_start(tmp_path / "start", weights, 7, 60.0, bits)
    begun = loop(tmp_path)
    begun.begin(tmp_path / "start")
    assert (begun.step, begun.seconds) == (7, 60.0)
    for name, p in begun.objective.module.named_parameters():
        assert torch.allclose(p, weights[name], atol=off * weights[name].abs().max().item())
        assert torch.equal(p, begun.averages()[name])
    begun.run(never())
    assert begun.is_done
    assert rate_of(begun) < 0.01


def test_what_was_begun_warms_up_anew_and_does_so_after_a_kill_too(tmp_path):
    write_start(tmp_path / "start", dict(Squares().module.named_parameters()), 6, 0.0)
    begun = loop(tmp_path, warmup=4, decay=0)
    begun.begin(tmp_path / "start")
    rates: list[float] = []
    with pytest.raises(KilledError):
        begun.run(never(), lambda running, _: (rates.append(rate_of(running)), kill_at(10)(running, {})))
    assert rates == pytest.approx([0.002, 0.004, 0.006, 0.008])
    again = loop(tmp_path, warmup=4, decay=0)
    again.resume()
    assert again.step == 9
    again._one_step()
    assert rate_of(again) == pytest.approx(0.008)


def rate_of(running: Loop) -> float:
    (rate,) = {group["lr"] / group["rate"] for group in running._optimizer.param_groups}
    return float(rate)


def test_weights_of_another_model_are_refused(tmp_path):
    loop(tmp_path).run(never())
    with pytest.raises(LLMDiffError, match="belongs to another model"):
        loop(tmp_path, width=5).resume()
    write_start(tmp_path / "start", {"weight": torch.zeros(4, 4)}, 0, 0.0)
    with pytest.raises(LLMDiffError, match="belongs to another model"):
        loop(tmp_path).begin(tmp_path / "start")


def test_damaged_weights_are_refused(tmp_path):
    path = tmp_path / "start"
    write_start(path, {"weight": torch.ones(40)}, 0, 0.0)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(LLMDiffError, match="damaged"):
        read_start(path)


def test_a_loss_that_is_not_finite_ends_the_slice_before_it_is_saved(tmp_path):
    broken = loop(tmp_path, save_every=1)
    broken.run(time.monotonic() + 0.02)
    with torch.no_grad():
        broken.objective.module.weight.fill_(torch.nan)
    with pytest.raises(LLMDiffError, match="not finite"):
        broken.run(never())
    again = loop(tmp_path)
    again.resume()
    assert again.objective.module.weight.isfinite().all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_that_is_a_cuda_graph_is_the_same_step(tmp_path):
    ends: list[dict[str, Tensor]] = []
    for graphed in (False, True):
        objective = Squares(64)
        objective.module.cuda()
        machine = Machine(torch.device("cuda"), torch.float32, graphed=graphed)
        done = Loop(objective, settings(steps=40, save_every=10), tmp_path / str(graphed), machine)
        done.run(never())
        assert (done._step._graph is not None) == graphed
        ends.append(state(done))
    assert all(torch.allclose(ends[0][name], ends[1][name], atol=1e-5) for name in ends[0])
