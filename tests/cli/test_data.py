"""`llmdiff data check`: what it prints, and its exit status."""

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image

from llmdiff.cli import main
from tiny_base import Places


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures with text files beside them, two of them the same."""
    for name, colour in (("a", (255, 0, 0)), ("b", (0, 0, 255)), ("c", (255, 0, 0))):
        Image.new("RGB", (40, 20), colour).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(f"a {name}\nthe {name}\n")
    return tmp_path


def test_a_good_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(folder), "--resolution", "32"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    first, *table, last = said.out.splitlines()
    assert first == f"note  {'duplicate':<18}  {folder / 'c.png'}  (the same picture as {folder / 'a.png'})"
    assert table[1].split() == ["32", "×", "32", "3"]
    assert last == "3 pictures, 0 of them bad; 6 captions"


def test_bad_files_are_named_on_a_line_each(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "b.png").write_bytes(b"")
    (folder / "c.txt").write_text("")
    (folder / "d\x1b[2J.png").write_bytes(b"what")
    (folder / "d\x1b[2J.txt").write_text("d")
    assert main(["data", "check", str(folder)]) == 1
    out = capsys.readouterr().out
    lines = [line.split("  ") for line in out.splitlines() if line.startswith("bad")]
    assert [(line[1].strip(), Path(line[-1]).name) for line in lines] == [
        ("empty file", "b.png"), ("missing caption", "c.png"), ("not a picture", "d�[2J.png"),
    ]  # fmt: skip
    assert "\x1b" not in out
    assert out.splitlines()[-1] == "4 pictures, 3 of them bad; 2 captions"


def test_the_data_of_a_recipe_as_json(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "b.png").write_bytes(b"")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"data": {"kind": "folder", "path": str(folder)}}))
    assert main(["data", "check", str(tmp_path / "recipe.yaml"), "-o", "data.resolution=64", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["pictures"], report["bad"], report["captions"]) == (3, 1, 4)
    assert report["sizes"] == [{"height": 64, "width": 64, "pictures": 2}]
    assert [finding["kind"] for finding in report["findings"]] == ["empty file", "duplicate"]
    assert str(folder / "b.png") in report["findings"][0]["detail"]


def test_a_recipe_without_a_resolution_takes_its_base_models(
    folder: Path, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = {"base": str(places.base), "data": {"kind": "folder", "path": str(folder)}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["data", "check", str(folder / "recipe.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sizes"] == [{"height": 16, "width": 16, "pictures": 3}]


@pytest.mark.parametrize(("source", "said"), [("nowhere", "give a YAML file or a preset"), ("x.tar", "No shard")])
def test_what_is_not_there(tmp_path: Path, source: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(tmp_path / source)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert len(err.splitlines()) == 1
