"""A fuzz run of all files that llmdiff reads: `python recipes/fuzz.py --help`.

Files are damaged by number and read by a process of their own. Each is to be read, or refused by the project's own
error, within ten seconds and a gigabyte of memory. A whole run takes some minutes on one core; the exit status is 1
if a file fails, and those that did are kept. `--seed` makes another run, `--share` a shorter one.
"""

import json
import multiprocessing
import resource
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from fuzzing.targets import TARGETS, Target
from llmdiff.errors import LLMDiffError

LONGEST = 10.0  # seconds
LARGEST = 1000  # MB, of all the process
_START = 300.0  # seconds until the first file is read: of imports

Verdict = Literal["read", "refused", "traceback", "hang", "crash", "too large"]


class Try(NamedTuple):
    """What has become of a file."""

    verdict: Verdict
    detail: str = ""
    seconds: float = 0.0
    peak: int = 0
    """Of the process so far, in MB."""


@dataclass
class Outcome:
    """What has become of all damaged files of a target; seconds and MB are those of the worst."""

    tries: int = 0
    read: int = 0
    refused: int = 0
    failed: int = 0
    slowest: float = 0.0
    peak: int = 0


def main(
    seed: Annotated[int, typer.Option(min=0)] = 0,
    share: Annotated[float, typer.Option(min=0, max=1, help="Of the number of files of a whole run.")] = 1.0,
    target: Annotated[list[str] | None, typer.Option(help=f"Only these: {', '.join(TARGETS)}.")] = None,
    keep: Annotated[Path, typer.Option(help="A folder for the files that fail.")] = Path("fuzz-failures"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Damage files, have them read, and print a table of what has become of them."""
    outcomes = {
        name: run(name, seed, max(1, round(TARGETS[name].count * share)), keep) for name in target or list(TARGETS)
    }
    if as_json:
        print(json.dumps({name: asdict(outcome) for name, outcome in outcomes.items()}, indent=2))
    else:
        Console().print(_table(outcomes))
    sys.exit(any(outcome.failed for outcome in outcomes.values()))


def run(name: str, seed: int, count: int, keep: Path) -> Outcome:
    """Reads damaged files of a target in a process, and in another one after each that has ended or hung it."""
    target, outcome = TARGETS[name], Outcome()
    originals = target.originals()
    while outcome.tries < count:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(name, seed, outcome.tries, count, there), daemon=True)
        process.start()
        there.close()
        goes_on, patience = True, _START
        while goes_on and outcome.tries < count:
            tried = _next(here, patience)
            if tried.verdict not in ("read", "refused"):
                _keep(target.damaged(originals, seed, outcome.tries), f"{name} {seed} {outcome.tries}", tried, keep)
            _add(outcome, tried)
            goes_on, patience = tried.verdict in ("read", "refused", "traceback"), LONGEST
        process.kill()
        process.join()
    return outcome


def tried(target: Target, content: bytes) -> Try:
    """Has a file read, by this process."""
    start = time.perf_counter()
    verdict: Verdict = "read"
    detail = ""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            target.read(content, Path(folder))
        except LLMDiffError:
            verdict = "refused"
        except BaseException:
            verdict, detail = "traceback", traceback.format_exc()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
    seconds = time.perf_counter() - start
    if verdict != "traceback" and (seconds > LONGEST or peak > LARGEST):
        verdict = "hang" if seconds > LONGEST else "too large"
    return Try(verdict, detail, seconds, peak)


def _work(name: str, seed: int, first: int, count: int, there: Connection) -> None:
    target = TARGETS[name]
    originals = target.originals()
    for number in range(first, count):
        there.send(tried(target, target.damaged(originals, seed, number)))


def _next(here: Connection, patience: float) -> Try:
    try:
        if not here.poll(patience):
            return Try("hang", seconds=patience)
        found: Try = here.recv()
    except EOFError:
        return Try("crash")
    return found


def _add(outcome: Outcome, one: Try) -> None:
    outcome.tries += 1
    outcome.read += one.verdict == "read"
    outcome.refused += one.verdict == "refused"
    outcome.failed += one.verdict not in ("read", "refused")
    outcome.slowest = max(outcome.slowest, one.seconds)
    outcome.peak = max(outcome.peak, one.peak)


def _keep(content: bytes, name: str, one: Try, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    (folder / f"{name}.txt").write_text(f"{one.verdict}\n{one.detail}")
    print(f"{name}: {one.verdict}", file=sys.stderr)


def _table(outcomes: dict[str, Outcome]) -> Table:
    table = Table("files", "tries", "read", "refused", "failed", "slowest, s", "peak, MB", box=None)
    for name, one in outcomes.items():
        counts = (f"{count:,}" for count in (one.tries, one.read, one.refused, one.failed))
        table.add_row(name, *counts, f"{one.slowest:.2f}", f"{one.peak:,}")
    return table


if __name__ == "__main__":
    typer.run(main)
