"""Conditioning as data: the encoding travels with the text features, row by row.

Each token's text features carry, behind their own W numbers, m whole vectors of the encoding c: a pipeline's
``prompt_embeds`` become (R, T, W + m·E). Whatever is done to their rows (stacked for guidance, split, repeated per
picture or frame, reordered, called one by one) is done to the encoding too, and so are sums and products. A pre-hook of
the denoiser takes them apart again; the width alone says whether there is an encoding. A vector of zeros is padding.

Letters in shapes: R rows of a denoiser call, T tokens of the text features, W their width, S tokens of the encoding,
E width of the encoding, I width of a layer over all heads, m = ⌈S / T⌉.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from llmdiff.errors import LLMDiffError
from llmdiff.language import Encoding

Prepared = tuple[Tensor, Tensor, Tensor | None]
"""The encoding as a branch attends it: keys, gated values, and the factor of the layer's own attention, if any."""
TEXT_TOKENS = 77
"""To multiples of this many tokens φ(c) is padded, as CLIP pads its text features."""
ALIGNED = 8
"""Of so many keys a multiple is attended where there is a mask: memory-efficient attention wants its rows aligned."""
MASKED = float("-inf")
"""What is added to the scores of padding."""


@dataclass(frozen=True)
class Text:
    """The features in place of the original text encoders' output, in replace mode (docs/method.md section 3).

    Attributes:
        prompt_embeds: φ(c), (R, T, W), exact zeros at padding.
        pooled_prompt_embeds: (R, P), if the denoiser takes a pooled vector.
    """

    prompt_embeds: Tensor
    pooled_prompt_embeds: Tensor | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> "Text":
        """The same elsewhere."""
        pooled = None if self.pooled_prompt_embeds is None else self.pooled_prompt_embeds.to(device, dtype)
        return Text(self.prompt_embeds.to(device, dtype), pooled)


def last_token(encoding: Encoding) -> Tensor:
    """The vector of each prompt's last real token, (R, E); zeros where there is none."""
    positions = torch.arange(encoding.mask.shape[1], device=encoding.mask.device)
    last = torch.where(encoding.mask, positions, 0).amax(1)
    vectors = encoding.embeds[torch.arange(len(encoding), device=last.device), last]
    return vectors.masked_fill(~encoding.mask.any(1, keepdim=True), 0)


def join(features: Tensor, encoding: Encoding, per_token: int | None = None) -> Tensor:
    """Text features with the encoding behind them.

    Args:
        features: (R, T, W).
        encoding: c, (R, S, E).
        per_token: m; as few as hold the encoding if None.

    Returns:
        (R, T, W + m·E), of the features' device and dtype.

    Raises:
        LLMDiffError: if there are not as many rows of both, or m·T vectors are too few.

    Example:
        >>> encoding = Encoding(torch.randn(2, 20, 576), torch.ones(2, 20, dtype=torch.bool))
        >>> join(torch.zeros(2, 77, 768), encoding).shape  # one vector behind each of 77 tokens
        torch.Size([2, 77, 1344])
    """
    rows, tokens, _ = features.shape
    if len(encoding) != rows:
        raise LLMDiffError(
            f"There are text features of {rows} prompts and encodings of {len(encoding)}: give as many of both."
        )
    per_token = per_token or vectors_per_token(encoding.embeds.shape[1], tokens)
    length = per_token * tokens
    if encoding.embeds.shape[1] > length:
        raise LLMDiffError(f"{encoding.embeds.shape[1]} vectors of an encoding do not fit behind {tokens} text tokens.")
    padded = encoding.pad(length).to(features.device, features.dtype)
    embeds = padded.embeds.masked_fill(~padded.mask[..., None], 0)
    return torch.cat([features, embeds.reshape(rows, tokens, -1)], -1)


def split(joined: Tensor, text_width: int, encoding_width: int) -> tuple[Tensor, Tensor | None]:
    """The text features (R, T, W) and the encoding's vectors (R, m·T, E), or None where there is none.

    Args:
        joined: (R, T, W + m·E), as `join` makes it, or plain text features (R, T, W).
        text_width: W.
        encoding_width: E.
    """
    extra = joined.shape[-1] - text_width
    if extra <= 0 or extra % encoding_width:
        return joined, None
    embeds = joined[..., text_width:].clone(memory_format=torch.contiguous_format)
    return joined[..., :text_width].clone(memory_format=torch.contiguous_format), embeds.view(
        joined.shape[0], -1, encoding_width
    )


