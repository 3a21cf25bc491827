"""Checks of the matrix: text features that users got from ``encode_prompt`` and hand in as ``prompt_embeds``."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from adapter.case import Case
from adapter.changes import distance
from adapter.checks_rows import second_pipeline
from adapter.reference import SlowReading
from adapter.tiny import PROMPT
from llmdiff.errors import LLMDiffError

NEGATIVE, LONG = "zebra", "a long row of blue cups by a bowl"
Embeds = dict[str, Tensor]


def embeds_of(case: Case, pipe: Any, prompts: list[str]) -> Embeds:
    """What ``encode_prompt`` makes of prompts, by the names by which the pipeline's call takes it."""
    results = case.family.encode(pipe, prompts, [NEGATIVE] * len(prompts))
    taken = inspect.signature(pipe.__call__).parameters
    return {name: value for name, value in results.items() if name in taken}


def draw(case: Case, pipe: Any, embeds: Embeds, **options: Any) -> Tensor:
    if "negative_prompt" in inspect.signature(pipe.__call__).parameters:
        options["negative_prompt"] = None  # some pipelines take the empty one if it is left out
    return case.draw(pipe, None, **embeds, **options)


def row_of(embeds: Embeds, row: int) -> Embeds:
    """Those of one prompt."""
    return {name: value[row : row + 1] for name, value in embeds.items()}


def mixed(parts: list[Embeds], weights: list[float]) -> Embeds:
    """A weighted sum of text features; of masks, whatever one of them lets through."""
    sums = {}
    for name in parts[0]:
        values = [part[name] for part in parts]
        is_mask = "mask" in name
        terms = values if is_mask else [weight * value for weight, value in zip(weights, values, strict=True)]
        sums[name] = torch.stack(terms).amax(0) if is_mask else torch.stack(terms).sum(0)
    return sums


def check_cached_embeds(case: Case) -> None:
    """Kept from call to call, put together along the batch, repeated per picture, handed to another pipeline."""
    pipe, adapter = case.attached()
    prompts = [PROMPT, "blue"]
    expected = [case.draw(pipe, prompt, negative_prompt=NEGATIVE) for prompt in prompts]
    kept = [embeds_of(case, pipe, [prompt]) for prompt in prompts]
    assert distance(*expected) > 1e-3
    for _ in range(2):
        for embeds, picture in zip(kept, expected, strict=True):
            assert torch.allclose(draw(case, pipe, embeds), picture, atol=1e-4)
    both = {name: torch.cat([embeds[name] for embeds in kept]) for name in kept[0]}
    noise = torch.randn_like(expected[0])
    alone = torch.cat([draw(case, pipe, embeds, latents=noise) for embeds in kept])
    together = draw(case, pipe, both, latents=noise.expand(2, *noise.shape[1:]))
    assert torch.allclose(together, alone, atol=1e-3)
    other = second_pipeline(pipe)
    for embeds, picture in zip(kept, expected, strict=True):  # it reads what it is given, attached or not
        assert torch.allclose(draw(case, other, embeds), picture, atol=1e-4)
    adapter.attach(other)
    for embeds, picture in zip(kept, expected, strict=True):
        assert torch.allclose(draw(case, other, embeds), picture, atol=1e-4)
    if case.family.lack("pictures per prompt", case.mode) is None:
        twice = draw(case, pipe, kept[0], latents=noise.expand(2, *noise.shape[1:]), num_images_per_prompt=2)
        assert torch.allclose(twice, alone[:1].expand_as(twice), atol=1e-3)


def check_weighted_embeds(case: Case) -> None:
    """Scaled, interpolated, and changed in place: what the slow reading makes of the same sums."""
    pipe = case.family.build()
    adapter = case.attach(pipe)
    stock = case.family.build()
    reading = SlowReading(case.adapter(case.family.build()), stock)
    prompts = [PROMPT, LONG]
    mine = [row_of(embeds_of(case, pipe, prompts), i) for i in range(2)]
    slow = [row_of(embeds_of(case, stock, prompts), i) for i in range(2)]
    for weights in ([1.3, 0.0], [0.6, 0.4]):
        theirs = mixed(slow, weights)
        used = {prompt: weight for prompt, weight in zip(prompts, weights, strict=True) if weight}
        reading.learn(theirs["prompt_embeds"][0], used)
        if "negative_prompt_embeds" in theirs:
            reading.learn(theirs["negative_prompt_embeds"][0], {NEGATIVE: sum(weights)})
        assert torch.allclose(draw(case, pipe, mixed(mine, weights)), draw(case, stock, theirs), atol=1e-3)
    before, changed = draw(case, pipe, mine[0]), mine[0]["prompt_embeds"]
    with torch.no_grad():
        changed.copy_(mine[1]["prompt_embeds"])
    assert distance(draw(case, pipe, mine[0]), before) > 1e-3
    adapter.detach()


def check_foreign_embeds(case: Case) -> str | None:
    """Text features that the LLM did not read: the base model's own picture and a warning, or a refusal."""
    stock = case.family.build()
    foreign = embeds_of(case, stock, [PROMPT])
    pipe = case.family.build()
    case.attach(pipe)
    if case.mode == "augment":
        with pytest.warns(UserWarning, match="The LLM did not read these prompt_embeds.*Pass the prompt as text"):
            picture = draw(case, pipe, foreign)
        assert torch.equal(picture, draw(case, stock, foreign))
        return None
    with pytest.raises(LLMDiffError, match=r"not made by this pipeline.*pass the prompt as") as refusal:
        draw(case, pipe, foreign)
    return f"refused: {refusal.value}"
