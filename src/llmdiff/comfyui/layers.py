"""The cross-attention layers of ComfyUI's U-Nets, by the module paths that an adapter has of them: diffusers' own.

ComfyUI keeps the layout of the original repositories of Stable Diffusion. There the blocks of all levels are numbered
through: ``input_blocks`` begin with a convolution, then every level has its residual blocks, each perhaps with an
attention, and a downsampler; ``output_blocks`` have one residual block more at every level, and no module of their own
for the upsampler.
"""

import re
from collections.abc import Sequence
from typing import Any

from torch import nn

from llmdiff.base import BaseDescription, LayerShape
from llmdiff.errors import LLMDiffError

Block = tuple[str, int, int]
"""A transformer block, as ComfyUI tells its patches where they are: side, number on that side, number in its stack."""
CROSS_ATTENTION = ".attn2"
_PARTS = ("input_blocks", "middle_block", "output_blocks", "num_res_blocks")
_OF_DIFFUSERS = re.compile(r"(?:(down|up)_blocks\.(\d+)|mid_block)\.attentions\.(\d+)\.(.+)")
_OF_COMFYUI = re.compile(r"(?:(input|output)_blocks\.(\d+)|(middle)_block)\.1\.transformer_blocks\.(\d+)\.")


def original_path(path: str, res_blocks: Sequence[int]) -> str:
    """The module path in the original layout of what is in an attention stack of diffusers' U-Net.

    Args:
        path: of a module in ``attentions`` of ``down_blocks``, ``mid_block`` or ``up_blocks``.
        res_blocks: how many residual blocks each level has, from the outermost.

    Raises:
        LLMDiffError: if the path is none of such a module.

    Example:
        >>> original_path("down_blocks.1.attentions.0.transformer_blocks.0.attn2", [2, 2, 2, 2])
        'input_blocks.4.1.transformer_blocks.0.attn2'
    """
    found = _OF_DIFFUSERS.fullmatch(path)
    if found is None or (found[2] and int(found[2]) >= len(res_blocks)):
        raise LLMDiffError(
            f"There is no layer {path} in ComfyUI's U-Nets: use an adapter for Stable Diffusion 1.x, 2.x or SDXL."
        )
    side, level, place, rest = found[1], int(found[2] or 0), int(found[3]), found[4]
    if side is None:
        return f"middle_block.{1 + 2 * place}.{rest}"
    if side == "down":
        return f"input_blocks.{1 + place + sum(count + 1 for count in res_blocks[:level])}.1.{rest}"
    deeper = list(res_blocks)[::-1][:level]
    return f"output_blocks.{place + sum(count + 1 for count in deeper)}.1.{rest}"


def block_of(path: str) -> Block:
    """The transformer block of a module, from its path in the original layout.

    Example:
        >>> block_of("middle_block.1.transformer_blocks.3.attn2")
        ('middle', 0, 3)
    """
    found = _OF_COMFYUI.match(path)
    assert found is not None, path
    return found[1] or found[3], int(found[2] or 0), int(found[4])


def find_layers(unet: Any, recorded: BaseDescription) -> dict[str, nn.Module]:
    """The cross-attention layers of ComfyUI's U-Net, by their paths in diffusers.

    Args:
        unet: the ``diffusion_model`` of a ComfyUI model.
        recorded: the image model that the adapter was made for.

    Raises:
        LLMDiffError: naming the first difference, if the model is of another shape than that.
    """
    advice = f"this adapter was made for {recorded.name or recorded.denoiser}, apply it to a model of that family"
    kind = type(unet).__name__
    if not all(hasattr(unet, part) for part in _PARTS):
        raise LLMDiffError(f"{kind} is no U-Net like those of Stable Diffusion 1.x, 2.x and SDXL: {advice}.")
    own = {path: module for path, module in unet.named_modules() if path.endswith(CROSS_ATTENTION)}
    layers = {}
    for path, shape in recorded.layers.items():
        layer = own.pop(original_path(path, unet.num_res_blocks), None)
        if layer is None:
            raise LLMDiffError(f"The model has no cross-attention layer {path}: {advice}.")
        for field, actual in _shape(layer).items():
            if actual != (expected := getattr(shape, field)):
                raise LLMDiffError(f"Layer {path} of the model has {field} {actual}, not {expected}: {advice}.")
        layers[path] = layer
    if own:
        raise LLMDiffError(f"The adapter has no branch for the model's layer {next(iter(own))}: {advice}.")
    return layers


def _shape(layer: Any) -> dict[str, int | bool]:
    """The fields of a `LayerShape` that a layer of ComfyUI tells; its image features are always normalised."""
    shape = LayerShape(
        query=layer.to_q.in_features,
        inner=layer.to_q.out_features,
        heads=layer.heads,
        context=layer.to_k.in_features,
        bias=layer.to_q.bias is not None,
    )
    return shape.model_dump()
