"""The loop: its rate, its average, and that a stopped run ends as one that was not stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from pydantic import ValidationError
from torch import nn

from llmdiff.errors import LLMDiffError
from llmdiff.training import checkpoint
from llmdiff.training.loop import Interrupted, LoopSettings, Trainer, rate_factor
from llmdiff.training.processes import accelerator
from llmdiff.training.randomness import Streams
from training import regression
from training.regression import Regression, settings


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Everything that a run ends with."""
    names = {p: name for name, p in trainer.task.module.named_parameters()}
    return {
        **trainer.task.module.state_dict(),
        **checkpoint.prefixed("ema", trainer.ema),
        **checkpoint.optimizer_tensors(trainer.optimizer, names),
    }


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def losses(folder: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows]


def test_the_rate_rises_stays_and_falls():
    s = LoopSettings(steps=1000, warmup=100, decay=0.4)
    factors = [rate_factor(step, s) for step in range(1000)]
    assert factors[0] == pytest.approx(1 / 101)
    assert factors[49] == pytest.approx(50 / 101)
    assert factors[100:600] == [1.0] * 500
    assert factors[800] == pytest.approx(0.5)
    assert 0 < factors[999] < 1e-4
    assert all(a >= b for a, b in pairwise(factors[600:]))


def test_without_warm_up_and_decay_the_rate_is_constant():
    assert {rate_factor(step, LoopSettings(steps=50, warmup=0, decay=0)) for step in range(50)} == {1.0}


def test_settings_are_checked():
    for bad in ({"steps": 0}, {"ema": 1}, {"decay": 1.5}, {"learning_rate": 0}, {"speed": 3}):
        with pytest.raises(ValidationError):
            LoopSettings(**bad)


def test_a_run_learns_logs_and_saves(tmp_path):
    trainer = Trainer(Regression(), settings(60), tmp_path)
    steps = []
    trainer.run(lambda trainer, figures: steps.append((trainer.step, set(figures))))
    assert steps == [(n, {"loss", "norm", "rate", "images_per_s"}) for n in range(1, 61)]
    logged = losses(tmp_path)
    assert [step for step, _ in logged] == list(range(1, 61))
    assert np.mean([loss for _, loss in logged[-10:]]) < 0.5 * np.mean([loss for _, loss in logged[:10]])
    assert checkpoint.newest(tmp_path / "checkpoints").name == "step-00000060.safetensors"
    assert list((tmp_path / "tensorboard").iterdir())


def test_every_sample_has_its_running_number(tmp_path):
    task = Regression()
    Trainer(task, settings(6), tmp_path).run()
    assert task.seen == list(range(24))


def test_what_is_frozen_stays_and_is_not_saved(tmp_path):
    task = Regression()
    before = task.module[0].bias.clone()
    Trainer(task, settings(5), tmp_path).run()
    assert torch.equal(task.module[0].bias, before)
    tensors, _ = checkpoint.load(checkpoint.newest(tmp_path / "checkpoints"))
    assert not any("0.bias" in name for name in tensors)


def test_rates_of_groups(tmp_path):
    trainer = Trainer(Regression(), settings(3, warmup=0, decay=0), tmp_path)
    trainer.run()
    assert [group["lr"] for group in trainer.optimizer.param_groups] == [1e-2, 1e-1]
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [0.01, 0.0]


def test_one_step_equals_adamw_by_hand(tmp_path):
    """A single clipped step in plain PyTorch, with the same loss and no fused kernel."""
    trainer = Trainer(Regression(), settings(1, warmup=0, decay=0, clip=0.01), tmp_path)
    twin = Regression()
    groups = twin.groups()
    rates = [group.pop("rate", 1.0) for group in groups]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.01)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = 1e-2 * rate
    twin.loss(np.arange(4), 0, Streams(0, range(4))).backward()
    norm = nn.utils.clip_grad_norm_([p for p in twin.module.parameters() if p.requires_grad], 0.01)
    optimizer.step()
    trainer.run()
    assert norm > 0.01
    for name, weight in twin.module.state_dict().items():
        assert torch.allclose(trainer.task.module.state_dict()[name], weight, atol=1e-6), name


