"""What was drawn in place of what was stated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdiff.evaluation.confusion import NOTHING, Reading, confusion, readings
from llmdiff.scenes.description import Detail, describe
from llmdiff.scenes.facts import Backdrop, Count, Look, Related
from llmdiff.scenes.scene import Scene, Thing, sample_scene
from llmdiff.scenes.vocabulary import COLOURS

BALL, CUP = Look("ball", "red", "small"), Look("cup", "blue", "large")
FACTS = (Count(BALL, 1), Count(CUP, 1), Related(BALL, "left of", CUP), Backdrop("night"))
RED_BALL, BLUE_CUP = Thing("ball", "red", "small", 12, 30), Thing("cup", "blue", "large", 45, 30)


def wrong(scene: Scene) -> set[tuple[str, str, str]]:
    return {tuple(one) for one in readings(FACTS, scene, COLOURS) if one.stated != one.drawn}


@pytest.mark.parametrize(
    ("things", "background", "expected"),
    [
        ((RED_BALL, BLUE_CUP), "night", set()),
        ((RED_BALL, BLUE_CUP), "day", {("background", "night", "day")}),
        ((RED_BALL,), "night", {("kind", "cup", NOTHING), ("number", "1", "0")}),
        ((Thing("ball", "pink", "large", 12, 30), BLUE_CUP), "night",
         {("colour", "red", "pink"), ("size", "small", "large")}),
        ((Thing("sun", "red", "small", 12, 30), BLUE_CUP), "night", {("kind", "ball", "sun"), ("number", "1", "0")}),
        ((Thing("ball", "blue", "small", 12, 30), Thing("cup", "red", "large", 45, 30)), "night",
         {("colour", "red", "blue"), ("colour", "blue", "red")}),
        ((Thing("ball", "red", "small", 45, 30), Thing("cup", "blue", "large", 12, 30)), "night",
         {("relation", "left of", "right of")}),
        ((RED_BALL, BLUE_CUP, Thing("ball", "red", "small", 12, 50)), "night",
         {("kind", NOTHING, "ball"), ("number", "1", "2")}),
        ((RED_BALL, Thing("cup", "blue", "large", 14, 32)), "night", {("relation", "left of", "neither")}),
    ],
)  # fmt: skip
def test_each_way_to_be_wrong(things: tuple[Thing, ...], background: str, expected: set[tuple[str, str, str]]) -> None:
    assert wrong(Scene(background, things)) == expected


@given(st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_a_scene_is_not_confused_with_itself(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    facts = describe(scene, rng, Detail(1, 1, 1, 1)).facts()
    found = readings(facts, scene, COLOURS)
    assert [one for one in found if one.stated != one.drawn] == []
    assert sum(one.what == "kind" for one in found) == len(scene.things)


def test_shares_are_of_all_times_that_a_value_was_stated() -> None:
    rows = confusion(
        [Reading("colour", "red", "red")] * 3 + [Reading("colour", "red", "pink"), Reading("size", "a", "b")]
    )
    assert [(row["drawn"], row["count"], row["share"]) for row in rows] == [
        ("red", 3, 0.75),
        ("pink", 1, 0.25),
        ("b", 1, 1),
    ]
