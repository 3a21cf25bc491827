"""Requests: what is refused, and that a picture depends on its own settings alone."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from llmdiff.errors import LLMDiffError
from llmdiff.generation import GenerationRequest, Picture, comparison_sheet, generate
from tiny_base import Places


def request(places: Places, *prompts: str, **options: Any) -> GenerationRequest:
    models = {"base": str(places.base), "adapter": str(places.adapter)}
    return GenerationRequest(**({"prompts": list(prompts), "steps": 3, "seed": 5} | models | options))


def pixels(picture: Picture) -> np.ndarray:
    return np.asarray(picture.image)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prompts": []}, "empty"),
        ({"prompts": ["a ball", " \n\t"]}, "empty"),
        ({"prompts": ["\ud800"]}, "valid text"),
        ({"prompts": ["a"], "negative": "b\udc80"}, "valid text"),
        ({"prompts": ["a"], "size": "64"}, "WIDTHxHEIGHT"),
        ({"prompts": ["a"], "size": "64x-8"}, "WIDTHxHEIGHT"),
        ({"prompts": ["a"], "size": "64x60"}, "multiples of 8"),
        ({"prompts": ["a"], "size": (0, 8)}, "multiples of 8"),
        ({"prompts": ["a"], "size": "99999x8"}, "multiples of 8"),
        ({"prompts": ["a"], "steps": 0}, "steps"),
        ({"prompts": ["a"], "guidance": float("nan")}, "guidance"),
        ({"prompts": ["a"], "scale": float("inf")}, "scale"),
        ({"prompts": ["a"], "seed": -1}, "seed"),
        ({"prompts": ["a"], "num": 0}, "num"),
        ({"prompts": ["a"], "colour": "red"}, "colour"),
        ({"prompts": ["a"], "base": "./elsewhere"}, "no base model at"),
        ({"prompts": ["a"], "base": "owner/name"}, "--adapter"),
        ({"prompts": ["a"], "adapter": "none", "llm": "x"}, "--llm"),
        ({"prompts": ["a"], "adapter": "none", "quantization": "int8"}, "--quantization"),
        ({"prompts": ["a"], "quantization": "3bit"}, "'int8', '8bit' or '4bit'"),
        ({"prompts": ["a"], "adapter": "none", "compare": True}, "--compare"),
    ],
)
def test_mistakes_cost_one_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(LLMDiffError) as caught:
        GenerationRequest(**options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["64x32", " 64 X 32 ", "64×32"])
def test_sizes_in_words(text: str) -> None:
    assert GenerationRequest(prompts=["a"], size=text).size == (64, 32)  # type: ignore[arg-type]


def test_without_a_seed_two_requests_differ() -> None:
    assert GenerationRequest(prompts=["a"]).seed != GenerationRequest(prompts=["a"]).seed


def test_seeds_count_up_within_a_prompt_and_start_again_at_the_next(places: Places) -> None:
    pictures = generate(request(places, "a ball", "a box", num=2, adapter="none"))
    assert [(picture.prompt, picture.seed) for picture in pictures] == [
        ("a ball", 5),
        ("a ball", 6),
        ("a box", 5),
        ("a box", 6),
    ]
    assert not np.array_equal(pixels(pictures[0]), pixels(pictures[1]))


def test_the_base_alone_is_the_stock_pipeline(places: Places) -> None:
    (picture,) = generate(request(places, "a red ball", negative="box", adapter="none", guidance=3.0))
    pipe = StableDiffusionPipeline.from_pretrained(places.base)
    stock = pipe(
        "a red ball",
        negative_prompt="box",
        guidance_scale=3.0,
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    assert np.array_equal(pixels(picture), np.asarray(stock))


def test_a_picture_does_not_depend_on_its_companions(places: Places) -> None:
    together = generate(request(places, "a", "a red ball on the blue house " * 9, "a box", num=2))
    (alone,) = generate(request(places, "a box", seed=6))
    assert np.array_equal(pixels(together[-1]), pixels(alone))
    assert together[-1].metadata == alone.metadata


def test_compare_puts_the_base_models_own_picture_beside(places: Places) -> None:
    (compared,) = generate(request(places, "a red ball", compare=True))
    (adapted,) = generate(request(places, "a red ball"))
    (alone,) = generate(request(places, "a red ball", adapter="none"))
    assert compared.base is not None
    assert np.array_equal(pixels(compared), pixels(adapted))
    assert np.array_equal(pixels(compared.base), pixels(alone))
    assert not np.array_equal(pixels(adapted), pixels(alone))
    assert compared.base.metadata == alone.metadata
    sheet = np.asarray(comparison_sheet([compared]))
    factor = 12  # 16 pixels enlarged to 192
    enlarged = [np.kron(pixels(one), np.ones((factor, factor, 1), np.uint8)) for one in (compared.base, compared)]
    assert contains(sheet, np.concatenate([enlarged[0], np.full((192, 8, 3), 255, np.uint8), enlarged[1]], axis=1))


def test_scale_0_is_the_base_model(places: Places) -> None:
    (dialled,) = generate(request(places, "a red ball", scale=0.0))
    (alone,) = generate(request(places, "a red ball", adapter="none"))
    assert np.array_equal(pixels(dialled), pixels(alone))


def test_size(places: Places) -> None:
    (picture,) = generate(request(places, "a", size="32x24"))
    assert picture.image.size == (32, 24)
    (picture,) = generate(request(places, "a"))
    assert picture.image.size == (16, 16)


@pytest.mark.parametrize("adapter", ["none", None])
def test_a_long_prompt_gives_a_picture_and_one_warning(places: Places, adapter: str | None) -> None:
    options = {} if adapter is None else {"adapter": adapter}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        pictures = generate(request(places, "word " * 4999 + "ball", num=2, **options))
    cuts = {str(one.message) for one in caught if "cut" in str(one.message)}
    assert len(cuts) == 1
    assert "word word" in cuts.pop()
    assert [picture.image.size for picture in pictures] == [(16, 16)] * 2


def test_progress_rises_to_the_end(places: Places) -> None:
    seen: list[float] = []
    generate(request(places, "a", "box", compare=True), lambda stage, share: seen.append(share))
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)
    assert len(set(seen)) == 1 + 2 * 2 * 3


def contains(sheet: np.ndarray, part: np.ndarray) -> bool:
    height, width, _ = part.shape
    return any(
        np.array_equal(sheet[top : top + height, left : left + width], part)
        for top in range(sheet.shape[0] - height + 1)
        for left in range(sheet.shape[1] - width + 1)
    )


def test_contains_can_fail() -> None:
    noise = np.asarray(Image.effect_noise((9, 9), 90).convert("RGB"))
    assert contains(noise, noise[2:5, 3:7])
    assert not contains(noise, 255 - noise[2:5, 3:7])
