"""What the user waits for: commands in processes of their own, in turn, and what their seconds are."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmdiff.bench.measure import spread
from llmdiff.errors import LLMDiffError
from llmdiff.language.store import SETTING

_PROMPT = "a red ball left of a blue box"
_IMPORTS = "import llmdiff.adapter, llmdiff.generation.renderer, llmdiff.language, diffusers.pipelines.stable_diffusion"
_HOSTS = "from llmdiff.cli.hosts import import_hosts; import_hosts()"


@dataclass(frozen=True)
class StartupFigures:
    """The figures of one command.

    Attributes:
        command: what it is.
        seconds: of the wall clock, the median.
        cpu_seconds: of all processors, the median.
        low: the least seconds of the wall clock.
        high: the greatest.
    """

    command: str
    seconds: float
    cpu_seconds: float
    low: float
    high: float


def bench_startup(rounds: int) -> list[StartupFigures]:
    """Times commands on the embedded default, each in a process of its own, in turn.

    Raises:
        LLMDiffError: if one of them fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        commands = _commands(Path(folder))
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for number in range(rounds + 1):
            for name, command in commands.items():
                times[name].append(_run([part.replace("{number}", str(number)) for part in command]))
    return [_figures(name, rows[1:]) for name, rows in times.items()]


def _commands(folder: Path) -> dict[str, list[str]]:
    llmdiff = [sys.executable, "-m", "llmdiff"]
    draw = [*llmdiff, "generate", "--seed", "1", "--out", str(folder)]
    return {
        "llmdiff --help": [*llmdiff, "--help"],
        "import torch": [sys.executable, "-c", "import torch"],
        "imports of generate": [sys.executable, "-c", f"{_HOSTS}; {_IMPORTS}"],
        "the same, plain": [sys.executable, "-c", _IMPORTS],
        "generate, no adapter": [*draw, "--adapter", "none", _PROMPT],
        "generate, known prompt": [*draw, _PROMPT],
        "generate, new prompt": [*draw, f"{_PROMPT}, number {os.getpid()} {{number}}"],
    }


def _run(command: Sequence[str]) -> tuple[float, float]:
    """Seconds of the wall clock and of all processors."""
    environment = {key: value for key, value in os.environ.items() if key != SETTING}
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    message = process.stderr.read().decode(errors="replace").strip()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise LLMDiffError(f"A command to be timed failed ({' '.join(command[1:4])} …): {message.splitlines()[-1:]}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime


def _figures(name: str, rows: list[tuple[float, float]]) -> StartupFigures:
    walls, processors = zip(*rows, strict=True)
    wall, low, high = spread(walls, 2)
    return StartupFigures(name, wall, spread(processors, 2)[0], low, high)
