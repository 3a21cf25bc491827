"""The hooks by which an adapter takes part in a denoiser's forward pass; classes, because hooks must pickle.

Each does nothing where the context gives it no rows to read.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from llmdiff.adapter.branch import Branch
from llmdiff.adapter.context import Context
from llmdiff.adapter.layers import find_layers
from llmdiff.errors import LLMDiffError

CHILD = "llmdiff"  # the name under which a branch hangs on its layer
ATTENTION_ARGUMENTS = ("hidden_states", "encoder_hidden_states", "attention_mask")
Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class StartCall:
    """Before a denoiser or ControlNet: chooses the rows of the call and feeds it the text that they hold, if any.

    Args:
        context: of the adapter.
        arguments: names of what the model's ``forward`` takes, the sample first.
    """

    def __init__(self, context: Context, arguments: tuple[str, ...]) -> None:
        self.context = context
        self.arguments = arguments

    def __call__(self, model: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        named = dict(zip(self.arguments, args, strict=False)) | kwargs
        rows = self.context.start_call(named[self.arguments[0]])
        if rows is None or rows.text is None:
            return None
        text = rows.text
        named["encoder_hidden_states"] = text.features
        if text.pooled is not None:
            named["added_cond_kwargs"] = (named.get("added_cond_kwargs") or {}) | {"text_embeds": text.pooled}
        return (named.pop(self.arguments[0]),), named


class MaskPadding:
    """Before a layer, in replace mode: keeps it from attending padded tokens of φ(c), whoever passes a mask or not."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def __call__(self, layer: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        rows = self.context.rows
        if rows is None:
            return None
        named = dict(zip(ATTENTION_ARGUMENTS, args, strict=False)) | kwargs | {"attention_mask": rows.bias}
        return (named.pop("hidden_states"),), named


class AddBranch:
    """After a layer: adds the branch, through the layer's own output projection (method.md section 3)."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def __call__(self, layer: Any, args: Args, kwargs: Kwargs, output: Tensor) -> Tensor:
        rows = self.context.rows
        if rows is None:
            return output
        branch: Branch = getattr(layer, CHILD)
        attended = branch(args[0] if args else kwargs["hidden_states"], rows)
        # Asked of the module and not read off its weights: those may be offloaded, quantised or under a LoRA.
        project = layer.to_out[0]
        bias = project(torch.zeros_like(attended[:1, :1]))
        return branch.gate(output, project(attended) - bias, bias, self.context.scale)


class StockSaver:
    """Called in place of the ``save_pretrained`` of a denoiser that is attached: writes it as it was before.

    Args:
        denoiser: the one that is attached; its pipeline saves through it too.
        paths: of the layers that have branches.
    """

    def __init__(self, denoiser: Any, paths: list[str]) -> None:
        self.denoiser = denoiser
        self.paths = paths

    @property
    def __signature__(self) -> inspect.Signature:
        """A pipeline looks here for what it may ask of its parts."""
        return inspect.signature(type(self.denoiser).save_pretrained)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._without_branches():
            return type(self.denoiser).save_pretrained(self.denoiser, *args, **kwargs)

    @contextmanager
    def _without_branches(self) -> Iterator[None]:
        layers = [self.denoiser.get_submodule(path) for path in self.paths]
        branches = [layer._modules.pop(CHILD) for layer in layers]
        try:
            yield
        finally:
            for layer, branch in zip(layers, branches, strict=True):
                layer._modules[CHILD] = branch


def attach_reading(model: Any, context: Context) -> list[RemovableHandle]:
    """Registers the hooks by which a denoiser or ControlNet takes part in reading: the handles take them away again."""
    arguments = tuple(inspect.signature(model.forward).parameters)
    handles = [model.register_forward_pre_hook(StartCall(context, arguments), with_kwargs=True)]
    if context.mode == "replace":
        for layer in find_layers(model).values():
            handles.append(layer.register_forward_pre_hook(MaskPadding(context), with_kwargs=True))
    return handles


def attach_branches(denoiser: Any, branches: dict[str, Branch], context: Context) -> list[RemovableHandle]:
    """Hangs every branch on its layer and registers the hooks; the handles take the hooks away again.

    Raises:
        LLMDiffError: if the denoiser has an adapter already.
    """
    layers = find_layers(denoiser)
    if any(hasattr(layer, CHILD) for layer in layers.values()):
        raise LLMDiffError("The pipeline has an adapter already: detach that one first.")
    handles = attach_reading(denoiser, context)
    for path, branch in branches.items():
        layers[path].add_module(CHILD, branch)
        handles.append(layers[path].register_forward_hook(AddBranch(context), with_kwargs=True))
    denoiser.save_pretrained = StockSaver(denoiser, list(branches))
    return handles


def detach_branches(denoiser: Any, branches: dict[str, Branch], handles: list[RemovableHandle]) -> None:
    """Undoes ``attach_branches``."""
    for handle in handles:
        handle.remove()
    del denoiser.save_pretrained
    for path in branches:
        delattr(denoiser.get_submodule(path), CHILD)