def test_the_average_follows_the_weights(tmp_path):
    trainer = Trainer(Regression(), settings(8, ema=0.5), tmp_path)
    expected = {name: p.detach().clone() for name, p in trainer.task.module.named_parameters() if p.requires_grad}

    def follow(trainer: Trainer, figures: dict[str, float]) -> None:
        decay = min(0.5, trainer.step / (9 + trainer.step))
        for name, p in trainer.task.module.named_parameters():
            if p.requires_grad:
                expected[name] = decay * expected[name] + (1 - decay) * p.detach()

    trainer.run(follow)
    own = {name: p.detach().clone() for name, p in trainer.task.module.named_parameters()}
    with trainer.averaged():
        for name, value in expected.items():
            assert torch.allclose(dict(trainer.task.module.named_parameters())[name], value, atol=1e-6)
            assert not torch.equal(value, own[name])
    assert_same(own, {name: p.detach() for name, p in trainer.task.module.named_parameters()})


def test_the_weights_come_back_after_a_fault_under_the_average(tmp_path):
    trainer = Trainer(Regression(), settings(5), tmp_path)
    trainer.run()
    own = {name: value.clone() for name, value in trainer.task.module.state_dict().items()}
    with pytest.raises(RuntimeError), trainer.averaged():
        raise RuntimeError
    assert_same(own, trainer.task.module.state_dict())


def test_without_an_average_the_weights_are_the_weights(tmp_path):
    trainer = Trainer(Regression(), settings(3, ema=0), tmp_path)
    trainer.run()
    own = {name: value.clone() for name, value in trainer.task.module.state_dict().items()}
    with trainer.averaged():
        assert_same(own, trainer.task.module.state_dict())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("within", ["loss", "on_step"])
def test_an_interrupted_run_goes_on_to_the_bit(tmp_path, number, within):
    whole = Trainer(Regression(), settings(20), tmp_path / "whole")
    whole.run()
    handler = signal.getsignal(number)
    first = Trainer(Regression(), settings(20), tmp_path / "halves")

    def interrupt(trainer: Trainer, figures: dict[str, float]) -> None:
        if trainer.step == 7 and within == "on_step":
            os.kill(os.getpid(), number)

    if within == "loss":
        first.task.interrupt = (6, number)
    with pytest.raises(Interrupted):
        first.run(interrupt)
    assert signal.getsignal(number) is handler
    assert first.step == 7, "the step in which the signal comes is finished"
    second = Trainer(Regression(seed=5), settings(20), tmp_path / "halves")
    assert second.resume()
    assert_same(weights(first), weights(second))
    assert second.step == 7
    second.run()
    assert_same(weights(whole), weights(second))
    assert losses(tmp_path / "halves") == losses(tmp_path / "whole")


