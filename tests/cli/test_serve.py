"""`llmdiff serve`, as a process of its own."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from llmdiff.cli.app import app
from server.running import PATH, TWO_STEPS
from tiny_base import Places

KEY = "a-key-that-nobody-else-may-see"


@contextmanager
def served(places: Places, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "llmdiff", "serve", "--base", str(places.base), "--adapter", str(places.adapter)]
    process = subprocess.Popen(
        [*command, "--device", "cpu", "--port", "0", "--api-key-env", "OUR_KEY", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OUR_KEY": KEY},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        match = re.fullmatch(r"Serving at (http://127\.0\.0\.1:\d+/)\n", process.stdout.readline())
        assert match is not None, process.communicate()
        yield process, match[1]
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_ends_when_it_is_told_to(places: Places, ending: signal.Signals) -> None:
    with served(places, "--max-steps", "999", "--grace", "1", "--steps", "2") as (process, address):
        with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client:
            assert client.post(PATH, json={"prompt": "a red ball"}).status_code == 200
            assert httpx.post(address + PATH[1:], json=TWO_STEPS).status_code == 401
            with client.stream("POST", PATH, json=TWO_STEPS | {"num_inference_steps": 999, "stream": True}) as answer:
                process.send_signal(ending)
                begun = time.monotonic()
                with contextlib.suppress(httpx.HTTPError):
                    answer.read()  # is given up after a second
        out, err = process.communicate(timeout=30)
        assert time.monotonic() - begun < 15
        assert KEY not in out + err
        assert process.returncode in ((130,) if ending is signal.SIGINT else (-signal.SIGTERM, 143, 0))


def test_options_are_those_of_the_server(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr("llmdiff.server.running.run_server", lambda *arguments: started.append(arguments[:3]))
    monkeypatch.setenv("LLMDIFF_API_KEY", KEY)
    options = ["--base", str(places.base), "--adapter", str(places.adapter), "--batch-size", "4", "--queue", "9"]
    result = CliRunner().invoke(app, ["serve", *options, "--host", "0.0.0.0", "--port", "8123", "--steps", "7"])
    assert result.exit_code == 0, result.exception
    assert "no API key" not in result.output
    ((config, host, port),) = started
    assert (host, port) == ("0.0.0.0", 8123)
    assert (config.models.base, config.models.adapter) == (str(places.base), str(places.adapter))
    assert (config.batch_size, config.queue, config.steps) == (4, 9, 7)
    assert config.api_key.get_secret_value() == KEY
    monkeypatch.delenv("LLMDIFF_API_KEY")
    assert "no API key" in CliRunner().invoke(app, ["serve", *options, "--host", "0.0.0.0"]).output
    assert started[1][0].api_key is None
    monkeypatch.setenv("KEY_OF_PROXY", KEY)
    proxy = ["--proxy", "http://localhost:9/v1", "--proxy-model", "m", "--rewritings", "2"]
    result = CliRunner().invoke(app, ["serve", *options, *proxy, "--proxy-key-env", "KEY_OF_PROXY"])
    assert result.exit_code == 0, result.exception
    assert (started[2][0].proxy.model, started[2][0].proxy.rewritings) == ("m", 2)
    assert KEY not in result.output + repr(started[2][0])


def test_mistakes_on_the_command_line_cost_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = CliRunner()

    def fault(*options: str) -> str:
        result = runner.invoke(app, ["serve", *options])
        assert result.exit_code != 0
        return str(result.exception) + result.output

    monkeypatch.delenv("NO_KEY", raising=False)
    assert "The variable NO_KEY has no key" in fault("--api-key-env", "NO_KEY")
    assert "The environment variable NO_KEY" in fault(
        "--proxy", "http://localhost:9/v1", "--proxy-model", "m", "--proxy-key-env", "NO_KEY"
    )
    assert "--proxy-model" in fault("--proxy", "http://localhost:9/v1")
    assert "steps" in fault("--steps", "50", "--max-steps", "10")
    assert "An adapter belongs to one base model" in fault("--base", "some/base")
    assert "batch_size" in fault("--batch-size", "0")
    assert fault("--port", "70000")
