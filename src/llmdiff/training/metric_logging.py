"""The figures of a run, as JSON lines, for TensorBoard, and for whatever trackers accelerate knows."""

import json
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch.utils.tensorboard import SummaryWriter

from llmdiff.files import open_regular, written_whole

PROJECT = "llmdiff"  # under which trackers file their runs


class MetricLogger:
    """Written by the main process alone; elsewhere it does nothing.

    Args:
        folder: where `log.jsonl` and `tensorboard` go.
        step: the run goes on from here; what was written of later steps is taken out.
        accelerator: with its trackers.
        config: of the run, for the trackers.
    """

    def __init__(self, folder: Path, step: int, accelerator: Accelerator, config: dict[str, Any]) -> None:
        self._accelerator = accelerator
        self._writes = accelerator.is_main_process
        if not self._writes:
            return
        folder.mkdir(parents=True, exist_ok=True)
        _forget_after(step, folder / "log.jsonl")
        self._file = (folder / "log.jsonl").open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        if accelerator.log_with:
            plain = {
                key: value if isinstance(value, int | float | str) else str(value) for key, value in config.items()
            }
            accelerator.init_trackers(PROJECT, plain)  # TensorBoard's takes no lists

    def __enter__(self) -> "MetricLogger":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writes:
            self._file.close()
            self._board.close()
            for tracker in self._accelerator.trackers:
                tracker.finish()

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Writes the figures of a step; one that is not finite, for which JSON has no word, as null."""
        if not self._writes:
            return
        row = {"step": step, **{name: round(value, 6) if isfinite(value) else None for name, value in figures.items()}}
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()
        for name, value in figures.items():
            self._board.add_scalar(name, value, step)
        self._accelerator.log(figures, step=step)


def _forget_after(step: int, log: Path) -> None:
    """Takes out the lines of steps that are to be run again, and those that a kill or a bad disk has left damaged."""
    content = b""
    with suppress(FileNotFoundError), open_regular(log) as file:
        content = file.read()
    kept = b"".join(line + b"\n" for line in content.split(b"\n") if _is_of(range(step + 1), line))
    if kept != content:
        with written_whole(log) as draft:
            draft.write_bytes(kept)


def _is_of(steps: range, line: bytes) -> bool:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and row.get("step") in steps