def test_a_killed_run_goes_on_to_the_bit(tmp_path):
    """SIGKILL in a process of its own: no handler runs, the newest whole checkpoint is all there is."""
    folder = tmp_path / "killed"
    paths = [str(Path(regression.__file__).parents[1]), *filter(None, sys.path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    process = subprocess.Popen([sys.executable, regression.__file__, folder, "500", "0.01"], env=environment)
    deadline = time.monotonic() + 120
    while not (path := checkpoint.newest(folder / "checkpoints")) or path.stem < "step-00000005":
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    short = settings(500, save_every=1).model_copy(update={"save_every": 500, "log_every": 500})
    resumed = Trainer(Regression(seed=5), short, folder)
    assert resumed.resume()
    assert 5 <= resumed.step < 500
    resumed.run()
    whole = Trainer(Regression(), short, tmp_path / "whole")
    whole.run()
    assert_same(weights(whole), weights(resumed))
    steps = [step for step, _ in losses(folder)]
    assert len(steps) == len(set(steps))


def test_what_was_logged_after_the_checkpoint_is_logged_anew(tmp_path):
    Trainer(Regression(), settings(6), tmp_path).run()
    log = tmp_path / "log.jsonl"
    once = log.read_text()
    log.write_text(once + '{"step": 7, "loss": 1.0}\n{"step": 8, "lo')
    again = Trainer(Regression(), settings(8), tmp_path)
    again.resume()
    again.run()
    assert log.read_text().startswith(once)
    assert [step for step, _ in losses(tmp_path)] == list(range(1, 9))


def test_a_run_that_has_ended_has_nothing_to_do(tmp_path):
    Trainer(Regression(), settings(5), tmp_path).run()
    again = Trainer(Regression(), settings(5), tmp_path)
    assert again.resume()
    again.run(lambda *_: pytest.fail("a step too many"))


def test_there_is_nothing_to_resume_at_first(tmp_path):
    assert not Trainer(Regression(), settings(5), tmp_path).resume()


def test_another_model_is_refused(tmp_path):
    Trainer(Regression(), settings(5), tmp_path).run()
    other = Regression()
    other.module[2] = nn.Linear(5, 2)
    with pytest.raises(LLMDiffError, match="belongs to another model"):
        Trainer(other, settings(5), tmp_path).resume()


def test_a_step_without_a_finite_loss_is_skipped_and_counted(tmp_path):
    seen: dict[int, torch.Tensor] = {}

    def note(trainer: Trainer, figures: dict[str, float]) -> None:
        seen[trainer.step] = trainer.task.module[2].weight.detach().clone()

    trainer = Trainer(Regression(bad={3, 4, 8}), settings(12), tmp_path)
    trainer.run(note)
    assert trainer.skipped == 3
    unmoved = [step for step in range(2, 13) if torch.equal(seen[step], seen[step - 1])]
    assert unmoved == [4, 5, 9]
    assert all(torch.isfinite(value).all() for value in weights(trainer).values())
    again = Trainer(Regression(), settings(12), tmp_path)
    again.resume()
    assert again.skipped == 3


def test_nine_bad_steps_are_borne_and_ten_end_the_run(tmp_path):
    Trainer(Regression(bad={*range(9), *range(10, 19)}), settings(20), tmp_path / "nine").run()
    trainer = Trainer(Regression(bad=set(range(6, 16))), settings(20), tmp_path / "ten")
    with pytest.raises(LLMDiffError, match="not finite for ten steps in a row; lower the learning rate"):
        trainer.run()
    assert checkpoint.newest(tmp_path / "ten" / "checkpoints").name == "step-00000015.safetensors"


def assert_near(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.allclose(a[name], b[name], rtol=1e-4, atol=1e-6)] == []


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 9])
def test_micro_batches_change_the_rounding_alone(tmp_path, micro_batch):
    whole = Trainer(Regression(), settings(10), tmp_path / "whole")
    parts = Trainer(Regression(), settings(10, micro_batch=micro_batch), tmp_path / "parts")
    whole.run()
    parts.run()
    assert parts.task.seen == whole.task.seen
    assert_near(weights(whole), weights(parts))
    assert losses(tmp_path / "parts") == [
        (step, pytest.approx(loss, abs=2e-6)) for step, loss in losses(tmp_path / "whole")
    ]


SHORTAGES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: not enough memory: you tried to."),
    MemoryError(),
]


@pytest.mark.parametrize("shortage", SHORTAGES, ids=["CUDA", "CPU", "Windows", "Python"])
def test_a_lack_of_memory_halves_the_micro_batch_and_keeps_the_batch(tmp_path, shortage):
    task = Regression()
    task.room, task.full = 1, shortage
    short = Trainer(task, settings(8), tmp_path / "short")
    with pytest.warns(UserWarning, match="Out of memory in step 1: going on with micro-batches of") as warned:
        short.run()
    assert ["micro-batches of 2" in str(w.message) or "micro-batches of 1" in str(w.message) for w in warned] == [
        True
    ] * 2
    assert task.seen == list(range(32)), "no sample twice, none left out"
    whole = Trainer(Regression(), settings(8), tmp_path / "whole")
    whole.run()
    assert_near(weights(whole), weights(short))
    again = Trainer(Regression(), settings(8), tmp_path / "short")
    again.resume()
    assert again.micro_batch == 1, "a resumed run does not try again what did not fit"


