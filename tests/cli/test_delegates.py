"""`llmdiff train` and `llmdiff evaluate`: what they hand on, and how they print what comes back."""

import json
from typing import Any

import pytest

import llmdiff.evaluation
import llmdiff.training
from llmdiff.cli import main
from llmdiff.errors import LLMDiffError

ROWS = [
    {"group": "plain", "model": "base", "prompts": 50, "share": 0.72, "low": 0.6, "high": 0.815, "facts": 0.9},
    {"group": "plain", "model": "difference", "prompts": 50, "share": -0.02, "low": -0.1, "high": 0.06, "facts": 0.01},
]


def test_train(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[tuple[Any, ...]] = []

    def train(recipe: str, *, options: list[str], resume: bool, progress: Any) -> dict[str, Any]:
        progress("Training", 0.5)
        calls.append((recipe, options, resume))
        return {"adapter": "runs/x/adapter", "steps": 5}

    monkeypatch.setattr(llmdiff.training, "train", train, raising=False)
    assert main(["train", "embedded"]) == 0
    assert capsys.readouterr().out == "runs/x/adapter\n"
    assert main(["train", "my.yaml", "-o", "steps=5", "-o", "seed=1", "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"adapter": "runs/x/adapter", "steps": 5}
    assert calls == [("embedded", [], False), ("my.yaml", ["steps=5", "seed=1"], True)]


@pytest.mark.parametrize(("how", "advised"), [(llmdiff.training.Interrupted, True), (KeyboardInterrupt, False)])
def test_resuming_is_advised_where_something_was_saved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: type[BaseException], advised: bool
) -> None:
    def train(recipe: str, **_: Any) -> dict[str, Any]:
        raise how

    monkeypatch.setattr(llmdiff.training, "train", train, raising=False)
    assert main(["train", "embedded"]) == 130
    assert ("--resume" in capsys.readouterr().err) is advised


def test_a_bad_recipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def train(recipe: str, **_: Any) -> dict[str, Any]:
        raise LLMDiffError(f"The recipe {recipe!r} has no key\n'stepps'.")

    monkeypatch.setattr(llmdiff.training, "train", train, raising=False)
    assert main(["train", "embedded", "-o", "stepps=5"]) == 1
    assert capsys.readouterr() == ("", "error: The recipe 'embedded' has no key 'stepps'.\n")


def test_evaluate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[tuple[Any, ...]] = []

    def evaluate(*options: Any) -> list[dict[str, Any]]:
        *options, progress, keep_in = options
        calls.append(tuple(options))
        progress("Drawing", 0.5)
        assert keep_in.name == "evaluations"
        return ROWS

    monkeypatch.setattr(llmdiff.evaluation, "evaluate_scenes", evaluate)
    assert main(["evaluate", "scenes", "--limit", "3"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == ["plain", "base", "50", "72.0%", "60.0%", "–", "81.5%", "90.0%"]
    assert lines[2] == ["plain", "difference", "50", "-2.0", "-10.0", "–", "+6.0", "+1.0"]
    options = ["--base", "b", "--adapter", "a", "--seeds", "1", "--plainly", "--prompts", "v2", "--json"]
    assert main(["evaluate", "scenes", *options]) == 0
    assert json.loads(capsys.readouterr().out) == ROWS
    assert calls == [("embedded", "embedded", 2, 3, 20, 4.0, False, None), ("b", "a", 1, None, 20, 4.0, True, 2)]
    assert main(["evaluate", "scenes", "--seeds", "0"]) == 2


def test_evaluate_distance(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"things": 2, "wording": "natural", "timestep": 700, "distance": 0.0314}]
    calls: list[tuple[Any, ...]] = []

    def distance(*options: Any, progress: Any) -> list[dict[str, Any]]:
        progress("2 things at 700", 0.5)
        calls.append(options)
        return rows

    monkeypatch.setattr(llmdiff.evaluation, "evaluate_distance", distance)
    assert main(["evaluate", "distance"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["2", "natural", "700", "0.031"]
    assert main(["evaluate", "distance", "--base", "b", "--adapter", "a", "--count", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == rows
    assert calls == [("embedded", "embedded", 64), ("b", "a", 5)]
    assert main(["evaluate", "distance", "--count", "0"]) == 2


def test_evaluate_world_checker(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[tuple[Any, ...]] = []

    def evaluate(*options: Any) -> dict[str, Any]:
        *options, progress = options
        calls.append(tuple(options))
        progress("reading scenes", 0.5)
        return {"scenes": 3, "facts": 0.987, "whole": 0.9}

    monkeypatch.setattr(llmdiff.evaluation, "evaluate_world_checker", evaluate)
    assert main(["evaluate", "world-checker", "--count", "3", "--noise", "5", "--blur", "1.5", "--base", "b"]) == 0
    assert "98.70%" in capsys.readouterr().out
    assert main(["evaluate", "world-checker", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["whole"] == 0.9
    assert calls == [(3, 5.0, 1.5, "b"), (1000, 0.0, 0.0, None)]
