"""The demo's pictures: each prompt is checked against its own facts, base and adapted apart."""

from dataclasses import dataclass

import pytest
from PIL import Image

from llmdiff.generation import GenerationRequest
from llmdiff.generation.showcase import draw_showcase, showcase_sheet
from llmdiff.progress import silent
from tiny_base import Places


@dataclass(frozen=True)
class Prompt:
    group: str
    prompt: str
    facts: bytes  # here: the pixels that a picture must have


def request(places: Places, prompts: list[str], compare: bool = True) -> GenerationRequest:
    models = {"base": str(places.base), "adapter": str(places.adapter)}
    return GenerationRequest(prompts=prompts, steps=2, seed=1, compare=compare, **models)


def has_pixels(image: Image.Image, facts: bytes) -> bool:
    return image.tobytes() == facts


def test_every_picture_is_checked_against_its_own_prompt(places: Places) -> None:
    texts = ["a ball", "a box", "the house"]
    prompts = [Prompt("plain", text, b"") for text in texts]
    shown = list(draw_showcase(request(places, texts), prompts, has_pixels, silent))
    base = [one.picture.base.image.tobytes() for one in shown if one.picture.base]
    adapted = [one.picture.image.tobytes() for one in shown]
    wanted = [
        Prompt("plain", texts[0], base[0]),
        Prompt("plain", texts[1], adapted[1]),
        Prompt("long", texts[2], base[0]),
    ]
    again = list(draw_showcase(request(places, texts), wanted, has_pixels, silent))
    assert [(one.group, one.base_right, one.adapted_right) for one in again] == [
        ("plain", True, False),
        ("plain", False, True),
        ("long", False, False),
    ]
    sheet = showcase_sheet(again)
    assert sheet.width == 3 * (2 * 192 + 8 + 2 * 16)


def test_a_request_without_comparison_is_refused(places: Places) -> None:
    with pytest.raises(ValueError, match="compare"):
        list(draw_showcase(request(places, ["a"], False), [Prompt("plain", "a", b"")], has_pixels, silent))
