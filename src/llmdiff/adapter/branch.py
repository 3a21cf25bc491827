"""The second cross-attention of one layer: the term that Dong et al. 2024 add to the image model (method.md section 3).

Letters in shapes: B batch, N image tokens, S text tokens, Q width of the image features, I width over all heads,
D LLM width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmdiff.adapter.config import LayerShape, Mode
from llmdiff.adapter.context import Rows
from llmdiff.adapter.layers import base_layer
from llmdiff.errors import LLMDiffError

# a2 at the start. With 0 an untrained adapter is the base model itself, which augment mode promises. Replace mode has
# no such promise to keep, and gradients reach τ from the first step only if a2 is not 0; it is small so that the
# untrained τ does not drown the frozen layer.
START_AUGMENT = 0.0
START_REPLACE = 0.1


class Gate(nn.Module):
    """The learned scalars of one layer: a2·e^{b2} for the new branch and, in replace mode, a1·e^{b1} for the old one.

    A module of its own, with scalars of no dimension: offloading hooks load parameters around a module's ``forward``,
    and a scalar of no dimension does not promote the dtype of what it multiplies.
    """

    def __init__(self, mode: Mode) -> None:
        super().__init__()
        replace = mode == "replace"
        self.a2 = nn.Parameter(torch.tensor(START_REPLACE if replace else START_AUGMENT))
        self.b2 = nn.Parameter(torch.tensor(0.0))
        self.a1 = nn.Parameter(torch.tensor(1.0)) if replace else None
        self.b1 = nn.Parameter(torch.tensor(0.0)) if replace else None

    def forward(self, own: Tensor, new: Tensor, bias: Tensor, scale: float) -> Tensor:
        """f of method.md section 3.

        Args:
            own: (B, N, Q), the layer's own output, bias included.
            new: (B, N, Q), the branch after the output projection, without its bias.
            bias: (Q,) or broadcastable, the output projection's bias.
            scale: the user's dial on the new branch.

        Returns:
            (B, N, Q), with the bias in it once.
        """
        new = new * (scale * self.a2 * self.b2.exp())
        if self.a1 is None or self.b1 is None:
            return own + new
        return (own - bias) * (self.a1 * self.b1.exp()) + bias + new


class Branch(nn.Module):
    """attn(τ_q(q), τ_k(c), τ_v(c)) of one layer, and the gate by which it joins the layer's output.

    The names of the projections differ from diffusers' on purpose: PEFT finds the targets of a LoRA by suffix. Keys
    and values have no bias, so that an empty encoding adds nothing.

    Args:
        shape: of the layer to join.
        width: D.
        mode: of the adapter.
    """

    def __init__(self, shape: LayerShape, width: int, mode: Mode) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm = nn.LayerNorm(shape.query, elementwise_affine=False) if shape.normalise_query else nn.Identity()
        self.query = nn.Linear(shape.query, shape.inner, bias=shape.bias)
        self.key = nn.Linear(width, shape.inner, bias=False)
        self.value = nn.Linear(width, shape.inner, bias=False)
        self.gate = Gate(mode)

    def copy_query(self, layer: Any) -> None:
        """Starts τ_q as a copy of the layer's own query projection.

        Raises:
            LLMDiffError: if the layer's weights are not there to be copied (quantised or offloaded).
        """
        own = base_layer(layer.to_q)
        if own.weight.shape != self.query.weight.shape or own.weight.is_meta:
            raise LLMDiffError(
                "The base model's weights are quantised or offloaded: create the adapter on the plain model."
            )
        weights = {"weight": own.weight, "bias": own.bias} if own.bias is not None else {"weight": own.weight}
        self.query.load_state_dict(weights)

    def forward(self, image: Tensor, rows: Rows) -> Tensor:
        """The attention of image features over the encoding, before the output projection.

        Args:
            image: (B, N, Q).
            rows: the encoding of each of the B rows.

        Returns:
            (B, N, I); exact zeros in rows whose encoding has no token.
        """
        key, value = rows.recall(self, self._key_value)
        query = self._split(self.query(self.norm(image)))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=rows.attendable)
        return attended.transpose(1, 2).flatten(2)

    def _key_value(self, embeds: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, D) to keys and values, each (B, heads, S, I / heads)."""
        return self._split(self.key(embeds)), self._split(self.value(embeds))

    def _split(self, features: Tensor) -> Tensor:
        return features.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def insert_branch(tree: nn.ModuleDict, path: str, branch: Branch) -> None:
    """Puts a branch at a module path, so that its parameters' names are the layer's path and their own."""
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in tree:
            tree[parent] = nn.ModuleDict()
        inner = tree[parent]
        assert isinstance(inner, nn.ModuleDict)
        tree = inner
    tree[name] = branch
