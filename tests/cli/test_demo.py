"""`llmdiff demo`: the sheet, the table behind it, and the path as the last line."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

import llmdiff.evaluation
from llmdiff.cli import main
from tiny_base import Places


@dataclass(frozen=True)
class Prompt:
    group: str
    prompt: str
    facts: bool


PROMPTS = [Prompt("plain", "a ball", True), Prompt("plain", "a box", False), Prompt("long", "the red house", True)]


@pytest.fixture(autouse=True)
def known_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Prompts whose facts say themselves whether they hold."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(llmdiff.evaluation, "demo_prompts", lambda: PROMPTS, raising=False)
    monkeypatch.setattr(llmdiff.evaluation, "check", lambda image, facts: facts, raising=False)


def demo(places: Places, *options: str) -> int:
    return main(["demo", "--base", str(places.base), "--adapter", str(places.adapter), "--steps", "2", *options])


def test_tables_and_path(places: Places, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert demo(places) == 0
    stdout, stderr = capfd.readouterr()
    *lines, last = stdout.splitlines()
    assert last == "out/demo.png"
    assert Image.open(last).width > 400
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    assert ["plain", "a box", "no", "no"] in cells
    assert ["long", "the red house", "yes", "yes"] in cells
    assert ["plain", "1 of 2", "1 of 2"] in cells
    assert ["all", "2 of 3", "2 of 3"] in cells
    assert stderr == ""


def test_json(places: Places, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert demo(places, "--json", "--out", "sheet.png") == 0
    content = json.loads(capfd.readouterr().out)
    assert content["sheet"] == "sheet.png"
    assert [row["adapted"] for row in content["prompts"]] == [True, False, True]
