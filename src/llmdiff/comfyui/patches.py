"""What runs within the transformer blocks of a ComfyUI model, hung there by the patches that it offers.

A block hands its patches one and the same ``options``, made anew each time that it runs: what the model was called
with, and where they are. Through it the patches get the `Call`, and tell each other what the branch attended; so they
have no state, and there is none that another call could find.

Letters in shapes: B batch, N image tokens, Q width of the image features, I width over all heads, T text tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmdiff.adapter.branch import Branch
from llmdiff.adapter.conditioning import Rows
from llmdiff.adapter.config import Mode
from llmdiff.comfyui.layers import Block
from llmdiff.errors import LLMDiffError

CALL = "llmdiff"
"""The key of the `Call` in a model's ``transformer_options``."""
ATTENDED = "llmdiff_attended"
ATTENTION_REPLACED = (
    "Another node has put its own attention in the place of the model's (an IP-Adapter does), which an adapter in "
    "replace mode does too: use one of them, or an adapter in augment mode."
)
Options = dict[str, Any]


@dataclass(frozen=True)
class Joined:
    """A cross-attention layer with the branch that joins it."""

    layer: Any
    branch: Branch


@dataclass(frozen=True)
class Call:
    """One call of a model.

    Attributes:
        mode: of the adapter.
        rows: what its rows read.
        scale: of the branches.
        layers: by the transformer block that they are in.
    """

    mode: Mode
    rows: Rows
    scale: float
    layers: Mapping[Block, Joined]


def joined_layer(call: Call, options: Options) -> Joined:
    """The layer of the block that is running."""
    side, number = options["block"]
    return call.layers[side, number, options["block_index"]]


@torch.compiler.disable
def attend_branch(image: Tensor, context: Tensor, value: Tensor, options: Options) -> tuple[Tensor, Tensor, Tensor]:
    """Before a layer, an ``attn2_patch``: attends its branch.

    Args:
        image: (B, N, Q), what the layer's queries are made of.
        context: (B, T, W), what its keys are made of.
        value: (B, T, W), what its values are made of.
        options: of the block.

    Returns:
        What the layer is to read: just that.
    """
    call: Call | None = options.get(CALL)
    if call is not None:
        if image.shape[0] % call.rows.embeds.shape[0]:
            raise LLMDiffError(
                f"A cross-attention layer was given {image.shape[0]} rows in a call of {call.rows.embeds.shape[0]}: "
                "take away the node that splits the rows of a call within the model."
            )
        branch = joined_layer(call, options).branch
        branch.follow(image)
        options[ATTENDED] = branch(image, call.rows, call.scale)
    return image, context, value


@torch.compiler.disable
def attend_text(query: Tensor, key: Tensor, value: Tensor, options: Options) -> Tensor:
    """In the place of a layer's own attention, in replace mode, an ``attn2`` of ``patches_replace``.

    It is that of φ(c) without its padding, times a1·e^{b1}, with what the branch attended (docs/method.md section 3).

    Args:
        query: (B, N, I).
        key: (B, T, I).
        value: (B, T, I).
        options: of the block.

    Returns:
        (B, N, I), for the layer's output projection.
    """
    call: Call | None = options.get(CALL)
    heads, precision = options["n_heads"], options.get("attn_precision")
    query, key, kept = _split(query, heads), _split(key, heads), _split(value, heads)
    if precision is not None:  # of models whose scores overflow float16
        query, key, kept = query.to(precision), key.to(precision), kept.to(precision)
    bias = None
    if call is not None:
        bias = call.rows.bias[:, None].to(query).repeat_interleave(query.shape[0] // call.rows.bias.shape[0], 0)
    own = F.scaled_dot_product_attention(query, key, kept, attn_mask=bias).transpose(1, 2).flatten(2).to(value.dtype)
    attended, factor = options.pop(ATTENDED, (None, None))
    if attended is None:
        return own
    return own + attended if factor is None else torch.addcmul(attended, own, factor)


@torch.compiler.disable
def add_branch(output: Tensor, options: Options) -> Tensor:
    """After a layer, an ``attn2_output_patch``: adds what the branch attended, through the layer's output projection.

    The projection is linear but for its bias, which is in the output already: it is what a token of zeros gives.

    Args:
        output: (B, N, Q).
        options: of the block.

    Returns:
        (B, N, Q).
    """
    attended, _ = options.pop(ATTENDED, (None, None))
    if attended is None:
        return output
    call: Call = options[CALL]
    if call.mode == "replace":
        raise LLMDiffError(ATTENTION_REPLACED)
    projected = joined_layer(call, options).layer.to_out(F.pad(attended, (0, 0, 0, 1)))
    return output + (projected[:, :-1] - projected[:, -1:])


def _split(features: Tensor, heads: int) -> Tensor:
    return features.unflatten(-1, (heads, -1)).transpose(1, 2)
