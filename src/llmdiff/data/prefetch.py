"""The pixels of a run's coming steps, read and decoded by worker processes while a step is under way.

Letters in shapes: B pictures of a step that this process needs, H and W their height and width.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from llmdiff.errors import LLMDiffError


class Pixels(Protocol):
    """Pixels of pictures by number, as `Captioned` has them."""

    def __len__(self) -> int: ...

    def pixels(self, index: int) -> Tensor:
        """Float (3, H, W) in -1..1."""
        ...


class Prefetcher:
    """The pixels of one step after the other; what a step gets does not depend on workers, nor on where they begin.

    Args:
        data: the pictures; each worker gets a copy.
        pictures: the numbers of those that this process needs in a step, B of them and of one size.
        steps: of the run.
        workers: the number of processes; each is ahead by a step.

    Example:
        >>> prefetcher = Prefetcher(data, lambda step: [2 * step, 2 * step + 1], steps=100, workers=4)
        >>> prefetcher.go_to(0)
        >>> prefetcher.pixels(1).shape
        torch.Size([3, 512, 512])
    """

    def __init__(self, data: Pixels, pictures: Callable[[int], list[int]], steps: int, workers: int) -> None:
        self._data, self._pictures, self._steps, self._workers = data, pictures, steps, workers
        self._coming: Iterator[Tensor | LLMDiffError] | None = None
        self._step = -1
        self._pixels: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._data)

    def pixels(self, index: int) -> Tensor:
        """Picture number `index`, which must be one of the step at hand: float (3, H, W) in -1..1."""
        return self._pixels[index]

    def go_to(self, step: int) -> None:
        """Waits for the pixels of a step; workers start with the first one, and anew unless it follows the last.

        Raises:
            LLMDiffError: A picture of the step cannot be read.
        """
        if step == self._step:
            return
        coming = self._coming if step == self._step + 1 else None
        coming = self._from(step) if coming is None else coming
        self._step, self._coming = -1, None  # should it fail
        found = next(coming)
        if isinstance(found, LLMDiffError):
            raise found
        self._pixels = dict(zip(self._pictures(step), found, strict=True))
        self._step, self._coming = step, coming

    def _from(self, step: int) -> Iterator[Tensor | LLMDiffError]:
        """The pixels that workers bring of a step and those after it. They are spawned: forks of threads may hang."""
        loader: DataLoader[Tensor | LLMDiffError] = DataLoader(
            _Steps(self._data),
            batch_size=None,
            sampler=map(self._pictures, range(step, self._steps)),
            num_workers=self._workers,
            prefetch_factor=1,
            multiprocessing_context="spawn",
            generator=torch.Generator(),  # torch's own is left as it is
        )
        with _interrupts_ignored():
            return iter(loader)


@contextmanager
def explained_worker_deaths() -> Iterator[None]:
    """Within it, torch's error about a dead worker is put into one sentence.

    Raises:
        LLMDiffError: A worker has ended that should not have.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise LLMDiffError(
            f"A process that read pictures has ended ({str(error).split('. ')[0].rstrip('.')}): resume with fewer "
            "cache.workers, or free memory, of /dev/shm too."
        ) from error


class _Steps(Dataset[Tensor | LLMDiffError]):
    """From the numbers of pictures to their pixels (B, 3, H, W), or to the error about the first bad one.

    It is handed over, not raised: a bad picture of a coming step must wait for its step, and keep its sentence.
    """

    def __init__(self, data: Pixels) -> None:
        self._data = data

    def __getitem__(self, pictures: list[int]) -> Tensor | LLMDiffError:
        try:
            return torch.stack([self._data.pixels(picture) for picture in pictures])
        except LLMDiffError as error:
            return error


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Within it, processes are started that Ctrl-C does not end: the one that started them answers it."""
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
