"""`llmdiff train --dry-run`: a bill, and nothing else."""

import json
from pathlib import Path

import pytest
import yaml

from llmdiff.cli import main
from tiny_base import Places


@pytest.fixture
def recipe(places: Places, tmp_path: Path) -> str:
    values = {
        "folder": str(tmp_path / "run"),
        "base": str(places.base),
        "llm": str(places.llm),
        "data": {"kind": "scenes", "captions": 6, "pictures": 2},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


def test_json_says_what_it_takes_and_nothing_is_written(
    recipe: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bills = []
    for options in ([], ["-o", "loop.batch_size=64"]):
        assert main(["train", recipe, "--dry-run", "--json", *options]) == 0
        bills.append(json.loads(capfd.readouterr().out))
    assert bills[0].keys() == {"memory", "disk", "parameters"}
    activations = [next(row["size"] for row in bill["memory"] if row["name"] == "activations") for bill in bills]
    assert activations[1] == pytest.approx(2 * activations[0], rel=0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_the_table_adds_up(recipe: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["train", recipe, "--dry-run"]) == 0
    table = capfd.readouterr().out
    for row in ("unet", "vae", "text_encoder", "LLM", "activations", "latents", "terms", "checkpoints"):
        assert row in table
    assert table.count("together") == 2


def test_a_mistake_costs_one_sentence(recipe: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", recipe, "--dry-run", "-o", "llm=./missing"]) == 1
    assert "./missing" in capfd.readouterr().err
