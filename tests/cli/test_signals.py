"""Commands that take long, as processes of their own, ended by a signal: its status, one line, nothing half written."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from comparison.conftest import settings
from llmdiff.files import DRAFTS
from study.pictures import make_study
from tiny_base import Places

pytestmark = [pytest.mark.slow, pytest.mark.fault("terminal")]
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def started(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "llmdiff", *map(str, arguments)], cwd=folder, text=True,
        env=os.environ | {"ACCELERATE_USE_CPU": "true"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def ended(process: subprocess.Popen[str], number: int, is_due: Callable[[], Any]) -> tuple[int, str]:
    """Status and last line of a process that gets a signal when it is due."""
    while not is_due():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert "Traceback" not in stderr
    return process.returncode, stderr.splitlines()[-1]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_comparison_goes_on_where_a_signal_ended_it(places: Places, tmp_path: Path, number: int) -> None:
    study = tmp_path / "compare.yaml"
    content = settings(tmp_path / "compare", places, seeds=[0])
    content["recipe"]["loop"]["steps"] = 30
    study.write_text(yaml.safe_dump(content | {"folder": str(content["folder"])}))
    process = started(tmp_path, "compare", study)
    assert ended(process, number, lambda: any(tmp_path.rglob("step-*.safetensors"))) == (128 + number, "interrupted")
    assert not list(tmp_path.rglob(DRAFTS))
    process = started(tmp_path, "compare", study)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "2 of 2 cells are done" in stdout


@pytest.mark.parametrize("number", SIGNALS)
def test_an_order_of_prompts_goes_on_where_a_signal_ended_it(places: Places, tmp_path: Path, number: int) -> None:
    (tmp_path / "prompts.txt").write_text("\n".join(f"a red box {n}" for n in range(40)))
    out = tmp_path / "out"
    models = ["--base", places.base, "--adapter", places.adapter, "--steps", 5]
    command = ["generate", "--prompts", tmp_path / "prompts.txt", "--out", out, *models]
    process = started(tmp_path, *command)
    assert ended(process, number, lambda: len(list(out.glob("*.png"))) > 5) == (128 + number, "interrupted")
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert not list(out.glob(DRAFTS))
    process = started(tmp_path, *command)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert len(list(out.glob("*.png"))) == 40
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("number", SIGNALS)
def test_the_page_of_a_study_ends_when_it_is_told_to(tmp_path: Path, number: int) -> None:
    make_study(tmp_path, "red", "blue", count=3)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = started(tmp_path, "study", "serve", "study", "--port", port)
    assert ended(process, number, lambda: _answers(port)) == (128 + number, "interrupted")


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True
