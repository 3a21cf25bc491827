"""A progress bar for the trainer's `on_step`."""

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from llmdiff.training.trainer import Trainer


class Progress:
    """Shows step, smoothed loss, speed and time left on standard error."""

    def __init__(self, title: str, steps: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, TextColumn("{task.fields[figures]}"), console=Console(file=sys.stderr))
        self._task = self._bar.add_task(title, total=steps, figures="")
        self._loss: float | None = None

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, trainer: Trainer, figures: dict[str, float]) -> None:
        loss = figures["loss"]
        self._loss = loss if self._loss is None else 0.98 * self._loss + 0.02 * loss
        text = f"loss {self._loss:.4f}, {figures['images_per_s']:.0f} images/s"
        self._bar.update(self._task, completed=trainer.step, figures=text)
