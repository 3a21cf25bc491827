"""The checker beside two hundred pictures that were labelled by eye, and the labels' own logic."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from checker_by_eye.draw import COUNT, sample
from llmdiff.cli.app import app
from llmdiff.errors import LLMDiffError
from llmdiff.evaluation.by_eye import evaluate_by_eye
from llmdiff.evaluation.domains import DOMAINS
from llmdiff.evaluation.labels import NONE, Label, Labelled, Sighting, labelled_pictures
from llmdiff.scenes.drawing import draw
from llmdiff.scenes.facts import Backdrop, Count, Fact, Look, Related
from llmdiff.scenes.scene import RELATIONS, Scene, Thing
from llmdiff.scenes.vocabulary import BACKGROUNDS, COLOURS, KINDS, SIZES

FOLDER = Path(__file__).parents[2] / "recipes" / "checker_by_eye"
WORLDS = 30


@pytest.fixture(scope="module")
def pictures() -> list[Labelled]:
    return labelled_pictures(FOLDER)


def agreement(pictures: list[Labelled]) -> dict[tuple[str, str], float]:
    return {(row["what"], row["system"]): row["agreement"] for row in evaluate_by_eye(pictures)}


@pytest.mark.slow
def test_the_checker_agrees_with_the_eye(pictures: list[Labelled]) -> None:
    found = agreement(pictures)
    assert found["facts", "all"] >= 0.95
    assert found["pictures", "all"] >= 0.95
    assert found["facts", "adapted"] >= 0.90


def test_it_does_on_some_of_them_and_a_wrong_one_does_not(
    pictures: list[Labelled], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = pictures[::10]
    assert agreement(few)["facts", "all"] >= 0.9
    monkeypatch.setitem(DOMAINS, 1, replace(DOMAINS[1], read=lambda image: Scene("day", ())))
    blind = evaluate_by_eye(few)
    assert next(row["agreement"] for row in blind if row["what"] == "facts") < 0.9
    assert all(row["agreement"] == 0 for row in blind if row["what"] == "seen")


def test_the_pictures_are_those_of_the_lot_half_of_each_system(pictures: list[Labelled]) -> None:
    assert [(one.system, one.prompt) for one in pictures] == [(job.system, job.prompt) for job in sample()]
    assert len(pictures) == COUNT
    assert abs(sum(one.system == "base" for one in pictures) - COUNT / 2) <= 2
    groups = [one.prompt.group for one in pictures]
    assert all(32 <= groups.count(group) <= 34 for group in set(groups))


def written(thing: Thing) -> str:
    return f"{thing.kind} {thing.colour} {thing.size} {thing.x} {thing.y}"


SCENE = Scene("night", (Thing("cup", "red", "small", 12, 20), Thing("star", "blue", "large", 44, 40)))
TRUE = (
    Count(Look("cup", "red"), 1),
    Related(Look("cup"), "left of", Look("star", None, "large")),
    Backdrop("night"),
)
LABEL = Label.of({"background": "night", "things": [written(thing) for thing in SCENE.things]})


def test_a_label_of_what_is_drawn_agrees_with_the_checker_in_everything(pictures: list[Labelled]) -> None:
    from PIL import Image

    one = replace(
        pictures[0], image=Image.fromarray(draw(SCENE)), label=LABEL, prompt=replace(pictures[0].prompt, facts=TRUE)
    )
    for row in evaluate_by_eye([one]):
        assert (row["agreement"], row["undecided"], row["missed"], row["false_alarms"]) == (1.0, 0, 0, 0)
        assert row["compared"] > 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, (True, True, True)),
        ({"background": "night|day"}, (True, True, None)),
        ({"background": "day|snow"}, (True, True, False)),
        ({"things": ["cup red|pink small 12 20", written(SCENE.things[1])]}, (None, True, True)),
        ({"things": ["cup pink small 12 20", written(SCENE.things[1])]}, (False, True, True)),
        ({"things": [f"cup|{NONE} red small 12 20", written(SCENE.things[1])]}, (None, None, True)),
        ({"things": [f"{NONE} red small 12 20", written(SCENE.things[1])]}, (False, False, True)),
        ({"things": ["cup red small 27 25", written(SCENE.things[1])]}, (True, None, True)),
        ({"things": ["cup red small 44 10", written(SCENE.things[1])]}, (True, False, True)),
        ({"things": []}, (False, False, True)),
    ],
)
def test_what_the_eye_cannot_decide_is_neither_true_nor_false(
    change: dict[str, object], expected: tuple[bool | None, ...]
) -> None:
    label = Label.of({"background": "night", "things": [written(thing) for thing in SCENE.things]} | change)
    assert tuple(label.holds(fact) for fact in TRUE) == expected


LOOKS = st.builds(
    Look,
    st.sampled_from(KINDS[:3]),
    st.none() | st.sampled_from(list(COLOURS)[:2]),
    st.none() | st.sampled_from(list(SIZES)),
)
FACTS = (
    st.builds(Count, LOOKS, st.integers(1, 3))
    | st.builds(Related, LOOKS, st.sampled_from(RELATIONS), LOOKS)
    | st.builds(Backdrop, st.sampled_from(list(BACKGROUNDS)))
)


def some(names: list[str]) -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(st.sampled_from(names), min_size=1, max_size=2)


SIGHTINGS = st.builds(
    Sighting, some([*KINDS[:3], NONE]), some([*list(COLOURS)[:2], NONE]), some(list(SIZES)),
    st.integers(8, 56), st.integers(8, 56),
)  # fmt: skip
LABELS = st.builds(Label, some(list(BACKGROUNDS)), st.lists(SIGHTINGS, max_size=4).map(tuple))


@given(LABELS, FACTS, st.randoms())
def test_a_decided_fact_is_so_whatever_is_left_open(label: Label, fact: Fact, lot: object) -> None:
    """However what is open is settled, a fact that the label decides has its value."""
    answer = label.holds(fact)
    for _ in range(WORLDS if answer is not None else 0):
        things = tuple(
            Thing(*(lot.choice(sorted(seen)) for seen in (one.kinds, one.colours, one.sizes)), one.x, one.y)
            for one in label.things
        )
        assert fact.holds(Scene(lot.choice(sorted(label.backgrounds)), things)) == answer


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("labels.json", "{", "not usable JSON"),
        ("labels.json", '{"pictures": 3}', "no list of pictures"),
        ("labels.json", '{"pictures": []}', "as many labels as pictures"),
        ("labels.json", None, "cannot be read"),
        ("drawn.json", None, "cannot be read"),
        ("pictures.webp", None, "no file"),
        ("pictures.webp", "no picture", "damaged"),
    ],
)
def test_what_is_not_labelled_as_it_should_be_is_one_sentence(
    tmp_path: Path, file: str, content: str | None, sentence: str
) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "copy")
    (folder / file).unlink() if content is None else (folder / file).write_text(content)
    with pytest.raises(LLMDiffError, match=sentence):
        labelled_pictures(folder)


@pytest.mark.parametrize(
    "row",
    [{}, [], {"background": "fog", "things": []}, {"background": "day", "things": ["cup red small 3"]},
     {"background": "day", "things": ["cup red small x 3"]}, {"background": "day", "things": ["dog red small 3 3"]},
     {"background": 3, "things": []}, {"background": "day", "things": [7]}],
)  # fmt: skip
def test_a_label_that_says_nothing_is_named_by_its_number(tmp_path: Path, row: object) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "copy")
    labels = json.loads((folder / "labels.json").read_text())
    labels["pictures"][41] = row
    (folder / "labels.json").write_text(json.dumps(labels))
    with pytest.raises(LLMDiffError, match="picture 41 of"):
        labelled_pictures(folder)


def test_the_command_line_prints_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DOMAINS, 1, replace(DOMAINS[1], read=lambda image: SCENE))
    result = CliRunner().invoke(app, ["evaluate", "checker", "--labels", str(FOLDER), "--json"])
    rows = json.loads(result.stdout)
    assert {row["system"] for row in rows} == {"base", "adapted", "all"}
    table = CliRunner().invoke(app, ["evaluate", "checker", "--labels", str(FOLDER)]).stdout
    assert "backdrop" in table
    assert "false alarms" in table
