"""Distillation layer by layer: what each cross-attention layer of the base model says is the target of that layer.

The base model runs once under its own text, and each layer's input and output are noted. Then it runs under the
adapter, but each layer gets the noted input and passes the noted output on: no layer has to make up for another's
errors, nothing is propagated back through the denoiser, and what is said about a small thing weighs as much as its
share of the layer, and not of the picture. After FitNets (arXiv 1412.6550); not in Dong et al. 2024 **[choice]**.

Letters in shapes: B batch, N image tokens, Q width of the image features.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from llmdiff.adapter.hooks import ATTENTION_ARGUMENTS, Args, Kwargs


@dataclass
class Pass:
    """What layers took and gave in a pass of the denoiser, in the order in which they ran.

    Attributes:
        inputs: (B, N, Q) of each layer.
        outputs: (B, N, Q) of each layer.
    """

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)


@contextmanager
def noted(layers: Iterable[nn.Module]) -> Iterator[Pass]:
    """Within it, one pass of the denoiser is noted."""
    known = Pass()

    def note(layer: nn.Module, args: Args, kwargs: Kwargs, output: Tensor) -> None:
        known.inputs.append(args[0] if args else kwargs["hidden_states"])
        known.outputs.append(output)

    with _hooks(layer.register_forward_hook(note, with_kwargs=True) for layer in layers):
        yield known


@contextmanager
def guided(layers: Iterable[nn.Module], by: Pass) -> Iterator[list[Tensor]]:
    """Within it, one pass of the denoiser goes as the noted one did, whatever its layers say, which is collected.

    Call it with the adapter attached: its hooks run before these.
    """
    said: list[Tensor] = []

    def feed(layer: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        named = dict(zip(ATTENTION_ARGUMENTS, args, strict=False)) | kwargs
        named.pop("hidden_states")
        return (by.inputs[len(said)],), named

    def replace(layer: nn.Module, args: Args, kwargs: Kwargs, output: Tensor) -> Tensor:
        said.append(output)
        return by.outputs[len(said) - 1]

    each = list(layers)
    with (
        _hooks(layer.register_forward_pre_hook(feed, with_kwargs=True) for layer in each),
        _hooks(layer.register_forward_hook(replace, with_kwargs=True) for layer in each),
    ):
        yield said


def layer_errors(
    denoiser: Any, layers: Iterable[nn.Module], told: Callable[[], object], heard: Callable[[], object]
) -> Tensor:
    """How far each layer is from the base model's, whose input it gets: the mean over layers for each sample, (B,).

    Args:
        denoiser: of the layers.
        layers: its cross-attention.
        told: runs the base model under its own text.
        heard: runs it under the adapter, on the same latents.
    """
    each = list(layers)
    with _without_checkpointing(denoiser):
        with noted(each) as wanted:
            told()
        with guided(each, wanted) as said:
            heard()
    return relative_errors(said, wanted.outputs)


def relative_errors(said: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """The mean over layers of the squared error in units of what is wanted, for each sample: (B,)."""
    ratios = [_squares(one - other) / _squares(other).clamp(min=1e-12) for one, other in zip(said, wanted, strict=True)]
    return torch.stack(ratios).mean(0)


def _squares(features: Tensor) -> Tensor:
    return features.float().square().flatten(1).mean(1)


@contextmanager
def _hooks(handles: Iterable[Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield


@contextmanager
def _without_checkpointing(denoiser: Any) -> Iterator[None]:
    """Within it, layers run once: nothing of the denoiser but they is propagated through, so there is no need."""
    if not denoiser.is_gradient_checkpointing:
        yield
        return
    denoiser.disable_gradient_checkpointing()
    try:
        yield
    finally:
        denoiser.enable_gradient_checkpointing()
