"""Training in several processes, on accelerate: how gradients and figures come together, and who speaks.

Every process has the whole adapter and a slice of each batch. Gradients are summed once a step, after the last
micro-batch: nothing is wrapped, so that processes may cut their slices into micro-batches of their own.
"""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, InitProcessGroupKwargs, PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from torch import Tensor, distributed

from llmdiff.base.loading import default_device
from llmdiff.errors import LLMDiffError

_PATIENCE = timedelta(days=7)  # while the main process reads a million captions, the others wait


def accelerator(trackers: Iterable[str] = (), folder: Path | None = None) -> Accelerator:
    """The processes that `accelerate launch` has set up, one or many, their devices and the precision asked for.

    Args:
        trackers: names that accelerate knows, wandb for instance.
        folder: for what trackers keep on disk.

    Raises:
        LLMDiffError: A tracker is unknown or its package is not installed.
    """
    wanted = list(trackers)
    check_trackers(wanted)
    return Accelerator(
        cpu=default_device() == "cpu",  # else accelerate takes processes without a GPU for separate runs
        log_with=wanted or None,
        project_dir=folder,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
    )


def check_trackers(names: Iterable[str]) -> None:
    """Raises LLMDiffError unless accelerate knows these trackers and their packages are installed."""
    installed = {str(tracker.value) for tracker in get_available_trackers()}
    for name in names:
        if name not in installed:
            known = "install its package" if name in LOGGER_TYPE_TO_CLASS else "accelerate knows no such tracker"
            have = ", ".join(sorted(installed))
            raise LLMDiffError(f"The tracker {name!r} cannot be used: {known}, or choose one of {have}.")


def is_main_process() -> bool:
    """True in the process that writes and speaks for all that train together."""
    return PartialState().is_main_process


def local_shard(accelerator: Accelerator, samples: np.ndarray) -> np.ndarray:
    """This process's samples of a batch: slices are contiguous and differ in length by one at most."""
    return np.array_split(samples, accelerator.num_processes)[accelerator.process_index]


def all_reduce_sum(accelerator: Accelerator, tensors: Iterable[Tensor]) -> None:
    """Replaces tensors by their sums over all processes, which must give the same shapes in the same order."""
    if accelerator.num_processes > 1:
        pending = [distributed.all_reduce(tensor, async_op=True) for tensor in tensors]
        for work in pending:
            work.wait()


def broadcast_from_main(accelerator: Accelerator, tensors: Iterable[Tensor]) -> None:
    """Replaces tensors by the main process's, which other machines may have computed with other last bits."""
    if accelerator.num_processes > 1:
        for tensor in tensors:
            distributed.broadcast(tensor, 0)


def all_reduce_any(accelerator: Accelerator, mine: bool) -> bool:
    """True in every process if `mine` is true in any."""
    if accelerator.num_processes == 1:
        return mine
    count = torch.tensor(float(mine), device=accelerator.device)
    all_reduce_sum(accelerator, [count])
    return bool(count > 0)
