"""`llmdiff ui`: mistakes on its command line, and a real process from its start to Ctrl-C."""

import os
import signal
import subprocess
import sys

import httpx
import pytest

from cli.running import Run
from llmdiff.cli.ui import PASSWORD
from tiny_base import Places


def test_mistakes_are_told_before_anything_is_loaded(run: Run, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "belongs to one base model" in run("ui", "--base", places.base).stderr
    assert "at least one" in run("ui", "--adapter", "none").stderr
    assert "--proxy-model" in run("ui", "--proxy", "http://localhost:9/v1").stderr
    monkeypatch.setenv(PASSWORD, "")
    assert "is empty" in run("ui", "--auth").stderr


@pytest.mark.slow
def test_it_serves_until_it_is_interrupted(places: Places) -> None:
    models = ["--base", places.base, "--adapter", places.adapter, "--llm", places.llm, "--device", "cpu"]
    command = [sys.executable, "-m", "llmdiff", "ui", *map(str, models), "--port", "0", "--auth"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {PASSWORD: "sesame"})
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        with httpx.Client(base_url=address, timeout=60) as client:
            assert client.get("config").status_code == 401
            assert client.post("login", data={"username": "me", "password": "sesame"}).status_code == 200
            assert client.get("config").json()["title"] == "llmdiff"
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait()
