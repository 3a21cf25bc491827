"""Variants of one thing, measured in turn: medians and ranges as ratios to one of them."""

import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from platform import processor
from typing import Any

import psutil
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from llmdiff.errors import LLMDiffError

_NO_LAUNCH = ("aten.empty", "aten.detach", "aten.lift_fresh", "aten.alias")


@dataclass(frozen=True)
class Figures:
    """The figures of one variant.

    Attributes:
        variant: its name.
        seconds: of the wall clock, the median of the rounds.
        ratio: of that to the reference's in the same round, the median.
        low: the least ratio of a round.
        high: the greatest.
    """

    variant: str
    seconds: float
    ratio: float
    low: float
    high: float


def interleaved(variants: Mapping[str, Callable[[], object]], rounds: int, reference: str) -> list[Figures]:
    """Runs every variant once a round, after a round that does not count, so that all meet the same machine.

    Args:
        variants: by their names.
        rounds: that count.
        reference: the name of the one that the others are compared with.

    Example:
        >>> [row.ratio for row in interleaved({"a": lambda: None}, rounds=3, reference="a")]
        [1.0]
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds + 1):
        for name, run in variants.items():
            times[name].append(seconds(run))
    return [_figures(name, times[name][1:], times[reference][1:]) for name in variants]


def seconds(run: Callable[[], object]) -> float:
    """What a call takes, until the device is done with it."""
    _wait()
    start = time.perf_counter()
    run()
    _wait()
    return time.perf_counter() - start


def _figures(name: str, times: list[float], reference: list[float]) -> Figures:
    ratios = [mine / other for mine, other in zip(times, reference, strict=True)]
    return Figures(name, spread(times, 5)[0], *spread(ratios, 3))


def spread(values: Sequence[float], digits: int) -> tuple[float, float, float]:
    """Median, least and greatest of some figures, rounded.

    Example:
        >>> spread([0.126, 3, 1], 2)
        (1, 0.13, 3)
    """
    return round(statistics.median(values), digits), round(min(values), digits), round(max(values), digits)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class DoesNotFitError(LLMDiffError):
    """There is not the memory for what is to be measured."""


def in_fresh_process(function: Callable[..., Any], *args: Any) -> Any:
    """What a function of a module returns in a process of its own, whose peak memory is then its own.

    Raises:
        DoesNotFitError: the process was killed, as a system does that has no memory left.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(function, *args).result()
        except BrokenProcessPool as error:
            raise DoesNotFitError("its process was killed, most likely because memory ran out.") from error


def check_room(weights: int, device: torch.device) -> None:
    """Raises DoesNotFitError if a model's weights, in bytes, are more than the device has free."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if weights > free:
        raise DoesNotFitError(f"its weights take {weights / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free.")


def peak_memory() -> int:
    """The most memory that this process has had, in bytes; on a GPU, of the device."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def call_memory(run: Callable[[], object]) -> int:
    """The most memory, in bytes, that a call has at one time beyond what was there before it, after one that warms up.

    It is what torch allocates, of which its profiler has every allocation on a processor: the same in every run, where
    the peak of a process has whatever was imported and freed in it. What a kernel takes past torch is not in it.

    Example:
        >>> x = torch.ones(1000)
        >>> call_memory(x.relu)
        4000
    """
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler tells of itself
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = profiler.profiler.kineto_results.events() if profiler.profiler else []
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return max(accumulate(size for _, size in changes), default=0)


class LaunchCount(TorchDispatchMode):
    """Counts the operators that compute: what a GPU would have to launch. Views and allocations are none.

    Attributes:
        launches: how many so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and not str(func).startswith(_NO_LAUNCH):
            self.launches += 1
        return func(*args, **(kwargs or {}))


def count_launches(run: Callable[[], object]) -> int:
    """The launches of a call, after one that warms it up."""
    run()
    with LaunchCount() as count:
        run()
    return count.launches


def default_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def machine(device: torch.device | None = None) -> str:
    """The name of what it runs on, with the number of threads of a processor."""
    if (device or default_device()).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor_name()}, threads: {torch.get_num_threads()}"


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else processor() or "unknown processor"
