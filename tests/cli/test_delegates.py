"""`llmdiff train` and `llmdiff evaluate`: what they hand on, and how they print what comes back."""

import json
from pathlib import Path
from typing import Any

import pytest

import llmdiff.evaluation
import llmdiff.training
from llmdiff.cli import main
from llmdiff.errors import LLMDiffError
from llmdiff.evaluation import SceneReport, SceneSettings, overview
from llmdiff.evaluation.overview import Overview

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
    calls: list[SceneSettings] = []
    about = {"model": "base", "what": "colour"}
    confused = [about | {"stated": "red", "drawn": "pink", "count": 3, "share": 0.5}]
    facts = [{"fact": "count", "model": "base", "prompts": 9, "share": 0.5, "low": 0.4, "high": 0.6}]
    report = SceneReport(ROWS, facts, confused, [])

    def evaluate(settings: SceneSettings, progress: Any, keep_in: Path) -> SceneReport:
        calls.append(settings)
        progress("Drawing", 0.5)
        assert keep_in.name == "evaluations"
        return report

    monkeypatch.setattr(llmdiff.evaluation, "scene_report", evaluate)
    assert main(["evaluate", "scenes", "--limit", "3"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == ["plain", "base", "50", "72.0%", "60.0%", "–", "81.5%", "90.0%"]
    assert lines[2] == ["plain", "difference", "50", "-2.0", "-10.0", "–", "+6.0", "+1.0"]
    options = ["--base", "b", "--adapter", "a", "--seeds", "1", "--plainly", "--prompts", "v2", "--json"]
    assert main(["evaluate", "scenes", *options]) == 0
    assert json.loads(capsys.readouterr().out) == ROWS
    assert main(["evaluate", "scenes", "--guidance-sweep", "1,8", "--details"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["base", "colour", "red", "pink", "3", "50%"] in lines
    assert ["count", "base", "9", "50.0%", "40.0%", "–", "60.0%"] in lines
    assert main(["evaluate", "scenes", "--details", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["confusion"] == confused
    assert calls == [
        SceneSettings(limit=3),
        SceneSettings("b", "a", seeds=1, plainly=True, version=2),
        SceneSettings(guidance_sweep=(1.0, 8.0)),
        SceneSettings(),
    ]
    assert main(["evaluate", "scenes", "--seeds", "0"]) == 2


def test_evaluate_distance(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"things": 2, "wording": "natural", "timestep": 700, "distance": 0.0314, "low": 0.02, "high": 0.0456}]
    calls: list[tuple[Any, ...]] = []

    def distance(*options: Any, progress: Any, keep_in: Path) -> list[dict[str, Any]]:
        progress("2 things at 700", 0.5)
        assert keep_in.name == "evaluations"
        calls.append(options)
        return rows

    monkeypatch.setattr(llmdiff.evaluation, "evaluate_distance", distance)
    assert main(["evaluate", "distance"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["2", "natural", "700", "0.031", "(0.020–0.046)"]
    assert main(["evaluate", "distance", "--base", "b", "--adapter", "a", "--count", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == rows
    assert calls == [("embedded", "embedded", 64), ("b", "a", 5)]
    assert main(["evaluate", "distance", "--count", "0"]) == 2


def test_evaluate_checker(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[Any] = []
    shares = dict.fromkeys(("kinds", "colours", "sizes", "counts", "backgrounds", "whole"), 1.0)

    def evaluate(count: int, noise: float, progress: Any, **options: Any) -> dict[str, Any]:
        assert options.pop("keep_in").name == "evaluations"
        calls.append((count, noise, options))
        progress("reading scenes", 0.5)
        return {"scenes": 3, "facts": 0.987, "false_things": 0.0, **shares}

    monkeypatch.setattr(llmdiff.evaluation, "evaluate_checker", evaluate)
    options = ["--scenes", "v2", "--count", "3", "--noise", "5", "--blur", "1.5", "--base", "b"]
    assert main(["evaluate", "checker", *options]) == 0
    assert "98.70%" in capsys.readouterr().out
    assert main(["evaluate", "checker", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["whole"] == 1
    assert calls == [
        (3, 5.0, {"version": 2, "blur": 1.5, "base": "b", "things": None}),
        (5000, 0.0, {"version": 1, "blur": 0.0, "base": None, "things": None}),
    ]


def test_evaluate_consistency(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"model": "difference", "scenes": 6, "wordings": 4, "same": 0.25, "low": 0.1, "high": 0.4}
    rows = [row | {"right": -0.1, "always_right": 0.0}]
    calls: list[tuple[Any, ...]] = []

    def evaluate(*options: Any) -> list[dict[str, Any]]:
        calls.append(options[:7])
        return rows

    monkeypatch.setattr(llmdiff.evaluation, "evaluate_consistency", evaluate)
    assert main(["evaluate", "consistency"]) == 0
    line = capsys.readouterr().out.splitlines()[1].split()
    assert line == ["difference", "6", "+25.0%", "+10.0%", "–", "+40.0%", "-10.0%", "+0.0%"]
    assert main(["evaluate", "consistency", "--wordings", "2", "--prompts", "v2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == rows
    assert calls == [("embedded", "embedded", 5, 4, 20, 4.0, None), ("embedded", "embedded", 5, 2, 20, 4.0, 2)]


def test_evaluate_without_a_command_is_all_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = {"prompts": 0, "pictures": 0, "in_pieces": 0, "mean": 0.5, "low": None, "high": None}
    rows = [{"score": "siglip", "model": "m", "revision": "r", "system": "base"} | figures]
    calls: list[Any] = []

    def evaluate(settings: Overview, out: Path, progress: Any) -> list[dict[str, Any]]:
        progress("Drawing", 0.5)
        calls.append((settings, out))
        return rows

    monkeypatch.setattr(overview, "evaluate_all", evaluate)
    assert main(["evaluate"]) == 0
    assert "siglip: m, r" in capsys.readouterr().out
    assert main(["evaluate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == rows
    options = ["--adapter", "none", "--siglip", "none", "--features", "none", "--guidance-sweep", "", "--out", "o"]
    assert main(["evaluate", "all", *options]) == 0
    assert calls[0] == calls[1] == (Overview(), Path("out/evaluation"))
    assert calls[2] == (Overview(adapter="none", siglip=None, features=None, guidance_sweep=()), Path("o"))
