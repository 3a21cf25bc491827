"""Checks of the matrix: where the weights are and in what precision, and tools that walk the denoiser's modules."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from adapter.case import Case
from adapter.changes import distance
from adapter.reference import SlowReading
from adapter.tiny import PROMPT
from llmdiff.base.layers import find_denoiser
from llmdiff.errors import LLMDiffError


def check_offloaded_before(offload: Callable[[Any], None]) -> Callable[[Case], str]:
    """What is offloaded layer by layer before ``attach`` is refused, and is as it was."""

    def check(case: Case) -> str:
        pipe = case.family.build()
        base = case.draw(pipe)
        adapter = case.adapter(pipe)
        offload(pipe)
        with pytest.raises(LLMDiffError, match="attach the adapter before enabling offloading") as refusal:
            adapter.attach(pipe)
        assert torch.equal(case.draw(pipe), base)
        return f"refused: {refusal.value}"

    return check


def check_there_and_back(case: Case) -> None:
    """In another precision and back: the same as everything rounded so."""
    pipe, adapter = case.attached()
    pipe.to(torch.bfloat16)
    narrow = case.draw(pipe)
    assert all(branch.query.weight.dtype == torch.bfloat16 for branch in adapter.named_branches().values())
    assert distance(narrow, case.draw(pipe, "blue")) > 1e-3
    assert narrow.dtype == case.draw(case.family.build().to(torch.bfloat16)).dtype
    pipe.to(torch.float32)
    found = case.draw(pipe)
    rounded, other = case.attached()
    for part in (*rounded.components.values(), *other.named_branches().values()):
        if isinstance(part, nn.Module):
            part.to(torch.bfloat16).to(torch.float32)
    assert torch.allclose(found, case.draw(rounded), atol=1e-3)
    adapter.detach()
    if case.mode == "augment":
        other.detach()
        assert torch.equal(case.draw(pipe), case.draw(rounded))


def layerwise_cast(pipe: Any) -> None:
    find_denoiser(pipe).enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)


def offload_models(pipe: Any) -> None:
    pipe.enable_model_cpu_offload(device="cpu")


def offload_groups(pipe: Any) -> None:
    cpu = torch.device("cpu")
    find_denoiser(pipe).enable_group_offload(onload_device=cpu, offload_device=cpu, offload_type="leaf_level")


def quantise(pipe: Any) -> None:
    """torch's own dynamic quantisation of every linear layer that it finds."""
    torch.ao.quantization.quantize_dynamic(find_denoiser(pipe), {nn.Linear}, dtype=torch.qint8, inplace=True)


def check_quantised(before: bool) -> Callable[[Case], None]:
    """torch's quantisation of the base model leaves the adapter alone, which must be made of plain weights."""

    def check(case: Case) -> None:
        pipe, stock = case.family.build(), case.family.build()
        adapter, reference = case.adapter(pipe), case.adapter(stock)
        for one in (pipe, stock):
            if before or one is stock:
                quantise(one)
        with pytest.raises(LLMDiffError, match="create the adapter on the plain model"):
            case.make_adapter(stock, mode=case.mode)
        adapter.attach(pipe)
        if not before:
            quantise(pipe)
        SlowReading(reference, stock)
        kinds = [type(module) for module in reference.modules()]
        apart = distance(case.draw(pipe), case.draw(pipe, "blue"))
        assert apart > 0.2
        for prompt in (PROMPT, "blue"):  # what is rounded to 8 bits is another whole step elsewhere
            assert distance(case.draw(pipe, prompt), case.draw(stock, prompt)) < apart / 5
        assert [type(module) for module in adapter.modules()] == kinds

    return check


def check_inference_mode(case: Case) -> None:
    """Within ``torch.inference_mode`` and out of it again, with features that were made in it."""
    pipe, _ = case.attached()
    expected = {prompt: case.draw(pipe, prompt) for prompt in (PROMPT, "blue")}
    for _ in range(2):
        for prompt, picture in expected.items():
            with torch.inference_mode():
                found = case.draw(pipe, prompt)
            assert torch.equal(found, picture)
            assert torch.equal(case.draw(pipe, prompt), picture)
