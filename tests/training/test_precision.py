"""Half precision: who decides on it, and that gradients outlive it."""

import math

import numpy as np
import pytest
import torch

from llmdiff.errors import LLMDiffError
from llmdiff.training.precision import HAS_BF16, autocast, loss_scaler, product_dtype, restore_scaler
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
    assert [loss_scaler(dtype).is_enabled() for dtype in (F32, BF16, F16)] == [False, False, True]
    assert loss_scaler(F16).get_scale() == 2.0**16
    assert loss_scaler(BF16).scale(torch.ones(1)) == 1


def test_the_first_version_s_scale_is_restored():
    scaler = loss_scaler(F16)
    restore_scaler(scaler, {"value": 2.0**12, "good": 7, "adapts": True})
    assert scaler.state_dict() == loss_scaler(F16).state_dict() | {"scale": 2.0**12, "_growth_tracker": 7}


@pytest.mark.parametrize("state", [{}, {"value": 1.0, "good": 0, "adapts": False}])
def test_a_run_goes_on_in_another_precision(state):
    """Its scale begins as that of a new run, and is left alone where the new precision has none."""
    scaler = loss_scaler(F16)
    restore_scaler(scaler, state)
    assert scaler.get_scale() == 2.0**16
    unscaled = loss_scaler(F32)
    restore_scaler(unscaled, loss_scaler(F16).state_dict())
    assert unscaled.get_scale() == 1


def test_a_power_of_two_changes_nothing_where_nothing_is_lost(tmp_path):
    plain = Trainer(Regression(), settings(12), tmp_path / "plain")
    scaled = Trainer(Regression(), settings(12), tmp_path / "scaled", scaler=loss_scaler(F16))
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
    trainer = Trainer(Overflowing(), settings(6), tmp_path, scaler=loss_scaler(F16))
    trainer.run()
    state = trainer.scaler.state_dict()
    assert trainer.skipped == 2
    assert state == loss_scaler(F16).state_dict() | {"scale": 2.0**14, "_growth_tracker": 4}
    again = Trainer(Overflowing(), settings(9), tmp_path, scaler=loss_scaler(F16))
    assert again.resume()
    assert again.scaler.state_dict() == state


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
    assert gradient(loss_scaler(F16).get_scale()) == pytest.approx(1e-8, rel=1e-3)


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
