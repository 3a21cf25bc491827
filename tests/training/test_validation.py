"""Held-out pictures: the same ones whatever is added, never trained on, and their losses worked out by hand."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from llmdiff.base.schedule import coefficients, training_schedule
from llmdiff.errors import LLMDiffError
from llmdiff.training.loop_settings import LoopSettings
from llmdiff.training.randomness import Streams
from llmdiff.training.recipe import HeldOutSettings
from llmdiff.training.trainer import Trainer
from llmdiff.training.validation import Validation, split, timestep_of
from training.tiny_objective import CAPTIONS, Listed, Make


def listed(captions: list[str]) -> Listed:
    data = Listed()
    data.captions = [(text, f"another of {text}") for text in captions]
    data.teacher_captions = [(text.upper(),) for text in captions]
    data.weights = [1.0 + i for i in range(len(captions))]
    return data


@pytest.mark.parametrize(("share", "count"), [(0.2, 100), (0.001, 1), (0.9, 450)])
def test_the_share_is_held_out_and_no_caption_is_on_both_sides(share: float, count: int):
    captions = [f"caption {n % 500}" for n in range(1000)]
    train, held = split(listed(captions), share, seed=0)
    assert held is not None
    assert (len(train), len(held)) == (1000 - 2 * count, 2 * count)
    assert not {texts[0] for texts in train.captions} & {texts[0] for texts in held.captions}
    other = split(listed(captions), share, seed=1)[1]
    assert other is not None
    assert other.captions != held.captions


def test_few_pictures_change_sides_when_others_are_added():
    few, more = ([f"caption {n}" for n in range(count)] for count in (400, 440))
    held, grown = (split(listed(captions), 0.25, seed=4)[1] for captions in (few, more))
    assert held is not None
    assert grown is not None
    assert len(set(held.captions) - set(grown.captions)) <= 10


def test_a_part_shows_the_pictures_of_the_whole():
    data = listed([f"caption {n}" for n in range(20)])
    data.pixels = lambda index: torch.full((3, 2, 2), float(index))
    data.size = lambda index: (16, 16 + index)
    for part in split(data, 0.5, seed=0):
        assert part is not None
        for place, (texts, weight) in enumerate(zip(part.captions, part.weights, strict=True)):
            number = data.captions.index(texts)
            assert part.teacher_captions[place] == data.teacher_captions[number]
            assert (weight, part.size(place), part.identity(place)) == (1.0 + number, (16, 16 + number), str(number))
            assert part.size_conditioning(place) == data.size_conditioning(number)
            assert torch.equal(part.pixels(place), data.pixels(number))


def test_nothing_is_held_out_by_default():
    data = listed(CAPTIONS)
    assert split(data, HeldOutSettings().share, seed=0) == (data, None)


def test_at_least_one_caption_is_held_out_and_one_is_left():
    train, held = split(listed(CAPTIONS), 0.01, seed=0)
    assert held is not None
    assert (len(train), len(held)) == (3, 1)
    with pytest.raises(LLMDiffError, match=r"heldout\.share = 0\.95 leaves nothing to train on of 4 captions"):
        split(listed(CAPTIONS), 0.95, seed=0)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_a_level_is_the_coefficient_of_the_noise(make: Make, level: float):
    schedule = training_schedule(make().base.pipe.scheduler)
    sigma = coefficients(schedule, torch.tensor([timestep_of(schedule, level)]))[1]
    assert sigma.item() == pytest.approx(level, abs=0.01)


@pytest.mark.parametrize("micro_batch", [1, 3, 4])
def test_the_losses_are_those_of_the_formula(make: Make, tmp_path: Path, micro_batch: int):
    """Section 4 at one level of noise at a time, picture by picture; looking changes nothing and is repeatable."""
    objective = make("epsilon", mode="replace", loop=LoopSettings(seed=3))
    trainer = Trainer(objective, LoopSettings(batch_size=4, micro_batch=micro_batch), tmp_path)
    validation = Validation(
        objective, objective.latents, objective.data, HeldOutSettings(levels=2, pictures=3), Accelerator(cpu=True)
    )
    found = validation.losses(trainer)
    assert objective.adapter.training
    expected = dict.fromkeys(
        ["heldout/σ0.25/adapter", "heldout/σ0.75/adapter", "heldout/σ0.25/base", "heldout/σ0.75/base"], 0.0
    )
    objective.adapter.eval()
    abar = objective.base.schedule.alphas_cumprod
    for n in range(3):
        z, noise = objective.latents[n : n + 1].float(), Streams(3, [n]).normal(4, 8, 8)
        for level in (0.25, 0.75):
            t = ((1 - abar).sqrt() - level).abs().argmin()
            noisy = abar[t].sqrt() * z + (1 - abar[t]).sqrt() * noise
            with torch.no_grad():
                text = objective.adapter.condition(objective.adapter.encode([CAPTIONS[n]]))
                said = objective.base.pipe.unet(noisy, t, text).sample
            with torch.no_grad(), objective.adapter.disable_adapter():
                own = objective.base.pipe.unet(noisy, t, **objective.base.encode([CAPTIONS[n].upper()])).sample
            expected[f"heldout/σ{level}/adapter"] += (said - noise).square().mean().item() / 3
            expected[f"heldout/σ{level}/base"] += (own - noise).square().mean().item() / 3
    assert found == pytest.approx(expected, rel=2e-3)
    objective.adapter.train()
    assert validation.losses(trainer) == found
