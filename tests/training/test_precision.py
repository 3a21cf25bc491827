"""Half precision: who decides on it, and that gradients outlive it."""

import math

import numpy as np
import pytest
import torch

from llmdiff.errors import LLMDiffError
from llmdiff.training import checkpoint
from llmdiff.training.precision import HAS_BF16, LossScale, autocast, product_dtype
from llmdiff.training.randomness import Streams
from llmdiff.training.trainer import Trainer
from training.outcomes import assert_same, losses, weights
from training.regression import Regression, settings
from training.test_objective import overfit

F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16


@pytest.mark.parametrize(
    ("precision", "launched", "expected"),
    [
        ("float32", "bf16", F32),
        ("bfloat16", "no", BF16),
        ("float16", "bf16", F16),
        ("auto", "bf16", BF16),
        ("auto", "fp16", F16),
        ("auto", "no", BF16 if HAS_BF16 else F32),
    ],
)
def test_the_recipe_s_precision_goes_before_the_launcher_s(precision, launched, expected):
    assert product_dtype(precision, launched, torch.device("cpu")) == expected


def test_a_precision_that_training_has_not_is_told():
    with pytest.raises(LLMDiffError, match="no fp8: launch it with --mixed_precision bf16, fp16 or no"):
        product_dtype("auto", "fp8", torch.device("cpu"))


@pytest.mark.parametrize("dtype", [F32, BF16, F16])
def test_products_have_the_type_asked_for(dtype):
    a = torch.ones(4, 4)
    with autocast(dtype):
        assert (a @ a).dtype == dtype


def test_only_float16_is_scaled():
    for dtype in (F32, BF16):
        scale = LossScale.of(dtype)
        for is_finite in (True, False):
            scale.update(is_finite)
        assert scale == LossScale(1.0)


def test_the_scale_halves_at_an_overflow_and_doubles_after_2000_good_steps():
    scale = LossScale.of(F16)
    scale.update(False)
    assert scale.value == 2.0**15
    for _ in range(1999):
        scale.update(True)
    assert scale.value == 2.0**15
    scale.update(True)
    assert scale.value == 2.0**16
    for _ in range(20):
        scale.update(False)
    assert scale.value == 1.0


def test_a_power_of_two_changes_nothing_where_nothing_is_lost(tmp_path):
    plain = Trainer(Regression(), settings(12), tmp_path / "plain")
    scaled = Trainer(Regression(), settings(12), tmp_path / "scaled", scale=LossScale.of(F16))
    plain.run()
    scaled.run()
    assert_same(weights(plain), weights(scaled))
    assert losses(tmp_path / "plain") == losses(tmp_path / "scaled")


class Overflowing(Regression):
    """Whose gradient overflows above a scale of 2^14, as float16's would."""

    def loss(self, indices, step, rng):
        loss = super().loss(indices, step, rng)
        if loss.requires_grad:
            loss.register_hook(lambda gradient: torch.where(gradient.abs() > 2**14, math.inf, gradient))
        return loss


def test_overflows_are_skipped_until_the_scale_fits_and_it_outlives_a_stop(tmp_path):
    trainer = Trainer(Overflowing(), settings(6), tmp_path, scale=LossScale.of(F16))
    trainer.run()
    assert (trainer.skipped, trainer.scale) == (2, LossScale(2.0**14, 4, True))
    again = Trainer(Overflowing(), settings(9), tmp_path, scale=LossScale.of(F16))
    assert again.resume()
    assert again.scale == LossScale(2.0**14, 4, True)
    _, info = checkpoint.load(checkpoint.newest(tmp_path / "checkpoints"))
    assert info["scale"] == {"value": 2.0**14, "good": 4, "adapts": True}


@pytest.mark.parametrize("dtype", [BF16, F16])
def test_half_precision_products_give_nearly_the_same_loss(make, dtype):
    objective = make(mode="replace")
    exact = objective.loss(np.arange(4), 0, Streams(0, range(4)))
    objective.precision = dtype
    rough = objective.loss(np.arange(4), 0, Streams(0, range(4)))
    assert rough.dtype == F32
    assert rough.item() == pytest.approx(exact.item(), rel=0.05)
    rough.backward()
    assert all(torch.isfinite(p.grad).all() for p in objective.adapter.parameters() if p.grad is not None)


def test_a_gradient_too_small_for_float16_is_kept_by_the_scale():
    """Of a loss that is divided by so much that its gradient in float16 would be 0."""

    def gradient(scale: float) -> float:
        w = torch.full((1, 1), 0.5, requires_grad=True)
        with autocast(F16):
            loss = (torch.ones(1, 1) @ w).float().sum() * 1e-8
        (loss * scale).backward()
        assert w.grad is not None
        return w.grad.item() / scale

    assert gradient(1.0) == 0
    assert gradient(LossScale.of(F16).value) == pytest.approx(1e-8, rel=1e-3)


@pytest.mark.parametrize("dtype", [BF16, F16])
def test_a_batch_is_learned_as_in_float32(make, tmp_path, dtype):
    said = {}
    for precision in (F32, dtype):
        objective = make(mode="replace", caption_dropout=0.0)
        objective.precision = precision
        said[precision] = overfit(objective, tmp_path / str(precision))
    exact = said[F32]
    assert exact[-1] < 0.9 * exact[0]
    assert said[dtype] == pytest.approx(exact, rel=0.01)
