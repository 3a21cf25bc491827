"""Pictures: repeatable, and a thing looks the same wherever it stands."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from world_scenes import SCENES, SEEDS

from llmdiff.world.drawing import BACKGROUNDS, background, draw, pixels
from llmdiff.world.scene import Looks, Scene, place
from llmdiff.world.vocabulary import CELL, COLOURS


@given(SCENES)
@settings(max_examples=60, deadline=None)
def test_a_picture_is_the_background_with_things_in_their_frames(scene):
    picture = pixels(scene)
    assert picture.shape == (scene.canvas, scene.canvas, 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(np.asarray(draw(scene)), picture)
    inside = np.zeros(picture.shape[:2], bool)
    for thing in scene.things:
        frame = (slice(thing.top, thing.top + thing.side), slice(thing.left, thing.left + thing.side))
        inside[frame] = True
        assert (picture[frame] != background(scene.background, scene.canvas)[frame]).any()
    assert np.array_equal(picture[~inside], background(scene.background, scene.canvas)[~inside])


@given(SCENES, SEEDS)
@settings(max_examples=60, deadline=None)
def test_a_thing_has_the_same_pixels_wherever_it_stands(scene, seed):
    thing = scene.things[0]
    (moved,) = place([thing.looks], np.random.default_rng(seed), scene.canvas)
    crops = []
    for one in (thing, moved):
        picture = pixels(replace(scene, things=(one,)))
        crops.append(picture[one.top : one.top + one.side, one.left : one.left + one.side])
    assert np.array_equal(*crops)


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_a_background_is_the_same_in_every_cell(name):
    cells = background(name).reshape(16, CELL, 16, CELL, 3).swapaxes(1, 2).reshape(256, -1)
    assert len(np.unique(cells, axis=0)) == 1
    assert not background(name).flags.writeable


def test_backgrounds_and_tints_are_unlike_each_other():
    means = {name: background(name).mean((0, 1)) for name in BACKGROUNDS}
    for name, mean in means.items():
        assert all(np.abs(mean - other).max() > 20 for key, other in means.items() if key != name)
        for colour, ramp in COLOURS.items():
            assert np.abs(np.mean(ramp, axis=0) - mean).max() > 25, (name, colour)


def test_the_order_of_things_does_not_matter():
    things = place([Looks("dog", "red", "small"), Looks("cat", "own", "large")], np.random.default_rng(0))
    assert np.array_equal(pixels(Scene("sea", things)), pixels(Scene("sea", things[::-1])))
