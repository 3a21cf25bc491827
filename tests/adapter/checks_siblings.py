"""Checks of the matrix: pipelines that share the parts of an attached one, and parts that are exchanged."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from diffusers import AutoPipelineForText2Image, DiffusionPipeline

from adapter.case import Case
from adapter.changes import distance, part_of
from adapter.checks_rows import NO_ENCODING
from adapter.tiny import PROMPT
from llmdiff.base.layers import find_denoiser, find_layers
from llmdiff.errors import LLMDiffError
from tiny_parts import silenced


def siblings(case: Case, pipe: Any) -> Iterator[Any]:
    """Pipelines made of another one's parts, in each way that diffusers knows."""
    kind: type[DiffusionPipeline] = type(pipe)
    yield silenced(kind(**pipe.components, **case.family.settings))
    yield silenced(kind.from_pipe(pipe))
    yield silenced(AutoPipelineForText2Image.from_pipe(pipe))


def check_attached_siblings(case: Case) -> None:
    """Each one draws its own prompt, whatever another drew before, and detaching frees them all."""
    pipe = case.family.build()
    base = case.draw(pipe, "blue")
    others = list(siblings(case, pipe))
    adapter = case.attach(pipe)
    mine, expected = case.draw(pipe), case.draw(pipe, "blue")
    assert distance(mine, expected) > 1e-3
    for other in others:
        adapter.attach(other)
        assert torch.equal(case.draw(other, "blue"), expected)
        assert torch.equal(case.draw(pipe), mine)
    adapter.detach()
    for other in (pipe, *others):
        assert torch.equal(case.draw(other, "blue"), base)


def check_unattached_siblings(case: Case) -> str | None:
    """One that was never attached draws the base model's picture, or says that it must be attached."""
    pipe = case.family.build()
    base = case.draw(pipe, "blue")
    before = list(siblings(case, pipe))
    adapter = case.attach(pipe)
    said = None
    for other in (*before, *siblings(case, pipe)):
        for prompt in (PROMPT, "zebra"):
            case.draw(pipe, prompt)
            if case.mode == "augment":
                assert torch.equal(case.draw(other, "blue"), base)
            else:
                with pytest.raises(LLMDiffError, match=f"{NO_ENCODING}.*attach siblings too") as refusal:
                    case.draw(other, "blue")
                said = f"refused: {refusal.value}"
    with adapter.disable_adapter():
        assert torch.equal(case.draw(before[0], "blue"), base)
    return said


def check_copy_of_pipeline(case: Case) -> None:
    """A shallow copy, as servers make one for each request, draws the same, and is the base model after detach."""
    stock = case.family.build()
    pipe = case.family.build()
    adapter = case.attach(pipe)
    others = [copy.copy(pipe), copy.copy(pipe)]
    for other in others:
        for prompt in (PROMPT, "blue"):
            assert torch.equal(case.draw(other, prompt), case.draw(pipe, prompt))
    adapter.attach(others[0])
    assert torch.equal(case.draw(others[0]), case.draw(pipe))
    adapter.detach()
    for other in (pipe, *others):
        assert torch.equal(case.draw(other), case.draw(stock))


def exchange_denoiser(pipe: Any, other: Any) -> None:
    setattr(pipe, part_of(pipe), find_denoiser(other))


def exchange_blocks(pipe: Any, other: Any) -> None:
    denoiser = find_denoiser(other)
    for name in {path.partition(".")[0] for path in find_layers(denoiser)}:
        setattr(find_denoiser(pipe), name, getattr(denoiser, name))


def check_exchanged(exchange: Callable[[Any, Any], None]) -> Callable[[Case], str]:
    """What took the place of an attached part has no adapter, which the next prompt says; detach and attach help."""

    def check(case: Case) -> str:
        stock, pipe, other = (case.family.build() for _ in range(3))
        with torch.no_grad():
            for parameter in find_denoiser(other).parameters():
                parameter *= 1.1
        exchange(stock, copy.deepcopy(other))
        adapter = case.attach(pipe)
        case.draw(pipe)
        exchange(pipe, other)
        with pytest.raises(LLMDiffError, match=r"exchanged after attach.*adapter.detach\(\)") as refusal:
            case.draw(pipe)
        adapter.detach()
        assert torch.equal(case.draw(pipe), case.draw(stock))
        adapter.attach(pipe)
        picture = case.draw(pipe)
        adapter.detach()
        adapter.attach(stock)
        assert torch.equal(picture, case.draw(stock))
        return f"refused: {refusal.value}"

    return check
