"""Which encoding each row of a denoiser call reads: the side channel between a prompt and the layers.

Letters in shapes: R rows of the call, S text tokens, D LLM width, W width of the denoiser's text features, P width of
its pooled text vector.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from llmdiff.adapter.config import Mode
from llmdiff.errors import LLMDiffError
from llmdiff.language import Encoding

KeyValue = tuple[Tensor, Tensor]
MASKED = -10000.0  # what diffusers itself adds to the scores of masked tokens; fits float16


def may_remember() -> bool:
    """Whether tensors may be kept for the next denoising step: not with gradients, nor out of a compiled graph, whose
    memory is used again."""
    return not torch.is_grad_enabled() and not torch.compiler.is_compiling()


@dataclass(frozen=True)
class StandIn:
    """What a denoiser gets in place of an original text encoder's output, in replace mode (method.md section 3).

    Attributes:
        features: φ(c), (R, S, W), exact zeros at padding.
        pooled: the pooled vector, (R, P), if the denoiser takes one.
    """

    features: Tensor
    pooled: Tensor | None

    def to(self, device: torch.device, dtype: torch.dtype) -> "StandIn":
        """The same elsewhere."""
        pooled = None if self.pooled is None else self.pooled.to(device, dtype)
        return StandIn(self.features.to(device, dtype), pooled)


def last_token(encoding: Encoding) -> Tensor:
    """The vector of each prompt's last real token, (R, D); zeros where there is none."""
    positions = torch.arange(encoding.mask.shape[1], device=encoding.mask.device)
    last = torch.where(encoding.mask, positions, 0).amax(1)
    vectors = encoding.embeds[torch.arange(len(encoding), device=last.device), last]
    return vectors.masked_fill(~encoding.mask.any(1, keepdim=True), 0)


@dataclass
class Rows:
    """The encoding of every row of one denoiser call.

    Attributes:
        embeds: c, (R, S, D), exact zeros at padding.
        mask: (R, S) bool, True at real tokens.
        text: φ(c) and the pooled vector of every row, in replace mode.
        attendable: (R, 1, 1, S) bool for ``scaled_dot_product_attention``. A row without any token attends its padding,
            which is zeros: a softmax over nothing would be NaN.
        bias: (R, 1, S), what diffusers' own attention adds to its scores.
    """

    embeds: Tensor
    mask: Tensor
    text: StandIn | None = None
    _memory: dict[nn.Module, KeyValue] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.attendable = (self.mask | ~self.mask.any(1, keepdim=True))[:, None, None]
        self.bias = torch.zeros_like(self.mask, dtype=self.embeds.dtype).masked_fill(~self.mask, MASKED)[:, None]

    def recall(self, branch: nn.Module, compute: Callable[[Tensor], KeyValue]) -> KeyValue:
        """Keys and values of a branch: the same at all denoising steps, so computed once where no gradient is asked."""
        if not may_remember():
            return compute(self.embeds)
        if branch not in self._memory:
            self._memory[branch] = compute(self.embeds)
        return self._memory[branch]


class Binding:
    """The encodings of one pipeline call or training step.

    Args:
        positive: one encoding per image.
        negative: as many, if there is guidance.
        stand_in: makes the denoiser's text inputs, in replace mode.
    """

    def __init__(
        self,
        positive: Encoding,
        negative: Encoding | None = None,
        stand_in: Callable[[Encoding], StandIn] | None = None,
    ) -> None:
        self.positive = positive
        self.guided = None if negative is None else Encoding.cat([negative, positive])
        self._stand_in = stand_in
        self._views: dict[tuple[int, torch.device, torch.dtype], Rows] = {}

    def rows(self, sample: Tensor) -> Rows:
        """The rows that a call with this sample reads, on its device and in its dtype.

        Guidance stacks [negative; positive] and can end in mid-run: the batch size tells which of the two it is.

        Raises:
            LLMDiffError: if the batch size is neither.
        """
        if not may_remember():
            return self._select(sample)
        wanted = (sample.shape[0], sample.device, sample.dtype)
        if wanted not in self._views:
            self._views[wanted] = self._select(sample)
        return self._views[wanted]

    def _select(self, sample: Tensor) -> Rows:
        encoding = self._of_size(sample.shape[0])
        text = None if self._stand_in is None else self._stand_in(encoding).to(sample.device, sample.dtype)
        moved = encoding.to(sample.device, sample.dtype)
        return Rows(moved.embeds.masked_fill(~moved.mask[..., None], 0), moved.mask, text)

    def _of_size(self, batch: int) -> Encoding:
        for encoding in (self.positive, self.guided):
            if encoding is not None and len(encoding) == batch:
                return encoding
        known = [str(len(e)) for e in (self.positive, self.guided) if e is not None]
        raise LLMDiffError(
            f"The denoiser was called with a batch of {batch}, but the prompts make {' or '.join(known)}: "
            "call it with one row per prompt and image, or one per negative prompt and one per prompt."
        )


class Context:
    """What an adapter's hooks share: the dial, the current binding and the rows of the current call.

    The rows outlive their call, since gradient checkpointing runs the layers again in ``backward``. Copies and pickles
    of a denoiser that is attached carry mode and dial alone.

    Attributes:
        mode: of the adapter.
        scale: the dial on the new branches.
        asleep: whether the base model is to run as if there were no adapter.
        binding: the encodings that the next calls read.
    """

    def __init__(self, mode: Mode, scale: float = 1.0) -> None:
        self.mode = mode
        self.scale = scale
        self.asleep = False
        self.release()

    def __getstate__(self) -> dict[str, Any]:
        return vars(Context(self.mode, self.scale))

    def release(self) -> None:
        """Forgets what is bound."""
        self.binding: Binding | None = None
        self._rows: Rows | None = None

    @property
    def idle(self) -> bool:
        """Whether the dial turns the adapter off: in replace mode φ(c) is read at any scale."""
        return self.mode == "augment" and self.scale == 0

    @property
    def rows(self) -> Rows | None:
        """What the layers read now; None where the base model is to run as if there were no adapter."""
        return None if self.asleep or self.idle else self._rows

    def start_call(self, sample: Tensor) -> Rows | None:
        """Chooses the rows of a denoiser call from the batch size of its sample, (R, ...), and returns `rows`.

        Raises:
            LLMDiffError: if there are rows to read and nothing is bound.
        """
        if self.asleep or self.idle:
            return None
        if self.binding is None:
            raise LLMDiffError(
                "The attached adapter has no encoding for this call: give the pipeline a prompt while the scale is not "
                "0, or call the denoiser inside adapter.conditioned(encoding)."
            )
        self._rows = self.binding.rows(sample)
        return self._rows
