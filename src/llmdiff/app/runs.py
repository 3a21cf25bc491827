"""Training runs as they lie in their folders: figures, recipe, sample sheets; also while one is training."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, read_text
from llmdiff.structured_text import parse_json
from llmdiff.training.run_lock import LOCK, is_locked

LOG = "log.jsonl"
_DEEPEST = 3  # folders below the one that is given
_MOST_RUNS = 200
_LARGEST = 64 * 2**20  # bytes of a log
_MOST_POINTS = 400  # of a curve
_HELD_OUT = re.compile(r"heldout/σ(?P<level>[0-9.]+)/(?P<who>adapter|base)")
_SHEET = re.compile(r"\d{1,12}\.png")


@dataclass(frozen=True)
class Run:
    """One run: its name (its folder below that of all runs) and what its log says.

    Attributes:
        name: of the run.
        folder: that it lies in.
        figures: a row for each logged step, with a column for each figure.
    """

    name: str
    folder: Path
    figures: pd.DataFrame

    def losses(self) -> pd.DataFrame:
        """The training loss: step, loss and run; of neighbouring steps the mean, where there are many."""
        found = self._of("loss").rename(columns={"loss": "value"})
        return _thinned(found).rename(columns={"value": "loss"}).assign(run=self.name)

    def validation(self) -> pd.DataFrame:
        """The adapter's losses on held-out pictures: step, loss, and level of noise."""
        parts = [
            self._of(column).rename(columns={column: "loss"}).assign(noise=f"σ {level}")
            for column, level in self._held_out("adapter").items()
        ]
        return pd.concat(parts) if parts else pd.DataFrame({"step": [], "loss": [], "noise": []})

    def levels(self) -> list[tuple[str, float, float | None]]:
        """For each level of noise the adapter's newest held-out loss, and the base model's."""
        base = {level: column for column, level in self._held_out("base").items()}
        found: list[tuple[str, float, float | None]] = []
        for column, level in self._held_out("adapter").items():
            values = self._of(column)[column]
            of_base = self._of(base[level])[base[level]] if level in base else values[:0]
            if len(values):
                found.append((level, float(values.iloc[-1]), float(of_base.iloc[-1]) if len(of_base) else None))
        return found

    def sheets(self) -> list[Path]:
        """The sample sheets, the newest first."""
        folder = self.folder / "samples"
        found = [path for path in folder.glob("*.png") if _SHEET.fullmatch(path.name) and path.is_file()]
        return sorted(found, key=lambda path: int(path.stem), reverse=True)

    def state(self) -> dict[str, Any]:
        """What stands at the top of a run: its newest step, its loss, and how far it is."""
        facts: dict[str, Any] = {}
        steps = self._steps()
        if len(self.figures):
            newest = int(self.figures["step"].iloc[-1])
            facts["step"] = f"{newest:,} of {steps:,}" if steps else f"{newest:,}"
        losses = self._of("loss")["loss"]
        if len(losses):
            facts["loss"] = f"{losses.iloc[-1]:.4f}"
        ended = "killed" if (self.folder / LOCK).exists() else "not training"
        facts["state"] = "training" if is_locked(self.folder) else ended
        facts["adapter"] = "saved" if (self.folder / "adapter" / "config.json").is_file() else "none yet"
        return facts

    def _of(self, column: str) -> pd.DataFrame:
        if column not in self.figures:
            return pd.DataFrame({"step": [], column: []})
        return self.figures[["step", column]].dropna()

    def _held_out(self, who: str) -> dict[str, str]:
        """The levels of noise by the names of their figures."""
        matches = {column: _HELD_OUT.fullmatch(str(column)) for column in self.figures.columns}
        found = {column: match["level"] for column, match in matches.items() if match and match["who"] == who}
        return dict(sorted(found.items(), key=lambda pair: float(pair[1])))

    def _steps(self) -> int | None:
        """How many steps its recipe asks for."""
        recipe = _json(self.folder / "recipe.json")
        steps = recipe.get("loop", {}).get("steps") if isinstance(recipe.get("loop"), dict) else None
        return steps if isinstance(steps, int) else None


def names_of_runs(root: Path) -> list[str]:
    """The runs below a folder, those that were written last at first; links are not followed."""
    found: list[tuple[float, str]] = []
    waiting = [(root, 0)]
    while waiting and len(found) < _MOST_RUNS:
        folder, depth = waiting.pop()
        try:
            log = folder / LOG
            if log.is_file() and not log.is_symlink():
                found.append((log.stat().st_mtime, folder.relative_to(root).as_posix()))
            inner = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
        except OSError:
            continue
        if depth < _DEEPEST:
            waiting += [(path, depth + 1) for path in inner if not path.name.startswith(".")]
    return [name for _, name in sorted(found, reverse=True)]


def read_run(root: Path, name: str) -> Run:
    """A run by its name.

    Raises:
        LLMDiffError: there is no such run, or its log cannot be read.

    Example:
        >>> folder = Path("runs/fox")
        >>> folder.mkdir(parents=True)
        >>> (folder / "log.jsonl").write_text('{"step": 1, "loss": 0.5}')
        24
        >>> read_run(Path("runs"), "fox").losses()["loss"].tolist()
        [0.5]
    """
    if name not in names_of_runs(root):
        raise LLMDiffError("There is no such run: choose one of the list.")
    folder = root / name
    try:
        text = read_text(open_regular(folder / LOG), _LARGEST)
    except (OSError, UnicodeError) as error:
        raise LLMDiffError("The log of this run cannot be read.") from error
    rows = [row for line in text.splitlines() if (row := _row(line)) is not None]
    return Run(name, folder, pd.DataFrame(rows) if rows else pd.DataFrame({"step": []}))


def stamp(root: Path, names: Sequence[str]) -> tuple[Any, ...]:
    """Equal as long as nothing was written to the logs and sample sheets of runs, and none began or ended."""
    found: list[Any] = []
    for name in names:
        found.append(is_locked(root / name))
        for path in (root / name / LOG, root / name / "samples"):
            try:
                status = path.stat()
                found.append((status.st_size, status.st_mtime_ns))
            except OSError:
                found.append(None)
    return tuple(found)


def _row(line: str) -> dict[str, Any] | None:
    """The numbers of a line; None of one that is damaged, or is being written."""
    try:
        row = parse_json(line, "A line")
    except LLMDiffError:
        return None
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        return None
    return {key: value for key, value in row.items() if isinstance(value, int | float) or value is None}


def _json(file: Path) -> dict[str, Any]:
    try:
        content = parse_json(read_text(open_regular(file), _LARGEST), "The recipe")
    except (OSError, UnicodeError, LLMDiffError):
        return {}
    return content if isinstance(content, dict) else {}


def _thinned(curve: pd.DataFrame) -> pd.DataFrame:
    """Step and value, the mean of as many neighbours as leave no more points than are drawn."""
    size = -(-len(curve) // _MOST_POINTS)
    if size <= 1:
        return curve
    groups = pd.Series(range(len(curve)), index=curve.index) // size
    return curve.groupby(groups).mean().round(6)