def test_a_sample_that_does_not_fit_says_which_knob_to_turn(tmp_path):
    task = Regression()
    task.room = 0
    trainer = Trainer(task, settings(8, micro_batch=1), tmp_path)
    with pytest.raises(LLMDiffError, match=r"gradient_checkpointing .* precision .* data\.resolution"):
        trainer.run()


def test_other_faults_are_not_taken_for_a_lack_of_memory(tmp_path):
    task = Regression()
    task.room, task.full = 2, RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="shapes"):
        Trainer(task, settings(8), tmp_path).run()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_never_saved(tmp_path, value):
    trainer = Trainer(Regression(), settings(5), tmp_path)
    trainer.run()
    with torch.no_grad():
        trainer.task.module[2].weight[0, 0] = value
    trainer.step = 6
    with pytest.raises(LLMDiffError, match="not finite after step 6, so they are not saved"):
        trainer.save()
    assert checkpoint.newest(tmp_path / "checkpoints").name == "step-00000005.safetensors"


def test_a_checkpoint_from_before_micro_batches_is_resumed(tmp_path):
    first = Trainer(Regression(), settings(5), tmp_path)
    first.run()
    tensors, _ = checkpoint.load(checkpoint.newest(tmp_path / "checkpoints"))
    checkpoint.save(tmp_path / "checkpoints", 5, tensors, {"skipped": 2})
    again = Trainer(Regression(seed=5), settings(5), tmp_path)
    assert again.resume()
    assert (again.step, again.skipped, again.micro_batch) == (5, 2, 4)
    assert_same(weights(first), weights(again))


def test_what_is_held_out_is_looked_at_now_and_then_with_the_averaged_weights(tmp_path):
    trainer = Trainer(Regression(), settings(7, heldout_every=3, log_every=2), tmp_path)
    seen: list[tuple[int, bool]] = []

    def evaluate(trainer: Trainer) -> dict[str, float]:
        name, ema = next(iter(trainer.ema.items()))
        seen.append((trainer.step, torch.equal(dict(trainer.task.module.named_parameters())[name], ema)))
        return {"heldout/σ0.5/adapter": float(trainer.step)}

    trainer.run(evaluate=evaluate)
    assert seen == [(3, True), (6, True), (7, True)]
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(row["step"], row.get("heldout/σ0.5/adapter")) for row in rows] == [
        (2, None),
        (3, 3),
        (4, None),
        (6, 6),
        (7, 7),
    ]


class Recorder(GeneralTracker):
    """A tracker of one's own, as accelerate takes it."""

    name = "recorder"
    requires_logging_directory = False

    def __init__(self) -> None:
        super().__init__(_blank=True)
        self.rows: list[tuple[int, set[str]]] = []
        self.config: dict[str, object] = {}
        self.finished = False

    @property
    def tracker(self) -> "Recorder":
        return self

    def store_init_configuration(self, values: dict[str, object]) -> None:
        self.config = values

    def log(self, values: dict[str, float], step: int, **_: object) -> None:
        self.rows.append((step, set(values)))

    def finish(self) -> None:
        self.finished = True


def test_trackers_of_accelerate_are_told(tmp_path):
    recorder = Recorder()
    Trainer(Regression(), settings(4, log_every=2), tmp_path, Accelerator(cpu=True, log_with=[recorder])).run()
    assert recorder.rows == [(step, {"loss", "norm", "rate", "images_per_s"}) for step in (2, 4)]
    assert recorder.config["steps"] == 4
    assert recorder.finished


def test_a_tracker_that_is_not_there_is_told():
    with pytest.raises(
        LLMDiffError, match="'wander' cannot be used: accelerate knows no such tracker, or choose one of"
    ):
        accelerator(["wander"])
