"""Distillation layer by layer: the output of each cross-attention layer of the base model is that layer's target.

The base model, the teacher, runs under its own text as far as its last cross-attention, and each layer's input and
output are recorded. Then it runs under the adapter, as the student, as far as its first, where all layers are replayed,
each on the recorded input: no layer has to make up for another's errors, nothing is propagated back through the
denoiser, most of which does not run again, and an error about a small thing weighs as much as its share of the layer,
and not of the picture. After FitNets (arXiv 1412.6550); not in Dong et al. 2024 **[choice]**.

Letters in shapes: B batch, N image tokens, Q width of the image features.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from llmdiff.adapter.hooks import Args, Kwargs
from llmdiff.base.diffusers_internals import ATTENTION_ARGUMENTS
from llmdiff.errors import LLMDiffError


@dataclass
class Recording:
    """The inputs and outputs of layers in a pass of the denoiser, in the order in which they ran.

    Attributes:
        layers: the modules.
        inputs: (B, N, Q) of each layer.
        outputs: (B, N, Q) of each layer.
        texts: the other arguments of each layer, by name.
    """

    layers: list[nn.Module] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    texts: list[Kwargs] = field(default_factory=list)

    @property
    def shares_its_text(self) -> bool:
        """True if all layers read the same."""
        return all(_same(text.get(name), one) for text in self.texts for name, one in self.texts[0].items())


class _EnoughError(Exception):
    """The rest of a pass is not needed."""


def record(layers: Iterable[nn.Module], run: Callable[[], object]) -> Recording:
    """Records a pass of the denoiser, which ends when each layer has run.

    Args:
        layers: its cross-attention, in any order.
        run: calls the denoiser.
    """
    each, recording = list(layers), Recording()

    @torch.compiler.disable
    def add(layer: nn.Module, args: Args, kwargs: Kwargs, output: Tensor) -> None:
        features, text = _split(args, kwargs)
        recording.layers.append(layer)
        recording.inputs.append(features)
        recording.outputs.append(output)
        recording.texts.append(text)
        if len(recording.layers) == len(each):
            raise _EnoughError

    with _ended_early(layer.register_forward_hook(add, with_kwargs=True) for layer in each):
        run()
    return recording


def replay(recording: Recording, run: Callable[[], object]) -> list[Tensor]:
    """The output of each layer on its recorded input, under the text that its denoiser is called with now.

    Args:
        recording: of layers that share their text.
        run: calls the denoiser, with the adapter attached, whose hooks run before those of here.

    Returns:
        (B, N, Q) of each layer.
    """
    outputs: list[Tensor] = []
    handles: list[Any] = []

    @torch.compiler.disable
    def run_all(layer: nn.Module, args: Args, kwargs: Kwargs) -> None:
        handles.pop().remove()
        _, text = _split(args, kwargs)
        pairs = zip(recording.layers, recording.inputs, strict=True)
        outputs.extend(one(features, **text) for one, features in pairs)
        raise _EnoughError

    handles.append(recording.layers[0].register_forward_pre_hook(run_all, with_kwargs=True))
    with _ended_early(handles):
        run()
    return outputs


def layer_errors(
    denoiser: Any, layers: Iterable[nn.Module], teacher: Callable[[], object], student: Callable[[], object]
) -> Tensor:
    """The distance of each layer from the base model's, whose input it gets: the mean over layers of each sample, (B,).

    Args:
        denoiser: of the layers.
        layers: its cross-attention, in any order.
        teacher: runs the base model under its own text.
        student: runs it under the adapter, on the same latents.

    Raises:
        LLMDiffError: The layers read different texts.

    Example:
        >>> errors = layer_errors(unet, layers, lambda: unet(noisy, t, text), lambda: unet(noisy, t, features))
        >>> errors.mean().backward()
    """
    with _without_checkpointing(denoiser):
        recording = record(layers, teacher)
        if not recording.shares_its_text:
            raise LLMDiffError(
                f"The layers of {type(denoiser).__name__} read different texts, so they cannot be taught one by one: "
                "use objective.distil in place of objective.distil_layers."
            )
        outputs = replay(recording, student)
    return relative_errors(outputs, recording.outputs)


def relative_errors(outputs: list[Tensor], targets: list[Tensor]) -> Tensor:
    """The mean over layers of the squared error in units of the target's square, for each sample: (B,)."""
    pairs = zip(outputs, targets, strict=True)
    ratios = [_squares(one - other) / _squares(other).clamp(min=1e-12) for one, other in pairs]
    return torch.stack(ratios).mean(0)


def _squares(features: Tensor) -> Tensor:
    return features.float().square().flatten(1).mean(1)


def _split(args: Args, kwargs: Kwargs) -> tuple[Tensor, Kwargs]:
    """A layer's image features, and the rest of its arguments by their names."""
    named = dict(zip(ATTENTION_ARGUMENTS, args, strict=False)) | kwargs
    return named.pop("hidden_states"), named


def _same(one: object, other: object) -> bool:
    return one is other or not isinstance(other, Tensor)


@contextmanager
def _ended_early(handles: Iterable[Any]) -> Iterator[None]:
    """A region that ends where the pass does; the hooks are removed after it."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        with suppress(_EnoughError):
            yield


@contextmanager
def _without_checkpointing(denoiser: Any) -> Iterator[None]:
    """Within it, no block is run again in `backward`."""
    if not denoiser.is_gradient_checkpointing:
        yield
        return
    denoiser.disable_gradient_checkpointing()
    try:
        yield
    finally:
        denoiser.enable_gradient_checkpointing()
