"""One optimizer step: as it is on a CPU, and on a GPU as one CUDA graph, which has no launches to wait for."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Batch = Sequence[Tensor]
_WARM_UP = 3  # steps before the capture, in which libraries choose kernels and compilers compile


class Step:
    """Loss, gradients, their clipping, and the optimizer's update.

    Args:
        loss: of a batch: figures (F,), of which the first is minimised.
        parameters: that train.
        optimizer: with `capturable` if `graphed`.
        clip: largest norm of the gradient.
        graphed: True to capture the step as a CUDA graph after a few steps. If the capture fails, a warning says why
            and the steps go on as they are.
    """

    def __init__(
        self,
        loss: Callable[..., Tensor],
        parameters: list[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        clip: float,
        graphed: bool,
    ) -> None:
        self._loss, self._parameters, self._optimizer, self._clip = loss, parameters, optimizer, clip
        self._graphed = graphed
        self._warm = 0
        self._graph: Any = None
        self._places: list[Tensor] = []
        self._figures = torch.zeros(())

    def __call__(self, batch: Batch) -> Tensor:
        """One step on a batch; its figures (F,), which the next step may write over."""
        if not self._graphed:
            return self._plain(batch)
        if self._warm < _WARM_UP:
            self._warm += 1
            return self._beside(batch)
        if self._graph is None and not self._captured(batch):
            return self._plain(batch)
        for place, value in zip(self._places, batch, strict=True):
            place.copy_(value)
        self._graph.replay()
        return self._figures

    def _plain(self, batch: Batch) -> Tensor:
        self._optimizer.zero_grad(set_to_none=True)
        figures = self._loss(*batch)
        figures[0].backward()
        nn.utils.clip_grad_norm_(self._parameters, self._clip)
        self._optimizer.step()
        return figures.detach()

    def _beside(self, batch: Batch) -> Tensor:
        """A step on a stream of its own, as a capture wants its warm-up."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            figures = self._plain(batch)
        torch.cuda.current_stream().wait_stream(stream)
        return figures

    def _captured(self, batch: Batch) -> bool:
        """Captures the step, which does not run it; False where that fails."""
        self._places = [value.clone() for value in batch]
        graph = torch.cuda.CUDAGraph()
        self._optimizer.zero_grad(set_to_none=True)
        try:
            with torch.cuda.graph(graph):
                self._figures = self._plain(self._places)
        except RuntimeError as error:
            warnings.warn(f"The step is not captured as a CUDA graph, which makes it slower: {error}", stacklevel=3)
            self._graphed = False
            return False
        self._graph = graph
        return True
