"""The figures of the checkers: right on drawings, and lower where the reading is wrong or the picture spoiled."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmdiff.evaluation import checker, evaluate_checker
from llmdiff.evaluation.checker import EXAMS
from llmdiff.scenes.facts import Backdrop, Count, Look
from llmdiff.scenes.scene import Scene, Shown, Thing
from llmdiff.world import checker as world_checker
from llmdiff.world.scene import Scene as WorldScene
from tiny_base import Places

SHARES = ("kinds", "colours", "sizes", "counts", "backgrounds", "facts", "whole")


@pytest.fixture(autouse=True)
def few_things(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all things of the world, templates would take the longest to make."""
    names = checker.NAMES[:40]
    monkeypatch.setattr(checker, "NAMES", names)
    read = world_checker.read
    exam = replace(EXAMS[2], read=lambda picture: read(picture, ("flat",), len(names)).scene)
    monkeypatch.setitem(EXAMS, 2, exam)


@pytest.mark.parametrize(("version", "count"), [(1, 8), (2, 4)])
def test_drawn_scenes_are_read_right(version: int, count: int) -> None:
    told: list[float] = []
    result = evaluate_checker(count, progress=lambda stage, share: told.append(share), version=version)
    assert result["scenes"] == count
    assert result["things"] >= count
    assert {result[name] for name in SHARES} == {1.0}
    assert result["false_things"] == 0
    assert told == [1]


def test_the_first_things_are_drawn_and_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    read = world_checker.read

    def counting(picture: np.ndarray, count: int) -> world_checker.Reading:
        counts.append(count)
        return read(picture, ("flat",), count)

    monkeypatch.setattr(world_checker, "read", counting)
    assert evaluate_checker(3, version=2, things=6)["whole"] == 1
    assert counts == [6] * 3


@pytest.mark.parametrize("version", EXAMS)
@pytest.mark.parametrize("spoil", [{"noise": 150.0}, {"blur": 8.0}])
def test_what_spoils_pictures_costs_something(version: int, spoil: dict[str, float]) -> None:
    result = evaluate_checker(4, version=version, **spoil)
    assert result["whole"] < 1
    assert spoil.items() <= result.items()


SCENE = Scene("day", (Thing("cup", "red", "small", 10, 10), Thing("star", "blue", "large", 40, 40)))
FACTS = (Count(Look("cup", "red", "small"), 1), Count(Look("star", "blue", "large"), 1), Backdrop("day"))


def shown(found: Shown) -> Any:
    drawn = checker.Drawn(SCENE, FACTS, np.zeros((64, 64, 3), np.uint8), np.random.default_rng(0))
    return checker.Exam(lambda number: drawn, lambda picture: found, reach=6)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (SCENE, {}),
        (Scene("night", SCENE.things), {"backgrounds": 0, "whole": 0, "facts": 2 / 3}),
        (Scene("day", SCENE.things[:1]),
         {"kinds": 0.5, "colours": 0.5, "sizes": 0.5, "counts": 0, "whole": 0, "facts": 2 / 3}),
        (Scene("day", (*SCENE.things, Thing("sun", "red", "small", 10, 50))),
         {"counts": 0, "whole": 0, "false_things": 0.5}),
        (Scene("day", (SCENE.things[0], Thing("star", "pink", "large", 42, 40))),
         {"colours": 0.5, "whole": 0, "facts": 2 / 3}),
        (Scene("day", (SCENE.things[0], Thing("sun", "blue", "small", 40, 40))),
         {"kinds": 0.5, "sizes": 0.5, "whole": 0, "facts": 2 / 3}),
        (Scene("day", (SCENE.things[0], Thing("star", "blue", "large", 50, 40))),
         {"kinds": 0.5, "colours": 0.5, "sizes": 0.5, "false_things": 0.5, "whole": 0}),
    ],
)  # fmt: skip
def test_every_kind_of_mistake_is_counted(
    monkeypatch: pytest.MonkeyPatch, found: Scene, expected: dict[str, float]
) -> None:
    monkeypatch.setitem(EXAMS, 1, shown(found))
    result = evaluate_checker(3)
    assert result["things"] == 6
    right = dict.fromkeys(SHARES, 1.0) | {"false_things": 0.0}
    assert {name: result[name] for name in right} == pytest.approx(right | expected)


def test_what_is_not_read_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXAMS, 2, replace(EXAMS[2], read=lambda picture: WorldScene("day", ())))
    result = evaluate_checker(6, version=2)
    assert result["whole"] == result["kinds"] == 0
    assert result["facts"] < 0.3


def test_pictures_go_through_a_base_s_autoencoder(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a tiny, untrained one makes of a picture is no scene."""
    seen: list[np.ndarray] = []
    exam = replace(EXAMS[1], read=lambda picture: seen.append(picture) or SCENE)
    monkeypatch.setitem(EXAMS, 1, exam)
    evaluate_checker(2, base=str(places.base))
    evaluate_checker(2)
    assert (seen[0].shape, seen[0].dtype) == (seen[2].shape, np.uint8)
    assert not np.array_equal(seen[0], seen[2])


@pytest.mark.fault("lost work")
def test_an_interrupted_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def broken(number: int) -> checker.Drawn:
        read.append(number)
        if len(read) == 33:
            raise KeyboardInterrupt
        return checker.Drawn(SCENE, FACTS[: 1 + number % 3], np.zeros((64, 64, 3), np.uint8), np.random.default_rng(0))

    monkeypatch.setitem(EXAMS, 1, replace(shown(Scene("night", SCENE.things[:1])), drawn=broken))
    with pytest.raises(KeyboardInterrupt):
        evaluate_checker(50, keep_in=tmp_path)
    result = evaluate_checker(50, keep_in=tmp_path)
    assert read[33:] == list(range(20, 50))
    assert result == evaluate_checker(50)
    assert list(tmp_path.iterdir()) == []
