"""One picture of several texts: the mean of their predictions at each step of denoising (docs/proxy.md).

Letters in shapes: G groups that guidance stacks (one without it), B pictures, N texts of each, C channels, H and W the
size of the latents.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from llmdiff.errors import LLMDiffError


@contextmanager
def averaged(denoiser: nn.Module, count: int) -> Iterator[None]:
    """Within this context, of each `count` rows that follow one another a denoiser predicts the mean for all.

    A pipeline that is called with N texts of a picture, and the same noise for each, then takes N equal steps: their
    latents stay the same.

    Args:
        denoiser: a U-Net or transformer of diffusers.
        count: N; with 1, nothing is changed.

    Raises:
        LLMDiffError: when it is called with rows that are no multiple of N.

    Example:
        >>> with averaged(pipe.unet, 2):
        ...     generators = [torch.Generator().manual_seed(7) for _ in range(2)]
        ...     image = pipe(["a red cup", "a crimson mug"], generator=generators, num_inference_steps=2).images[0]
    """
    if count == 1:
        yield
        return
    handle = denoiser.register_forward_hook(_Mean(count))
    try:
        yield
    finally:
        handle.remove()


class _Mean:
    """The hook, as an object because hooks must be picklable."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __call__(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (self._mean(output[0]), *output[1:])
        return type(output)(sample=self._mean(output.sample))

    def _mean(self, predicted: Tensor) -> Tensor:
        """(G·B·N, C, H, W) with the mean over N in each of its rows."""
        if len(predicted) % self._count:
            raise LLMDiffError(
                "This pipeline calls its denoiser row by row, so that several rewritings cannot be averaged: draw each "
                "by itself."
            )
        rows = predicted.unflatten(0, (-1, self._count))
        return rows.mean(1, keepdim=True).expand_as(rows).flatten(0, 1)
