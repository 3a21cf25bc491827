"""Pictures of scenes: repeatable, each thing within its frame and unlike every other."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdiff.scenes.drawing import background, draw, sprite
from llmdiff.scenes.scene import Scene, Thing, sample_scene
from llmdiff.scenes.vocabulary import BACKGROUNDS, COLOURS, HORIZON, KINDS, SIZES


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_a_picture_is_the_background_with_things_in_their_frames(seed):
    scene = sample_scene(np.random.default_rng(seed))
    picture = draw(scene)
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture, draw(scene))
    outside = np.ones((64, 64), bool)
    for thing in scene.things:
        left, top = thing.corner
        outside[top : top + thing.side, left : left + thing.side] = False
        assert not np.array_equal(picture[~outside], background(scene.background)[~outside])
    assert np.array_equal(picture[outside], background(scene.background)[outside])


@given(st.integers(0, 2**32 - 1), st.randoms())
@settings(max_examples=20, deadline=None)
def test_the_order_of_things_does_not_matter(seed, random):
    scene = sample_scene(np.random.default_rng(seed), count=4)
    shuffled = random.sample(scene.things, 4)
    assert np.array_equal(draw(scene), draw(Scene(scene.background, tuple(shuffled))))


def test_drawing_leaves_the_backgrounds_alone():
    before = {name: background(name).copy() for name in BACKGROUNDS}
    for name in BACKGROUNDS:
        draw(Scene(name, (Thing("sun", "red", "large", 32, 32),)))
    assert all(np.array_equal(background(name), before[name]) for name in BACKGROUNDS)


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_a_background_is_sky_over_ground(name):
    empty = draw(Scene(name, ()))
    assert np.array_equal(np.unique(empty[:HORIZON].reshape(-1, 3), axis=0), [BACKGROUNDS[name].sky])
    assert np.array_equal(np.unique(empty[HORIZON:].reshape(-1, 3), axis=0), [BACKGROUNDS[name].ground])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_thing_shows_its_colour_on_a_good_part_of_its_frame(kind, size):
    for name, rgb in COLOURS.items():
        colour, alpha = sprite(kind, name, size)
        assert colour.shape == (SIZES[size], SIZES[size], 3)
        assert alpha.shape == (SIZES[size], SIZES[size], 1)
        assert alpha.min() >= 0
        assert alpha.max() <= 1
        pure = (np.abs(colour - rgb).max(-1) < 2) & (alpha[..., 0] > 0.99)
        assert pure.mean() > 0.03, name


@pytest.mark.parametrize("size", SIZES)
def test_no_two_kinds_look_alike(size):
    """In every colour, their pictures differ by a tenth of what a thing differs from nothing, or more."""
    for colour in COLOURS:
        drawn = {kind: sprite(kind, colour, size) for kind in KINDS}
        flat = {kind: np.concatenate([rgb / 255 * alpha, alpha], -1) for kind, (rgb, alpha) in drawn.items()}
        for a, b in combinations(KINDS, 2):
            apart = np.square(flat[a] - flat[b]).sum() / min(np.square(flat[k]).sum() for k in (a, b))
            assert apart > 1 / 10, (a, b, colour)


def test_no_two_colours_look_alike_and_none_is_a_background():
    for (a, first), (b, second) in combinations(COLOURS.items(), 2):
        assert np.linalg.norm(np.subtract(first, second)) > 60, (a, b)
    grounds = [rgb for pair in BACKGROUNDS.values() for rgb in pair]
    assert not set(COLOURS.values()) & set(grounds)
