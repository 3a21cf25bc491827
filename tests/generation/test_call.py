"""The call of a pipeline: sizes and arguments by family."""

from typing import Any

import pytest
import torch
from diffusers import (
    SanaSprintPipeline,
)

from adapter.families import AUGMENTED, FAMILIES
from adapter.tiny import build_pixart, build_sana, build_sd
from llmdiff.errors import LLMDiffError
from llmdiff.generation.call import call_arguments, default_size
from llmdiff.generation.record import PictureSettings
from llmdiff.generation.watch import Watch


def settings(**options: Any) -> PictureSettings:
    common = {"prompt": "a", "steps": 2, "guidance": 5.0, "scale": 1.0, "seed": 3, "width": 64, "height": 64}
    return PictureSettings.model_validate(common | options)


def build_sprint() -> SanaSprintPipeline:
    parts = build_sana().components
    return SanaSprintPipeline(**parts)


@pytest.mark.parametrize(
    ("family", "size"),
    [("SD 1.x", 16), ("SDXL", 16), ("PixArt", 16), ("Sana", 32), ("Hunyuan-DiT", 64), ("Kandinsky 3", 1024)],
)
def test_the_size_that_a_family_was_trained_for(family: str, size: int) -> None:
    assert default_size((FAMILIES | AUGMENTED)[family].build()) == (size, size)


def test_sizes_that_are_not_square() -> None:
    assert default_size(build_sd(sample_size=(8, 24))) == (48, 16)


@pytest.mark.parametrize(("sample", "bins"), [(8, False), (256, True)])
def test_pictures_of_trained_sizes_are_left_to_the_pipeline(sample: int, bins: bool) -> None:
    pipe = build_pixart()
    pipe.transformer.register_to_config(sample_size=sample)
    assert call_arguments(pipe, [settings()], Watch()).get("use_resolution_binning", True) is bins


@pytest.mark.parametrize("name", FAMILIES | AUGMENTED)
def test_every_argument_is_one_that_the_pipeline_names(name: str) -> None:
    pipe = (FAMILIES | AUGMENTED)[name].build()
    found = call_arguments(pipe, [settings(negative="b")], Watch(lambda share: None))
    assert {"prompt", "negative_prompt", "num_inference_steps", "guidance_scale", "width", "height"} <= found.keys()
    assert "negative_prompt" not in call_arguments(pipe, [settings()], Watch())
    assert {"callback_on_step_end", "callback"} & found.keys()


def test_a_pipeline_without_negative_prompt() -> None:
    pipe = build_sprint()
    with pytest.raises(LLMDiffError, match="takes no negative prompt"):
        call_arguments(pipe, [settings(negative="b")], Watch())
    assert call_arguments(pipe, [settings(steps=4)], Watch())["intermediate_timesteps"] is None
    assert "intermediate_timesteps" not in call_arguments(pipe, [settings(steps=2)], Watch())


def test_the_noise_is_that_of_the_seed() -> None:
    first, again = (call_arguments(build_sd(), [settings(seed=9)], Watch())["generator"] for _ in range(2))
    assert torch.equal(torch.randn(4, generator=first), torch.randn(4, generator=again))
