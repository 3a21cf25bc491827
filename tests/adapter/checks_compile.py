"""Checks of the matrix: no graph that was compiled before or after ``attach`` reads what is no longer so."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from adapter.case import Case
from adapter.changes import part_of
from adapter.tiny import PROMPT, build_sd
from llmdiff.base.layers import find_denoiser, find_layers

SMALL = {
    "block_out_channels": (8,),
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
}
"""A U-Net that is compiled in seconds."""
Compile = Callable[[Any, Any], None]


class Backend:
    """A backend of ``torch.compile`` that runs graphs as they are, and counts them."""

    def __init__(self) -> None:
        self.graphs: list[Any] = []

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs.append(graph)
        return graph.forward


def by_wrapper(pipe: Any, backend: Backend) -> None:
    setattr(pipe, part_of(pipe), torch.compile(find_denoiser(pipe), backend=backend))


def in_place(pipe: Any, backend: Backend) -> None:
    find_denoiser(pipe).compile(backend=backend)


def by_forward(pipe: Any, backend: Backend) -> None:
    denoiser = find_denoiser(pipe)
    denoiser.forward = torch.compile(denoiser.forward, backend=backend)


def by_blocks(pipe: Any, backend: Backend) -> None:
    """What ``compile_repeated_blocks`` does, on families too of which diffusers names no such blocks."""
    denoiser = find_denoiser(pipe)
    for block in {path.rpartition(".")[0] for path in find_layers(denoiser)}:
        denoiser.get_submodule(block).compile(backend=backend)


def check_settled(case: Case) -> None:
    """One graph without a break serves all prompts of a length."""
    pipe, _ = case.attached()
    picture, backend = case.draw(pipe), Backend()
    torch.compiler.reset()
    setattr(pipe, part_of(pipe), torch.compile(find_denoiser(pipe), backend=backend, fullgraph=True))
    assert torch.allclose(case.draw(pipe), picture, atol=1e-3)
    count = len(backend.graphs)
    case.draw(pipe, "b red cup")
    assert len(backend.graphs) == count > 0


def check_compiled(compiles: Compile) -> Callable[[Case], None]:
    """Compiled and drawn with before ``attach``, then attached, detached and attached again; or after ``attach``."""

    def check(case: Case) -> None:
        torch.compiler.reset()
        case = replace(case, family=replace(case.family, build=partial(build_sd, **SMALL)))
        stock, (plain, _) = case.family.build(), case.attached()
        base, expected = case.draw(stock), {prompt: case.draw(plain, prompt) for prompt in (PROMPT, "blue")}

        def close(found: Tensor, wanted: Tensor) -> bool:
            return torch.allclose(found, wanted, atol=1e-3)

        for before in (True, False):
            pipe, backend = case.family.build(), Backend()
            if before:
                compiles(pipe, backend)
                assert close(case.draw(pipe), base)
            adapter = case.attach(pipe)
            if not before:
                compiles(pipe, backend)
            for prompt, picture in expected.items():
                assert close(case.draw(pipe, prompt), picture)
            with adapter.disable_adapter():
                assert close(case.draw(pipe), base)
            adapter.scale = 0.5
            assert not close(case.draw(pipe), expected[PROMPT])
            adapter.scale = 1
            adapter.detach()
            assert close(case.draw(pipe), base)
            adapter.attach(pipe)
            for prompt, picture in expected.items():
                assert close(case.draw(pipe, prompt), picture)
            assert backend.graphs

    return check
