"""A run is resumed on the data that it began with, and on no other."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from data.listed import Listed
from llmdiff.errors import LLMDiffError
from llmdiff.training import train
from llmdiff.training.run_manifest import data_facts
from llmdiff.training.validation import Part
from tiny_base import Places
from training.test_run import interrupted, write_recipe

Undo = Callable[[], object]
SIZES = [(8, 8)] * 4


def picture(folder: Path, name: str) -> None:
    Image.new("RGB", (32, 32), (200, 10, 40)).save(folder / f"{name}.png")
    (folder / f"{name}.txt").write_text(f"picture {name}")


def add(folder: Path) -> Undo:
    picture(folder, "new")
    return (folder / "new.png").unlink


def remove(folder: Path) -> Undo:
    (folder / "2.png").rename(folder / "2.bak")
    return lambda: (folder / "2.bak").rename(folder / "2.png")


def say_otherwise(folder: Path) -> Undo:
    (folder / "1.txt").write_text("other words")
    return lambda: (folder / "1.txt").write_text("picture 1")


def paint_over(folder: Path) -> Undo:
    path = folder / "1.png"
    whole, status = path.read_bytes(), path.stat()

    def undo() -> None:
        path.write_bytes(whole)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    Image.new("RGB", (32, 32), (0, 0, 0)).save(path)
    os.utime(path, ns=(0, 0))
    return undo


CHANGES = {
    "number of pictures (6 then, 7 now)": add,
    "number of pictures (6 then, 5 now)": remove,
    "captions": say_otherwise,
    "pixels": paint_over,
}


def complaint(recipe: str) -> str:
    with pytest.raises(LLMDiffError) as caught:
        train(recipe, resume=True)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


@pytest.fixture
def recipe(tmp_path: Path, places: Places, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a run on six pictures that is interrupted in its third step."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in "123456":
        picture(folder, name)
    data = {"kind": "folder", "path": str(folder)}
    path = write_recipe(tmp_path, places, data=data, samples=[], heldout={"share": 0.2, "levels": 1})
    interrupted(path, monkeypatch)
    return path


def test_changed_data_is_refused_and_the_same_is_not(recipe: str, tmp_path: Path) -> None:
    note = tmp_path / "run" / "data.json"
    before = note.read_bytes()
    for what, change in CHANGES.items():
        undo = change(tmp_path / "pictures")
        assert f"The data or models of the run in {tmp_path / 'run'} have changed: the {what}. Put" in complaint(recipe)
        assert note.read_bytes() == before
        undo()
    assert train(recipe, resume=True)["steps"] == 4


def test_a_run_without_the_note_is_resumed_and_noted(recipe: str, tmp_path: Path) -> None:
    """As the user is told to do, and as it is with runs of earlier versions."""
    add(tmp_path / "pictures")
    note = tmp_path / "run" / "data.json"
    assert f"delete {note} to go on" in complaint(recipe)
    note.unlink()
    assert train(recipe, resume=True)["steps"] == 4
    assert '"number of pictures": 7' in note.read_text()


def test_every_fact_that_decides_on_samples_is_noted() -> None:
    def facts(**changes: object) -> dict[str, object]:
        listed = Listed(SIZES, [1.0, 2.0, 1.0, 1.0], captions=2)
        for name, value in changes.items():
            setattr(listed, name, value)
        return data_facts(Part(listed, [0, 1, 2]), Part(listed, [3]))

    plain, words = facts(), Listed(SIZES, captions=2).captions
    same_words_in_other_places = [("0 0",), ("0 1", *words[1]), *words[2:]]
    changes = {
        "captions": [
            {"captions": [words[1], words[0], *words[2:]]},
            {"captions": same_words_in_other_places},
            {"teacher_captions": [*words[:3], ("held-out",)]},
        ],
        "weights": [{"weights": [2.0, 1.0, 1.0, 1.0]}],
        "pixels": [{"identity": lambda index: f"{index} new"}, {"identity": lambda index: str(index + index // 3)}],
    }
    assert facts() == plain
    for name, values in changes.items():
        for change in values:
            assert [key for key, value in facts(**change).items() if value != plain[key]] == [name]
    other_split = data_facts(Listed(SIZES, captions=2), None)
    assert other_split["number of pictures"] == plain["number of pictures"]
    assert other_split["number of pictures held out"] == 0
