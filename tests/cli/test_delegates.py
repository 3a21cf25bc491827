"""`llmdiff train` and `llmdiff evaluate`: what they hand on, and how they print what comes back."""

import json
from typing import Any

import pytest

import llmdiff.evaluation
import llmdiff.training
from llmdiff.cli import main
from llmdiff.errors import LLMDiffError

ROWS = [{"group": "plain", "model": "base", "prompts": 50, "share": 0.72, "low": 0.6, "high": 0.815}]


def test_train(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[tuple[Any, ...]] = []

    def train(recipe: str, *, options: list[str], resume: bool) -> dict[str, Any]:
        calls.append((recipe, options, resume))
        return {"folder": "runs/x", "steps": 5}

    monkeypatch.setattr(llmdiff.training, "train", train, raising=False)
    assert main(["train", "embedded"]) == 0
    assert capsys.readouterr().out == "runs/x\n"
    assert main(["train", "my.yaml", "-o", "steps=5", "-o", "seed=1", "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"folder": "runs/x", "steps": 5}
    assert calls == [("embedded", [], False), ("my.yaml", ["steps=5", "seed=1"], True)]


def test_a_bad_recipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def train(recipe: str, **_: Any) -> dict[str, Any]:
        raise LLMDiffError(f"The recipe {recipe!r} has no key\n'stepps'.")

    monkeypatch.setattr(llmdiff.training, "train", train, raising=False)
    assert main(["train", "embedded", "-o", "stepps=5"]) == 1
    assert capsys.readouterr() == ("", "error: The recipe 'embedded' has no key 'stepps'.\n")


def test_evaluate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[dict[str, Any]] = []

    def evaluate(*, progress: Any, **options: Any) -> list[dict[str, Any]]:
        calls.append(options)
        progress("Drawing", 0.5)
        return ROWS

    monkeypatch.setattr(llmdiff.evaluation, "evaluate_scenes", evaluate, raising=False)
    assert main(["evaluate", "scenes", "--limit", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["plain", "base", "50", "72.0%", "60.0%", "–", "81.5%"]
    assert main(["evaluate", "scenes", "--base", "b", "--adapter", "a", "--seeds", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == ROWS
    assert calls == [
        {"base": "embedded", "adapter": "embedded", "seeds": 2, "limit": 3},
        {"base": "b", "adapter": "a", "seeds": 1, "limit": None},
    ]
    assert main(["evaluate", "scenes", "--seeds", "0"]) == 2
