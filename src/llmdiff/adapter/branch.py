"""The second cross-attention of one layer, which Dong et al. 2024 add to the image model (docs/method.md section 3).

Letters in shapes: B batch, N image tokens, S text tokens, Q width of the image features, I width over all heads,
E width of the encoding.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmdiff.adapter.conditioning import Prepared, Rows
from llmdiff.adapter.config import Mode
from llmdiff.base import LayerShape
from llmdiff.base.diffusers_internals import base_layer, visible_weight
from llmdiff.errors import LLMDiffError

# a2 at the start. With 0 an untrained adapter is the base model itself, which augment mode promises. Replace mode has
# no such promise to keep, and gradients reach τ from the first step only if a2 is not 0; it is small so that the
# untrained τ does not drown the frozen layer.
START_AUGMENT = 0.0
START_REPLACE = 0.1


class Gate(nn.Module):
    """The learned scalars of one layer: a2·e^{b2} for the new branch and, in replace mode, a1·e^{b1} for the old one.

    A module of its own, so that the names of its parameters are those of saved adapters; scalars of no dimension do not
    promote the dtype of what they multiply.
    """

    def __init__(self, mode: Mode) -> None:
        super().__init__()
        replace = mode == "replace"
        self.a2 = nn.Parameter(torch.tensor(START_REPLACE if replace else START_AUGMENT))
        self.b2 = nn.Parameter(torch.tensor(0.0))
        self.a1 = nn.Parameter(torch.tensor(1.0)) if replace else None
        self.b1 = nn.Parameter(torch.tensor(0.0)) if replace else None

    def new(self) -> Tensor:
        """a2·e^{b2}, the factor of the new branch."""
        return self.a2 * self.b2.exp()

    def own(self) -> Tensor | None:
        """a1·e^{b1}, the factor of the layer's own attention; None in augment mode, where it is 1."""
        return None if self.a1 is None or self.b1 is None else self.a1 * self.b1.exp()


class Branch(nn.Module):
    """attn(τ_q(q), τ_k(c), τ_v(c)) · a2·e^{b2} of one layer (docs/method.md section 3).

    Args:
        shape: of the layer to join.
        width: E.
        mode: of the adapter.

    Attributes:
        keeps_dtype: True while it is trained, when its weights must not be moved to the denoiser's dtype.

    Example:
        >>> branch = Branch(LayerShape(query=320, inner=320, heads=8, context=768), width=576, mode="augment")
        >>> rows = Rows(torch.randn(2, 77, 576), torch.ones(2, 77, dtype=torch.bool))
        >>> attended, own_factor = branch(torch.randn(2, 64, 320), rows, scale=1.0)
        >>> attended.shape
        torch.Size([2, 64, 320])
    """

    def __init__(self, shape: LayerShape, width: int, mode: Mode) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm = nn.LayerNorm(shape.query, elementwise_affine=False) if shape.normalise_query else nn.Identity()
        self.query = nn.Linear(shape.query, shape.inner, bias=shape.bias)
        # Without a bias, so that an empty encoding adds nothing.
        self.key = nn.Linear(width, shape.inner, bias=False)
        self.value = nn.Linear(width, shape.inner, bias=False)
        self.gate = Gate(mode)
        self.keeps_dtype = False

    def copy_query(self, layer: Any) -> None:
        """Starts τ_q as a copy of the layer's own query projection.

        Raises:
            LLMDiffError: if the layer's weights are not there to be copied (quantised or offloaded).
        """
        weight = visible_weight(layer.to_q)
        if weight is None or weight.shape != self.query.weight.shape:
            raise LLMDiffError(
                "The base model's weights are quantised or offloaded: create the adapter on the plain model."
            )
        bias = base_layer(layer.to_q).bias
        weights = {"weight": weight, "bias": bias} if bias is not None else {"weight": weight}
        self.query.load_state_dict(weights)

    def forward(self, image: Tensor, rows: Rows, scale: float) -> tuple[Tensor, Tensor | None]:
        """The attention of image features over the encoding, to be added before the layer's output projection.

        Args:
            image: (B, N, Q); B is a multiple of the R rows, whose frames follow each other.
            rows: of the call.
            scale: the user's dial on the branch.

        Returns:
            (B, N, I), exact zeros in rows whose encoding has no token; and a1·e^{b1}, the factor of the layer's own
            attention, None in augment mode.
        """
        key, value, own = rows.recall(self, lambda: self._state(scale), lambda embeds: self._prepare(embeds, scale))
        query = self.query(self.norm(image))
        batch, count, width = query.shape
        # All frames of a row attend the same keys: as if they were one picture of more places.
        query = self._split(query.reshape(key.shape[0], -1, width))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=rows.key_bias(query.dtype))
        return attended.transpose(1, 2).reshape(batch, count, width), own

    def follow(self, image: Tensor) -> None:
        """Moves to the device of image features, and to their dtype unless it trains or there is autocast."""
        follow(self, self.query.weight, image, self.keeps_dtype)

    def _state(self, scale: float) -> tuple[object, ...]:
        """Equal as long as keys and values are."""
        weights = (self.key.weight, self.value.weight, *self.gate.parameters())
        counts = [object() if weight.is_inference() else weight._version for weight in weights]
        return scale, *counts, self.key.weight.dtype, self.key.weight.device

    def _prepare(self, embeds: Tensor, scale: float) -> Prepared:
        """(R, S, E) to keys and gated values, each (R, heads, S, I / heads), and a1·e^{b1}."""
        embeds = embeds.to(self.key.weight.device, self.key.weight.dtype)
        value = self.value(embeds) * (scale * self.gate.new())
        return self._split(self.key(embeds)), self._split(value), self.gate.own()

    def _split(self, features: Tensor) -> Tensor:
        return features.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def follow(part: nn.Module, weight: Tensor, features: Tensor, keeps_dtype: bool) -> None:
    """Moves a part of an adapter to the device of features, and to their dtype unless it trains or there is autocast.

    Args:
        part: a branch or a LoRA.
        weight: one of its parameters.
        features: that it reads.
        keeps_dtype: whether it trains.
    """
    if weight.device == features.device and (keeps_dtype or weight.dtype == features.dtype):
        return
    keeps_dtype = keeps_dtype or torch.is_autocast_enabled(features.device.type)
    part.to(features.device, None if keeps_dtype else features.dtype)


def insert(tree: nn.ModuleDict, path: str, part: nn.Module) -> None:
    """Puts a part at a module path of the denoiser, so that its parameters' names are that path and their own."""
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in tree:
            tree[parent] = nn.ModuleDict()
        inner = tree[parent]
        assert isinstance(inner, nn.ModuleDict)
        tree = inner
    tree[name] = part