def vectors_per_token(length: int, tokens: int) -> int:
    """m for encodings of so many tokens behind so many text tokens."""
    return max(1, -(-length // tokens))


def mask_of(embeds: Tensor) -> Tensor:
    """The mask of vectors (R, S, E): (R, S) bool, True at real tokens."""
    return (embeds != 0).any(-1)


def may_remember() -> bool:
    """True if tensors may be kept for the next denoising step: not with gradients, nor out of a compiled graph, whose
    memory is used again."""
    return not torch.is_grad_enabled() and not torch.compiler.is_compiling()


@dataclass
class Rows:
    """The encodings that the rows of one denoiser call read.

    Attributes:
        embeds: c, (R, S, E), exact zeros at padding.
        mask: (R, S) bool, True at real tokens.
        bias: (R, 1, S), what is added to the scores of attention: 0 at real tokens, `MASKED` at padding. A row without
            any token attends its padding, which is zeros: a softmax over nothing would be NaN.
    """

    embeds: Tensor
    mask: Tensor
    _kept: dict[nn.Module, tuple[object, Prepared]] = field(default_factory=dict, repr=False)
    _compact: tuple[Tensor, Tensor | None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        padding = ~self.mask & self.mask.any(1, keepdim=True)
        self.bias = torch.zeros_like(padding, dtype=self.embeds.dtype).masked_fill(padding, MASKED)[:, None]

    def recall(
        self, branch: nn.Module, version: Callable[[], object], compute: Callable[[Tensor], Prepared]
    ) -> Prepared:
        """The keys and values of a branch: the same at all denoising steps, so made once where no gradient is asked.

        Args:
            branch: whose it is.
            version: gives that of the branch's weights and scale; for another one it is made anew.
            compute: makes it of vectors (R, S, E).
        """
        if not may_remember():
            return compute(self.embeds)
        known, now = self._kept.get(branch), version()
        if known is None or known[0] != now:
            known = now, compute(self.compact()[0])
            self._kept[branch] = known
        return known[1]

    def key_bias(self, dtype: torch.dtype) -> Tensor | None:
        """The bias of the keys that `recall` gives, (R, 1, 1, S), for queries of a dtype; None without padding."""
        bias = self.compact()[1] if may_remember() else self.bias
        return None if bias is None else bias[:, None].to(dtype)

    def compact(self) -> tuple[Tensor, Tensor | None]:
        """The vectors without the padding that all rows share, and `bias` of those; None if none is padding."""
        if self._compact is None:
            lengths = self.mask.long().mul(torch.arange(1, self.mask.shape[1] + 1, device=self.mask.device)).amax(1)
            longest = max(1, int(lengths.max()))
            if not bool(self.mask[:, :longest].all()):
                longest = min(self.mask.shape[1], -(-longest // ALIGNED) * ALIGNED)
            bias = self.bias[..., :longest]
            self._compact = self.embeds[:, :longest], bias if bool((bias != 0).any()) else None
        return self._compact


class RowCache:
    """Features and rows of the very tensors that pipelines hand in again at each step.

    A tensor is known by its identity while it lives, and by its version counter: a view, a copy or a tensor that was
    changed in place is another one, and is taken apart anew. What is kept must not be a view of the tensor, or the
    tensor would live for ever.
    """

    def __init__(self) -> None:
        self._known = WeakTensorKeyDictionary()

    def __getstate__(self) -> dict[str, object]:
        return {}

    def __setstate__(self, state: dict[str, object]) -> None:
        self._known = WeakTensorKeyDictionary()

    def put(self, joined: Tensor, features: Tensor, rows: Rows) -> None:
        """Keeps what a tensor holds for as long as that lives."""
        self._known[joined] = _state(joined, torch.clone), features, rows

    def get(self, joined: Tensor) -> tuple[Tensor, Rows] | None:
        """The features and rows of a tensor, if it is known and has not been changed."""
        known = self._known.get(joined)
        return known[1:] if known is not None and _is_unchanged(joined, known[0]) else None


def _state(tensor: Tensor, copy: Callable[[Tensor], Tensor]) -> int | Tensor:
    """The state by which a change of a tensor is noticed: its version, or its values where torch counts no versions."""
    return copy(tensor) if tensor.is_inference() else tensor._version


def _is_unchanged(tensor: Tensor, before: int | Tensor) -> bool:
    now = _state(tensor, lambda same: same)
    if isinstance(now, Tensor) or isinstance(before, Tensor):
        return isinstance(now, Tensor) and isinstance(before, Tensor) and torch.equal(now, before)
    return now == before
