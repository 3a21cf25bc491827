"""The hooks by which an adapter takes part in a denoiser's forward pass; classes, because hooks must pickle."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from llmdiff.adapter.branch import Branch
from llmdiff.adapter.config import Mode
from llmdiff.adapter.context import Context
from llmdiff.adapter.layers import find_layers
from llmdiff.errors import LLMDiffError

CHILD = "llmdiff"  # the name under which a branch hangs on its layer
ATTENTION_ARGUMENTS = ("hidden_states", "encoder_hidden_states", "attention_mask")


class StartCall:
    """Before the denoiser: chooses the rows of the call."""

    def __init__(self, context: Context, mode: Mode) -> None:
        self.context = context
        self.mode = mode

    def __call__(self, denoiser: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.mode == "augment" and self.context.scale == 0:
            return
        sample: Tensor = args[0] if args else kwargs["sample" if "sample" in kwargs else "hidden_states"]
        self.context.start_call(sample)


class FeedProjection:
    """Before a layer, in replace mode: gives it φ(c) for the text features, with the padding masked."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def __call__(
        self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        rows = self.context.rows
        if rows is None:
            return args, kwargs
        named = dict(zip(ATTENTION_ARGUMENTS, args, strict=False)) | kwargs
        text = named.get("encoder_hidden_states")
        # An IP-Adapter makes it a pair: text features and image features.
        fed = (rows.projected, *text[1:]) if isinstance(text, tuple) else rows.projected
        named |= {"encoder_hidden_states": fed, "attention_mask": rows.bias}
        return (named.pop("hidden_states"),), named


class AddBranch:
    """After a layer: adds the branch, through the layer's own output projection (method.md section 3)."""

    def __init__(self, context: Context, mode: Mode) -> None:
        self.context = context
        self.mode = mode

    def __call__(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        rows, scale = self.context.rows, self.context.scale
        if rows is None or (self.mode == "augment" and scale == 0):
            return output
        branch: Branch = getattr(layer, CHILD)
        attended = branch(args[0] if args else kwargs["hidden_states"], rows)
        # Asked of the module and not read off its weights: those may be offloaded, quantised or under a LoRA.
        project = layer.to_out[0]
        bias = project(torch.zeros_like(attended[:1, :1]))
        return branch.gate(output, project(attended) - bias, bias, scale)


def attach_branches(
    denoiser: nn.Module, branches: dict[str, Branch], context: Context, mode: Mode
) -> list[RemovableHandle]:
    """Hangs every branch on its layer and registers the hooks; the handles take the hooks away again.

    Raises:
        LLMDiffError: if the denoiser has an adapter already.
    """
    layers = find_layers(denoiser)
    if any(hasattr(layer, CHILD) for layer in layers.values()):
        raise LLMDiffError("The pipeline has an adapter already: detach that one first.")
    handles = [denoiser.register_forward_pre_hook(StartCall(context, mode), with_kwargs=True)]
    for path, branch in branches.items():
        layers[path].add_module(CHILD, branch)
        if mode == "replace":
            handles.append(layers[path].register_forward_pre_hook(FeedProjection(context), with_kwargs=True))
        handles.append(layers[path].register_forward_hook(AddBranch(context, mode), with_kwargs=True))
    return handles


def detach_branches(denoiser: nn.Module, branches: dict[str, Branch], handles: list[RemovableHandle]) -> None:
    """Undoes ``attach_branches``."""
    for handle in handles:
        handle.remove()
    for path in branches:
        delattr(denoiser.get_submodule(path), CHILD)
