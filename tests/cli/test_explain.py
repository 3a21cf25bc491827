"""`llmdiff explain` on tiny models."""

import json
from pathlib import Path

import pytest
from PIL import Image

from cli.running import Run
from tiny_base import Places


@pytest.fixture
def models(places: Places) -> list[str]:
    return ["--base", str(places.base), "--adapter", str(places.adapter), "--llm", str(places.llm), "--steps", "2"]


def test_from_a_prompt_to_one_picture_and_its_numbers(run: Run, models: list[str], tmp_path: Path) -> None:
    (tmp_path / "others.txt").write_text("a blue ball\nthe house\n")
    options = ["--exchange", "red=blue", "--among", "others.txt", "--nearest", "1", "--json"]
    result = run("explain", "a red ball", *models, *options)
    assert result.status == 0, result.stderr
    found = json.loads(result.stdout)
    with Image.open(found["path"]) as image:
        assert image.format == "PNG"
        assert image.width > 500
    assert [word["text"] for word in found["words"]] == ["a", "red", "ball"]
    assert found["exchanges"]["replacements"] == ["", "blue", ""]
    assert len(found["exchanges"]["moved"]) == len(found["attention"]["adapted"]["adapter"]["maps"]) == 3
    assert found["attention"]["base"]["adapter"] is None
    assert len(found["blocks"]["weights"]) == 4
    assert len(found["nearest"]) == 1
    content = Path(found["path"]).read_bytes()
    again = run("explain", "a red ball", *models, "--nearest", "0").stdout.strip()
    assert [Path(name).name for name in (found["path"], again)] == ["a-red-ball-s0-why.png", "a-red-ball-s0-why-2.png"]
    assert Path(found["path"]).read_bytes() == content, "no explanation takes another's file"


def test_mistakes_are_told_before_a_model_is_loaded(run: Run, models: list[str], tmp_path: Path) -> None:
    assert run("explain", "a ball", *models, "--exchange", "red").status == 2
    assert "cannot be read" in run("explain", "a ball", *models, "--among", "none.txt").stderr
    assert "multiples of 8" in run("explain", "a ball", *models, "--size", "9x9").stderr
    assert "no word" in run("explain", "...", *models).stderr
    assert "up to 64" in run("explain", "ball " * 3000, *models).stderr
    assert "'cat' is no word" in run("explain", "a ball", *models, "--exchange", "cat=dog").stderr
    assert not (tmp_path / "out").exists()
