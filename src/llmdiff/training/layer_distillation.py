"""Distillation layer by layer: what each cross-attention layer of the base model says is the target of that layer.

The base model runs under its own text, as far as its last cross-attention, and each layer's input and output are noted.
Then it runs under the adapter as far as its first, where all of them are asked, each about the input that was noted:
no layer has to make up for another's errors, nothing is propagated back through the denoiser, the most of which does
not run again, and what is said about a small thing weighs as much as its share of the layer, and not of the picture.
After FitNets (arXiv 1412.6550); not in Dong et al. 2024 **[choice]**.

Letters in shapes: B batch, N image tokens, Q width of the image features.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from llmdiff.adapter.hooks import ATTENTION_ARGUMENTS, Args, Kwargs
from llmdiff.errors import LLMDiffError


@dataclass
class Pass:
    """What layers took and gave in a pass of the denoiser, in the order in which they ran.

    Attributes:
        layers: the modules.
        inputs: (B, N, Q) of each layer.
        outputs: (B, N, Q) of each layer.
        texts: what else each layer was given, by name.
    """

    layers: list[nn.Module] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    texts: list[Kwargs] = field(default_factory=list)

    @property
    def shares_its_text(self) -> bool:
        """Whether all layers read the same."""
        return all(_same(text.get(name), one) for text in self.texts for name, one in self.texts[0].items())


class _EnoughError(Exception):
    """All that is asked of a pass is known."""


def note(layers: Iterable[nn.Module], run: Callable[[], object]) -> Pass:
    """Notes a pass of the denoiser, which ends when each layer has run.

    Args:
        layers: its cross-attention, in any order.
        run: calls the denoiser.
    """
    each, known = list(layers), Pass()

    @torch.compiler.disable
    def add(layer: nn.Module, args: Args, kwargs: Kwargs, output: Tensor) -> None:
        features, text = _parted(args, kwargs)
        known.layers.append(layer)
        known.inputs.append(features)
        known.outputs.append(output)
        known.texts.append(text)
        if len(known.layers) == len(each):
            raise _EnoughError

    with _ended_early(layer.register_forward_hook(add, with_kwargs=True) for layer in each):
        run()
    return known


def ask(known: Pass, run: Callable[[], object]) -> list[Tensor]:
    """What each layer says about the input that was noted, under the text that its denoiser is called with now.

    Args:
        known: a pass whose layers share their text.
        run: calls the denoiser, with the adapter attached, whose hooks run before those of here.

    Returns:
        (B, N, Q) of each layer.
    """
    said: list[Tensor] = []
    handles: list[Any] = []

    @torch.compiler.disable
    def ask_all(layer: nn.Module, args: Args, kwargs: Kwargs) -> None:
        handles.pop().remove()
        _, text = _parted(args, kwargs)
        said.extend(one(features, **text) for one, features in zip(known.layers, known.inputs, strict=True))
        raise _EnoughError

    handles.append(known.layers[0].register_forward_pre_hook(ask_all, with_kwargs=True))
    with _ended_early(handles):
        run()
    return said


def layer_errors(
    denoiser: Any, layers: Iterable[nn.Module], told: Callable[[], object], heard: Callable[[], object]
) -> Tensor:
    """How far each layer is from the base model's, whose input it gets: the mean over layers for each sample, (B,).

    Args:
        denoiser: of the layers.
        layers: its cross-attention, in any order.
        told: runs the base model under its own text.
        heard: runs it under the adapter, on the same latents.

    Raises:
        LLMDiffError: The layers read different texts.
    """
    with _without_checkpointing(denoiser):
        wanted = note(layers, told)
        if not wanted.shares_its_text:
            raise LLMDiffError(
                f"The layers of {type(denoiser).__name__} read different texts, so they cannot be taught one by one: "
                "use objective.distil in place of objective.distil_layers."
            )
        said = ask(wanted, heard)
    return relative_errors(said, wanted.outputs)


def relative_errors(said: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """The mean over layers of the squared error in units of what is wanted, for each sample: (B,)."""
    ratios = [_squares(one - other) / _squares(other).clamp(min=1e-12) for one, other in zip(said, wanted, strict=True)]
    return torch.stack(ratios).mean(0)


def _squares(features: Tensor) -> Tensor:
    return features.float().square().flatten(1).mean(1)


def _parted(args: Args, kwargs: Kwargs) -> tuple[Tensor, Kwargs]:
    """A layer's image features, and the rest of its arguments by their names."""
    named = dict(zip(ATTENTION_ARGUMENTS, args, strict=False)) | kwargs
    return named.pop("hidden_states"), named


def _same(one: object, other: object) -> bool:
    return one is other or not isinstance(other, Tensor)


@contextmanager
def _ended_early(handles: Iterable[Any]) -> Iterator[None]:
    """A region that ends where enough is known; the hooks are removed after it."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        with suppress(_EnoughError):
            yield


@contextmanager
def _without_checkpointing(denoiser: Any) -> Iterator[None]:
    """Within it, what is asked in a block is not asked again in `backward`."""
    if not denoiser.is_gradient_checkpointing:
        yield
        return
    denoiser.disable_gradient_checkpointing()
    try:
        yield
    finally:
        denoiser.enable_gradient_checkpointing()
