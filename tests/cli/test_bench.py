"""`llmdiff bench`: figures as JSON, and a line for what does not fit into memory."""

import json
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from llmdiff.cli import main
from tiny_base import Places

FEW = ["--tokens", "4", "--rounds", "1"]


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10**6))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = main(["bench", *arguments])
    return code, capsys.readouterr()


def test_what_fits_is_measured_and_what_does_not_is_named(
    places: Places, no_memory: None, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run(
        capsys, "encode", "--llm", str(places.llm), "--llm", "8b", "--prompts", "1", "--prompts", "2", *FEW, "--json"
    )
    assert code == 0
    found = json.loads(said.out)
    assert {row["llm"] for row in found["rows"]} == {str(places.llm)}
    assert [line.split(",")[0] for line in found["left_out"]] == ["8b", "8b"]
    assert "28.4 GB" in found["left_out"][0]  # 7.1 billion weights in float32, of 32,000 words


def test_a_table_ends_with_what_does_not_fit(
    places: Places, no_memory: None, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run(capsys, "encode", "--llm", str(places.llm), "--llm", "1b", "--prompts", "1", *FEW)
    assert code == 0
    assert "1b, 1 × 4 does not fit" in " ".join(said.out.split())


@pytest.mark.parametrize("what", [["step", "--shape", "pixart"], ["encode", "--llm", "smollm2", *FEW]])
def test_nothing_that_fits_is_an_error(what: list[str], no_memory: None, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, *what)
    assert code == 1
    assert "does not fit: its weights take" in " ".join(said.err.split())
