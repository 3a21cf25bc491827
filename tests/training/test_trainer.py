"""The loop: its rate, its average, and that a stopped run ends as one that was not stopped."""

import os
import signal
import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from llmdiff.errors import LLMDiffError
from llmdiff.training import checkpoint
from llmdiff.training.loop_settings import LoopSettings, rate_factor
from llmdiff.training.randomness import Streams
from llmdiff.training.trainer import Interrupted, Trainer
from new_processes import NEW
from training import regression
from training.outcomes import assert_same, losses, weights
from training.regression import Regression, settings


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
    objective = Regression()
    Trainer(objective, settings(6), tmp_path).run()
    assert objective.seen == list(range(24))


def test_what_is_frozen_stays_and_is_not_saved(tmp_path):
    objective = Regression()
    before = objective.module[0].bias.clone()
    Trainer(objective, settings(5), tmp_path).run()
    assert torch.equal(objective.module[0].bias, before)
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
        assert torch.allclose(trainer.objective.module.state_dict()[name], weight, atol=1e-6), name


def test_the_average_follows_the_weights(tmp_path):
    trainer = Trainer(Regression(), settings(8, ema=0.5), tmp_path)
    expected = {name: p.detach().clone() for name, p in trainer.objective.module.named_parameters() if p.requires_grad}

    def follow(trainer: Trainer, figures: dict[str, float]) -> None:
        decay = min(0.5, trainer.step / (9 + trainer.step))
        for name, p in trainer.objective.module.named_parameters():
            if p.requires_grad:
                expected[name] = decay * expected[name] + (1 - decay) * p.detach()

    trainer.run(follow)
    own = {name: p.detach().clone() for name, p in trainer.objective.module.named_parameters()}
    with trainer.averaged():
        for name, value in expected.items():
            assert torch.allclose(dict(trainer.objective.module.named_parameters())[name], value, atol=1e-6)
            assert not torch.equal(value, own[name])
    assert_same(own, {name: p.detach() for name, p in trainer.objective.module.named_parameters()})


def test_the_weights_come_back_after_a_fault_under_the_average(tmp_path):
    trainer = Trainer(Regression(), settings(5), tmp_path)
    trainer.run()
    own = {name: value.clone() for name, value in trainer.objective.module.state_dict().items()}
    with pytest.raises(RuntimeError), trainer.averaged():
        raise RuntimeError
    assert_same(own, trainer.objective.module.state_dict())


def test_without_an_average_the_weights_are_the_weights(tmp_path):
    trainer = Trainer(Regression(), settings(3, ema=0), tmp_path)
    trainer.run()
    own = {name: value.clone() for name, value in trainer.objective.module.state_dict().items()}
    with trainer.averaged():
        assert_same(own, trainer.objective.module.state_dict())


@pytest.mark.fault("lost work")
def test_a_run_that_is_to_outlive_its_terminal_does(tmp_path):
    """As nohup has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        trainer = Trainer(Regression(), settings(5), tmp_path)
        trainer.run(lambda *_: os.kill(os.getpid(), signal.SIGHUP))
        assert trainer.step == 5
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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
        first.objective.interrupt = (6, number)
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
    process = NEW.Process(target=regression.train_slowly, args=(folder, 500, 0.01))
    process.start()
    deadline = time.monotonic() + 120
    while not (path := checkpoint.newest(folder / "checkpoints")) or path.stem < "step-00000005":
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.join()
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


@pytest.mark.fault("checkpoint")
@pytest.mark.parametrize("damage", ["flipped", "optimizer", "average", "step"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_and_named(tmp_path, damage):
    whole = Trainer(Regression(), settings(10, save_every=2), tmp_path)
    whole.run()
    newest = checkpoint.newest(tmp_path / "checkpoints")
    tensors, info = checkpoint.load(newest)
    slot = next(name for name in tensors if name.endswith("exp_avg"))
    average = next(name for name in tensors if name.startswith("ema."))
    tensors, info = {
        "flipped": (tensors, info),
        "optimizer": (tensors | {slot: tensors[slot].flatten()[:1]}, info),
        "average": ({name: value for name, value in tensors.items() if name != average}, info),
        "step": (tensors, info | {"skipped": "all"}),
    }[damage]
    checkpoint.save(newest.parent, 10, tensors, info)
    if damage == "flipped":
        content = bytearray(newest.read_bytes())
        content[-3] ^= 4
        newest.write_bytes(content)
    again = Trainer(Regression(seed=5), settings(10, save_every=2), tmp_path)
    with pytest.warns(UserWarning, match=r"Passed over, to go on from step-00000008.*step-00000010"):
        assert again.resume()
    assert again.step == 8
    again.run()
    assert_same(weights(again), weights(whole))


def test_a_step_without_a_finite_loss_is_skipped_and_counted(tmp_path):
    seen: dict[int, torch.Tensor] = {}

    def note(trainer: Trainer, figures: dict[str, float]) -> None:
        seen[trainer.step] = trainer.objective.module[2].weight.detach().clone()

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


def test_a_gradient_that_is_not_finite_is_as_bad_as_a_loss(tmp_path):
    objective = Regression()
    objective.steep = {2}
    trainer = Trainer(objective, settings(4), tmp_path / "one")
    trainer.run()
    assert trainer.skipped == 1
    assert all(torch.isfinite(value).all() for value in weights(trainer).values())
    objective.steep = set(range(20))
    with pytest.raises(LLMDiffError, match="not finite for ten steps in a row"):
        Trainer(objective, settings(20), tmp_path / "ten").run()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_never_saved(tmp_path, value):
    trainer = Trainer(Regression(), settings(5), tmp_path)
    trainer.run()
    with torch.no_grad():
        trainer.objective.module[2].weight[0, 0] = value
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
