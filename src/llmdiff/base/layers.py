"""The cross-attention layers of a denoiser and their shapes; nothing here names a base model."""

from typing import Any, cast

from torch import nn

from llmdiff.base.description import LayerShape
from llmdiff.base.diffusers_internals import (
    PROJECTIONS,
    base_layer,
    blocks_of,
    has_bias,
    is_attention,
    is_cross_attention,
    normalises_query,
    unwrap,
)
from llmdiff.errors import LLMDiffError

PARTS = ("unet", "transformer")
"""The names by which pipelines hold their denoiser."""


def find_denoiser(pipe: Any) -> nn.Module:
    """The U-Net or transformer of a pipeline, without wrappers.

    Raises:
        LLMDiffError: if the pipeline has neither.
    """
    for name in PARTS:
        denoiser = getattr(pipe, name, None)
        if isinstance(denoiser, nn.Module):
            return unwrap(denoiser)
    kind = type(pipe).__name__
    raise LLMDiffError(
        f"{kind} has no unet or transformer: give a diffusers text-to-image pipeline, its components loaded."
    )


def has_denoiser(pipe: Any) -> bool:
    """Whether a pipeline holds a denoiser: a modular one may encode prompts alone."""
    return any(isinstance(getattr(pipe, name, None), nn.Module) for name in PARTS)


def find_controlnets(pipe: Any) -> list[nn.Module]:
    """The ControlNets of a pipeline that attend to text; the blocks of modular pipelines may call them as they like."""
    parts: list[Any] = [getattr(pipe, "controlnet", None)]
    if blocks_of(pipe) is not None:
        modules = [part for part in pipe.components.values() if isinstance(part, nn.Module)]
        parts = [module for module in modules if "ControlNet" in type(unwrap(module)).__name__]
    nets = [unwrap(net) for part in parts for net in getattr(part, "nets", [part]) if isinstance(net, nn.Module)]
    return [net for net in nets if any(map(is_cross_attention, net.modules()))]


def find_layers(denoiser: nn.Module) -> dict[str, nn.Module]:
    """Every cross-attention layer of a denoiser that reads its text, by module path.

    Raises:
        LLMDiffError: if there is none.
    """
    layers = {path: module for path, module in denoiser.named_modules() if is_cross_attention(module)}
    layers = {path: layer for path, layer in layers.items() if _attends_text(denoiser, layer)}
    if not layers:
        raise LLMDiffError(
            f"{type(denoiser).__name__} has no cross-attention layer that an adapter can join: use a base model with "
            "separate cross-attention, such as Stable Diffusion 1.x and 2.x, SDXL, PixArt or Sana "
            "(in SD3, Flux and Kandinsky 2.2 text and image are attended together)."
        )
    return layers


def layer_shape(denoiser: nn.Module, path: str, layer: Any) -> LayerShape:
    """The shape of one cross-attention layer."""
    to_q, to_k = base_layer(layer.to_q), base_layer(layer.to_k)
    return LayerShape(
        query=to_q.in_features,
        inner=to_q.out_features,
        heads=layer.heads,
        context=to_k.in_features,
        bias=has_bias(to_q),
        normalise_query=not normalises_query(denoiser.get_submodule(path.rpartition(".")[0])),
    )


def find_attentions(denoiser: nn.Module) -> dict[str, nn.Module]:
    """Every attention layer of a denoiser by module path, self-attention too."""
    return {path: module for path, module in denoiser.named_modules() if is_attention(module)}


def projection_shapes(denoiser: nn.Module) -> dict[str, tuple[int, int]]:
    """Width in and width out of the linear maps of every attention layer, by module path."""
    shapes = {}
    for path, attention in find_attentions(denoiser).items():
        for name in PROJECTIONS:
            linear = base_layer(attention.get_submodule(name))
            if hasattr(linear, "in_features"):
                shapes[f"{path}.{name}"] = (int(linear.in_features), int(linear.out_features))
    return shapes


def _attends_text(denoiser: Any, layer: Any) -> bool:
    """True if a layer attends to features of the width that the denoiser's config states, if it states one.

    Kandinsky 3 makes its self-attention of layers that say they are cross-attention: of the pictures' width.
    """
    widths = denoiser.config.get("cross_attention_dim")
    widths = cast(list[Any], list(widths) if isinstance(widths, list | tuple) else [widths])
    return None in widths or base_layer(layer.to_k).in_features in widths
