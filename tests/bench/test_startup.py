"""The benchmark of what a user waits for."""

import sys
from pathlib import Path

import pytest

from llmdiff.bench import startup
from llmdiff.bench.startup import bench_startup
from llmdiff.errors import LLMDiffError


def commands(folder: Path, *code: str) -> dict[str, list[str]]:
    return {f"command {i}": [sys.executable, "-S", "-c", one] for i, one in enumerate(code)}


def test_each_command_is_timed_from_its_start_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    idle = "import time; time.sleep(0.3)"
    monkeypatch.setattr(startup, "_commands", lambda folder: commands(folder, busy, idle))
    first, second = bench_startup(rounds=1)
    assert first.seconds >= 0.3
    assert first.cpu_seconds >= 0.3
    assert second.seconds >= 0.3
    assert second.cpu_seconds < 0.3


def test_a_command_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "_commands", lambda folder: commands(folder, "raise SystemExit('no luck')"))
    with pytest.raises(LLMDiffError, match="no luck"):
        bench_startup(rounds=1)


def test_every_new_prompt_is_a_new_one(tmp_path: Path) -> None:
    new = startup._commands(tmp_path)["generate, new prompt"]
    assert "{number}" in new[-1]
