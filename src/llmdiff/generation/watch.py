"""A pipeline's call as seen from outside: how far it is, and where its numbers stop being finite.

A pipeline shows a number that is not finite as black or white, without a word.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor, nn

from llmdiff.errors import LLMDiffError

StepProgress = Callable[[float], None]  # called with the finished share of a picture, 0 … 1
LatentsProgress = Callable[[float, Tensor], None]  # and with the latents, (B, c, H, W), of the pictures of a call


class Watch:
    """What one call of a pipeline shows of itself.

    Args:
        on_step: called after every step; what it raises ends the call.
        on_latents: called after every step whose latents are reported; it may decode them.

    Attributes:
        latents: those after the last step that was reported, None before the first.
        decoded: what its VAE's decoder made of them, one for each tile; empty before, and of VAEs without one.
    """

    def __init__(self, on_step: StepProgress | None = None, on_latents: LatentsProgress | None = None) -> None:
        self.on_step = on_step
        self.on_latents = on_latents
        self.latents: Tensor | None = None
        self.decoded: list[Tensor] = []

    def note(self, share: float, latents: Any) -> None:
        """Takes down a finished step."""
        self.latents = latents if isinstance(latents, Tensor) else None
        if self.on_step is not None:
            self.on_step(min(1.0, share))
        if self.on_latents is not None and self.latents is not None:
            self.on_latents(min(1.0, share), self.latents)
            self.decoded.clear()  # previews: the picture itself is decoded after the last step

    @contextmanager
    def decoding(self, pipe: Any) -> Iterator[None]:
        """Within this context, what the VAE of a pipeline decodes is taken down."""
        decoder = getattr(getattr(pipe, "vae", None) or getattr(pipe, "movq", None), "decoder", None)
        if not isinstance(decoder, nn.Module):
            yield
            return

        def take(_module: nn.Module, _args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                self.decoded.append(output.isfinite().all())

        handle = decoder.register_forward_hook(take)
        try:
            yield
        finally:
            handle.remove()

    def check(self, what: str, pixels: np.ndarray | None = None) -> None:
        """Raises LLMDiffError, naming where it was seen first, unless all numbers of the call are finite.

        Args:
            what: what it drew in words ("The picture of 'a cup' (seed 7)").
            pixels: (..., height, width, channels), where they are known before they are made a picture.
        """
        if all(self.decoded) and (pixels is None or np.isfinite(pixels).all()):
            return
        latents = self.latents is not None and not self.latents.isfinite().all()
        where = "the latents that the denoiser made are" if latents else "what the VAE decoded is"
        raise LLMDiffError(
            f"{what} is not finite, {where} not: weights of the base model or of the adapter are damaged, or too large "
            "for float16; use a version of the model that is made for float16, or draw with --device cpu."
        )
