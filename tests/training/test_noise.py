"""What the denoiser is asked for, against the formulas."""

import pytest
import torch
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    SCMScheduler,
)

from llmdiff.base.schedule import FLOW, can_schedule, coefficients, model_timesteps, training_schedule
from llmdiff.errors import LLMDiffError
from llmdiff.training.noise import draw_noise, draw_timesteps, min_snr_weights, target
from llmdiff.training.randomness import Streams

T = torch.tensor([0, 500, 999])


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(3, 2, 4, 4, generator=rng), torch.randn(3, 2, 4, 4, generator=rng)


def schedule(kind: str) -> DDPMScheduler:
    return DDPMScheduler(beta_schedule="scaled_linear", prediction_type=kind, rescale_betas_zero_snr=True)


def signal_and_noise() -> tuple[torch.Tensor, torch.Tensor]:
    """sqrt(alpha-bar) and sqrt(1 - alpha-bar) at T, with the schedule shifted and stretched to end in no signal."""
    betas = torch.linspace(0.0001**0.5, 0.02**0.5, 1000, dtype=torch.float64) ** 2
    root = (1 - betas).cumprod(0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return root[T].float().view(3, 1, 1, 1), (1 - root[T] ** 2).sqrt().float().view(3, 1, 1, 1)


def test_targets_are_the_formulas(batch):
    z, noise = batch
    signal, deviation = signal_and_noise()
    expected = {"epsilon": noise, "v_prediction": signal * noise - deviation * z, "sample": z}
    for kind, value in expected.items():
        assert torch.allclose(target(schedule(kind), z, noise, T), value, atol=1e-4), kind


def test_a_noised_picture_and_its_velocity_give_picture_and_noise(batch):
    z, noise = batch
    signal, deviation = signal_and_noise()
    scheduler = schedule("v_prediction")
    noisy, velocity = scheduler.add_noise(z, noise, T), target(scheduler, z, noise, T)
    assert torch.allclose(signal * noisy - deviation * velocity, z, atol=1e-4)
    assert torch.allclose(deviation * noisy + signal * velocity, noise, atol=1e-4)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("kind", ["match", "solver"])
def test_a_flow_goes_straight_from_picture_to_noise(batch, kind, shift):
    """And a denoiser is told the times at which the scheduler asks when it draws."""
    z, noise = batch
    drawing = (
        FlowMatchEulerDiscreteScheduler(shift=shift)
        if kind == "match"
        else DPMSolverMultistepScheduler(prediction_type=FLOW, use_flow_sigmas=True, flow_shift=shift)
    )
    schedule = training_schedule(drawing)
    noisy = schedule.add_noise(z, noise, T)
    share = (model_timesteps(schedule, T) / 1000).view(3, 1, 1, 1)
    assert torch.allclose(noisy, (1 - share) * z + share * noise, atol=1e-6)
    assert torch.allclose(noisy - share * target(schedule, z, noise, T), z, atol=1e-5)
    assert torch.allclose(noisy[2], noise[2], atol=1e-5)
    if kind == "match":
        times = model_timesteps(schedule, torch.arange(1000)).flip(0)
        assert torch.allclose(times, drawing.timesteps.float(), atol=1e-3)


def test_schedulers_that_say_too_little_are_refused():
    assert can_schedule(DDPMScheduler())
    assert can_schedule(DPMSolverMultistepScheduler(prediction_type=FLOW, use_flow_sigmas=True))
    assert can_schedule(FlowMatchEulerDiscreteScheduler())
    assert not can_schedule(EDMEulerScheduler())
    assert not can_schedule(SCMScheduler())


def test_other_prediction_types_are_refused(batch):
    scheduler = schedule("epsilon")
    scheduler.register_to_config(prediction_type="trigflow")
    with pytest.raises(LLMDiffError, match="predicts 'trigflow'; training knows epsilon"):
        target(scheduler, *batch, T)


def test_uniform_timesteps_cover_all_alike():
    t = draw_timesteps("uniform", 100, Streams(0, range(20_000)))
    counts = torch.bincount(t, minlength=100)
    assert len(counts) == 100
    assert counts.min() > 120
    assert counts.max() < 290


@pytest.mark.parametrize(("kind", "centre"), [("mid-range", 0.0), ("high", 0.8)])
def test_other_timesteps_are_logit_normal(kind, centre):
    t = draw_timesteps(kind, 1000, Streams(0, range(20_000)))
    assert t.min() >= 0
    assert t.max() <= 999
    u = (t + 0.5) / 1000
    logit = torch.log(u / (1 - u))
    assert abs(logit.mean() - centre) < 0.03
    assert abs(logit.std() - 1) < 0.03


def test_high_noise_timesteps_come_evenly_from_the_last_fifth():
    t = draw_timesteps("high", 1000, Streams(0, range(20_000)), high_noise_share=0.75)
    last_fifth = t[t >= 800]
    assert 0.81 < len(last_fifth) / len(t) < 0.84  # three quarters, and what "high" has there of the others
    assert (last_fifth >= 980).float().mean() > 0.08
    assert t.min() >= 0
    assert t.max() <= 999


def test_timesteps_are_a_function_of_the_generator():
    for kind in ("uniform", "mid-range", "high"):
        a, b = (draw_timesteps(kind, 1000, Streams(3, range(50))) for _ in range(2))
        assert torch.equal(a, b)


@pytest.mark.parametrize("gamma", [0.5, 5.0])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample", FLOW])
def test_min_snr_weighs_the_error_of_the_picture_by_the_smaller_of_snr_and_gamma(batch, kind, gamma):
    """Hang et al. 2023, equation 3.5 by its meaning: whatever is predicted, its weighted error is the picture's error,
    worked out by putting the wrong prediction back into the noised latents, times min(SNR, γ)."""
    z, noise = (part.double() for part in batch)
    t = torch.tensor([20, 500, 980])
    drawing = FlowMatchEulerDiscreteScheduler() if kind == FLOW else DDPMScheduler(prediction_type=kind)
    schedule = training_schedule(drawing)
    alpha, sigma = (value.double().view(3, 1, 1, 1) for value in coefficients(schedule, t))
    noisy = alpha * z + sigma * noise
    said = target(schedule, z, noise, t).double() + 0.1
    shown = {
        "epsilon": (noisy - sigma * said) / alpha,
        "v_prediction": alpha * noisy - sigma * said,
        "sample": said,
        FLOW: noisy - sigma * said,
    }[kind]
    expected = ((alpha / sigma) ** 2).clamp(max=gamma).flatten() * (shown - z).square().flatten(1).mean(1)
    assert torch.allclose(min_snr_weights(schedule, t, gamma) * 0.1**2, expected.float(), rtol=2e-3)


def test_min_snr_is_finite_where_there_is_no_signal_left():
    for kind in ("epsilon", "v_prediction", "sample"):
        weights = min_snr_weights(schedule(kind), T, 5.0)
        assert torch.isfinite(weights).all(), kind
        assert weights.max() <= 5


def test_coefficients_are_those_of_the_noising(batch):
    z, noise = batch
    for drawing in (schedule("epsilon"), FlowMatchEulerDiscreteScheduler(shift=3.0)):
        plan = training_schedule(drawing)
        alpha, sigma = (value.view(3, 1, 1, 1) for value in coefficients(plan, T))
        assert torch.allclose(plan.add_noise(z, noise, T), alpha * z + sigma * noise, atol=1e-5)


def test_noise_with_an_offset_moves_the_mean_of_each_channel():
    """Var(mean over n places) is 1/n of noise alone, and grows by offset² (Guttenberg 2023)."""
    shape = (2000, 2, 8, 8)
    plain, moved = (draw_noise(shape, offset, Streams(0, range(2000))) for offset in (0.0, 0.5))
    assert plain.shape == moved.shape == torch.Size(shape)
    assert plain.mean((2, 3)).var() == pytest.approx(1 / 64, rel=0.1)
    assert moved.mean((2, 3)).var() == pytest.approx(1 / 64 + 0.25, rel=0.1)
    shift = (moved - plain).mean((2, 3), keepdim=True)
    assert torch.allclose(moved - shift, plain, atol=1e-5)
    assert abs(torch.corrcoef(shift[:, :, 0, 0].T)[0, 1]) < 0.1
