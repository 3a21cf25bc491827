"""Checks of the matrix: whatever is done to the rows of a call, each reads its own prompt."""

import copy
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from adapter.case import Case
from adapter.changes import distance
from adapter.reference import named_inputs
from adapter.threads import at_once
from adapter.tiny import PROMPT
from llmdiff.base.layers import find_denoiser, find_layers
from llmdiff.errors import LLMDiffError

NO_ENCODING = "this call of the denoiser carries no encoding"


def check_pictures_per_prompt(case: Case) -> None:
    pipe, _ = case.attached()
    single = case.draw(pipe, ["a cup", "blue"])
    noise = torch.randn_like(single[:1])
    grouped = case.draw(pipe, ["a cup", "blue"], num_images_per_prompt=2, latents=noise.expand(4, -1, -1, -1))
    alone = torch.cat([case.draw(pipe, prompt, latents=noise) for prompt in ("a cup", "blue")])
    assert torch.allclose(grouped, alone.repeat_interleave(2, 0), atol=1e-3)
    assert distance(grouped[0], grouped[2]) > 1e-3


def check_batch(case: Case) -> None:
    """Each picture of a batch is the one that its prompt gives alone, whatever the length of its neighbours."""
    pipe, _ = case.attached()
    prompts = ["a", "a much longer prompt"]
    noise = torch.randn_like(case.draw(pipe, prompts))
    together = case.draw(pipe, prompts, latents=noise)
    for i, prompt in enumerate(prompts):
        assert torch.allclose(case.draw(pipe, prompt, latents=noise[i : i + 1])[0], together[i], atol=1e-3)


def last_call(pipe: Any, draw: Callable[[], Any]) -> tuple[dict[str, Any], Tensor]:
    """The inputs of the last call of the denoiser, as the pipeline has them, and its output."""
    calls: list[dict[str, Any]] = []
    outputs: list[Tensor] = []

    def before(model: Any, args: Any, kwargs: Any) -> None:
        calls.append(named_inputs(model, args, kwargs))

    denoiser = find_denoiser(pipe)
    handles = [
        denoiser.register_forward_pre_hook(before, prepend=True, with_kwargs=True),
        denoiser.register_forward_hook(lambda model, args, output: outputs.append(output[0])),
    ]
    draw()
    for handle in handles:
        handle.remove()
    return calls[-1] | {"return_dict": False}, outputs[-1]


def pick(value: Any, rows: list[int] | slice, count: int) -> Any:
    """Some of the rows of whatever has so many."""
    if isinstance(value, dict):
        return {name: pick(one, rows, count) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(pick(one, rows, count) for one in value)
    has_rows = isinstance(value, Tensor) and value.dim() > 0 and len(value) == count
    return value[rows] if has_rows else value


@torch.no_grad()
def check_own_loop(case: Case) -> None:
    """A user's own loop, or a guider, that asks for rows one by one, in another order, or several times."""
    pipe, _ = case.attached()
    inputs, output = last_call(pipe, lambda: case.draw(pipe, PROMPT, negative_prompt="blue"))
    denoiser, count = find_denoiser(pipe), len(output)
    assert count == 2
    assert distance(*output) > 1e-3
    for rows in ([0], [1], slice(1), slice(1, 2), [1, 0], [0, 0, 1], [1, 1, 0, 1]):  # slices are views
        found = denoiser(**pick(inputs, rows, count))[0]
        assert torch.allclose(found, output[rows], atol=1e-3), rows


def second_pipeline(pipe: Any) -> Any:
    """Another pipeline of the same parts, with a scheduler of its own."""
    other = copy.copy(pipe)
    vars(other).pop("encode_prompt", None)
    other.scheduler = copy.deepcopy(pipe.scheduler)
    return other


def check_threads(case: Case) -> None:
    """Two pipelines of one denoiser, each in its thread and always in a call at the same time as the other."""
    pipe, adapter = case.attached()
    pipes, prompts = [pipe, second_pipeline(pipe)], [PROMPT, "blue"]
    adapter.attach(pipes[1])
    alone = [case.draw(one, prompt) for one, prompt in zip(pipes, prompts, strict=True)]
    assert distance(*alone) > 1e-3
    together, meeting = [None, None], threading.Barrier(2, timeout=60)

    def meet(*_: Any) -> None:
        meeting.wait()

    def work(i: int) -> None:
        together[i] = case.draw(pipes[i], prompts[i])

    denoiser = find_denoiser(pipe)
    places = [denoiser, *list(find_layers(denoiser).values())[-1:]]
    handles = [place.register_forward_pre_hook(meet) for place in places]
    try:
        at_once(partial(work, 0), partial(work, 1))
    finally:
        for handle in handles:
            handle.remove()
    for found, expected in zip(together, alone, strict=True):
        assert found is not None
        assert torch.allclose(found, expected, atol=1e-4)


class Boom(BaseException):
    """What ends a run in the middle, as an interruption by the user does."""


@torch.no_grad()
def check_exception(case: Case) -> None:
    """After a call that failed half way, nothing of it is read: by no pipeline, nor by a layer called by itself."""
    stock = case.family.build()
    pipe = case.family.build()
    adapter = case.attach(pipe)
    picture = case.draw(pipe)
    path, layer = list(find_layers(find_denoiser(pipe)).items())[-1]
    image = torch.randn(1, 16, layer.to_q.in_features)
    text = torch.randn(1, 5, layer.to_k.in_features)
    for error in (RuntimeError, Boom):

        def fail(*_: Any, error: type[BaseException] = error) -> None:
            raise error("in the middle")

        handle = layer.register_forward_pre_hook(fail)
        with pytest.raises(error, match="in the middle"):
            case.draw(pipe, "zebra")
        handle.remove()
        other = second_pipeline(pipe)
        if error is RuntimeError:
            expected = find_denoiser(stock).get_submodule(path)(image, encoder_hidden_states=text)
            assert torch.equal(layer(image, encoder_hidden_states=text), expected)
        if case.mode == "augment":
            assert torch.equal(case.draw(other, "blue"), case.draw(stock, "blue"))
        else:
            with pytest.raises(LLMDiffError, match=NO_ENCODING):
                case.draw(other, "blue")
    assert torch.equal(case.draw(pipe), picture)
    adapter.detach()
    assert torch.equal(case.draw(pipe), case.draw(stock))
