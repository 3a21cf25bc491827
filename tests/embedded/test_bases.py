"""The base models that are shipped: stock diffusers loads them, and they draw what they are told."""

from pathlib import Path
from typing import Any

import pytest
from diffusers import StableDiffusionPipeline

import llmdiff.embedded
from llmdiff.base.loading import load_pipeline
from llmdiff.base.locate import locate_base
from llmdiff.evaluation.domains import DOMAINS
from llmdiff.evaluation.prompts import known_prompts, scene_prompts
from llmdiff.generation import GenerationRequest, generate
from llmdiff.models import SHIPPED_BASES

MOST = 80e6  # bytes of all weights that are shipped


@pytest.mark.parametrize("name", SHIPPED_BASES)
def test_stock_diffusers_loads_what_is_shipped(name: str) -> None:
    stock: Any = StableDiffusionPipeline.from_pretrained(locate_base(name))
    ours = load_pipeline(name)
    assert {part: type(module) for part, module in stock.components.items()} == {
        part: type(module) for part, module in ours.components.items()
    }


@pytest.mark.parametrize(("name", "version", "least"), [("embedded", 1, 4), ("embedded-world", 2, 6)])
def test_a_shipped_base_draws_what_it_is_told_in_its_own_words(name: str, version: int, least: int) -> None:
    prompts = [prompt for prompt in scene_prompts(8, version) if prompt.group == "plain"]
    request = GenerationRequest(
        prompts=[DOMAINS[version].plainly(prompt.facts) for prompt in prompts],
        base=name,
        adapter="none",
        steps=20,
        seed=1,
    )
    seen = [DOMAINS[version].read(picture.image) for picture in generate(request)]
    right = [all(fact.holds(scene) for fact in prompt.facts) for prompt, scene in zip(prompts, seen, strict=True)]
    assert sum(right) >= least


def test_prompts_of_its_own_domain_are_proposed_for_a_shipped_base() -> None:
    assert {name: known_prompts(name, 1)[0] for name in SHIPPED_BASES} == {
        "embedded": scene_prompts(1, 1)[0].prompt,
        "embedded-world": scene_prompts(1, 2)[0].prompt,
    }


def test_weights_are_small() -> None:
    files = Path(str(llmdiff.embedded.__file__)).parent.rglob("*.safetensors")
    assert sum(file.stat().st_size for file in files) < MOST
