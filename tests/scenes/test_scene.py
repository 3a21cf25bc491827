"""Scenes drawn by lot: what is in them, and where."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdiff.scenes import scene as scenes
from llmdiff.scenes.scene import OPPOSITE, Scene, Thing, place, relation, sample_scene
from llmdiff.scenes.vocabulary import BACKGROUNDS, COLOURS, IMAGE_SIZE, KINDS, SIZES

SEEDS = st.integers(0, 2**32 - 1)


def frame(thing: Thing, grown: int = 0) -> np.ndarray:
    """The pixels of a thing's frame on a canvas with a border of 8: bool (80, 80)."""
    canvas = np.zeros((IMAGE_SIZE + 16, IMAGE_SIZE + 16), bool)
    left, top = (corner + 8 for corner in thing.corner)
    canvas[top - grown : top + thing.side + grown, left - grown : left + thing.side + grown] = True
    return canvas


def assert_well_placed(things: tuple[Thing, ...]) -> None:
    for i, thing in enumerate(things):
        inside = frame(thing, grown=1)[8:-8, 8:-8]
        assert inside.sum() == (thing.side + 2) ** 2, f"{thing} leaves the picture"
        for other in things[:i]:
            assert not (frame(thing, grown=1) & frame(other)).any(), f"{thing} touches {other}"


@given(SEEDS)
@settings(max_examples=150, deadline=None)
def test_things_stay_in_the_picture_and_never_touch(seed):
    scene = sample_scene(np.random.default_rng(seed))
    assert 1 <= len(scene.things) <= 4
    assert_well_placed(scene.things)


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_so_do_four_large_ones(seed):
    looks = [("ball", "red", "large")] * 4
    things = place(looks, np.random.default_rng(seed))
    assert len(things) == 4
    assert_well_placed(things)


@given(SEEDS, st.lists(st.sampled_from(list(SIZES)), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_quarters_hold_what_no_try_could_place(seed, sizes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "_free_spots", lambda size, others: np.empty((0, 2), int))
        things = place([("box", "blue", size) for size in sizes], np.random.default_rng(seed))
    assert [thing.size for thing in things] == sizes
    assert_well_placed(things)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_number_of_things_can_be_set(count):
    assert {len(sample_scene(np.random.default_rng(seed), count).things) for seed in range(20)} == {count}


def test_the_same_seed_gives_the_same_scene():
    drawn = [sample_scene(np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_everything_the_domain_has_comes_up_and_repeats_are_common():
    found = [sample_scene(np.random.default_rng(seed)) for seed in range(300)]
    things = [thing for scene in found for thing in scene.things]
    assert {scene.background for scene in found} == set(BACKGROUNDS)
    assert {thing.kind for thing in things} == set(KINDS)
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {thing.size for thing in things} == set(SIZES)
    repeated = [scene for scene in found if len({(t.kind, t.colour, t.size) for t in scene.things}) < len(scene.things)]
    assert 60 < len(repeated) < 200


def thing(x: int, y: int) -> Thing:
    return Thing("ball", "red", "small", x, y)


@pytest.mark.parametrize(
    ("dx", "dy", "expected"),
    [
        (-20, 0, "left of"), (20, 5, "right of"), (0, -9, "above"), (3, 30, "below"),
        (-6, 0, "left of"), (-5, 0, None), (0, 6, "below"), (0, 5, None), (2, 2, None),
        (-12, 9, "left of"), (-12, 10, None), (9, -12, "above"), (10, -12, None), (20, 20, None),
    ],
)  # fmt: skip
def test_one_axis_must_clearly_win(dx, dy, expected):
    assert relation(thing(30 + dx, 30 + dy), thing(30, 30)) == expected


@given(*[st.integers(0, 63)] * 4)
def test_the_relation_turns_round_with_the_pair(x0, y0, x1, y1):
    there, back = relation(thing(x0, y0), thing(x1, y1)), relation(thing(x1, y1), thing(x0, y0))
    assert back == (OPPOSITE[there] if there else None)


def test_scenes_compare_by_content():
    assert Scene("day", (thing(1, 2),)) == Scene("day", (thing(1, 2),))
