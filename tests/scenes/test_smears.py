"""Washes, smears and shadings of any colour, anywhere, on any background, are none of the things that can be drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdiff.scenes.checker import read
from llmdiff.scenes.vocabulary import BACKGROUNDS, COLOURS, IMAGE_SIZE, INK
from scenes.pictures import COLOUR, SMEARS, WASHES, smear, wash


@given(WASHES)
@settings(max_examples=20, deadline=None)
def test_a_wash_shows_nothing(picture):
    assert read(picture).scene.things == ()


@pytest.mark.parametrize("near", [*COLOURS.values(), INK, *(rgb for name in BACKGROUNDS.values() for rgb in name)])
def test_nor_does_one_nearly_in_a_colour_of_the_domain(near):
    assert read(wash(tuple(np.clip(np.array(near) + 3, 0, 255)))).scene.things == ()


@given(SMEARS)
@settings(max_examples=20, deadline=None)
def test_a_smear_is_not_a_thing(picture):
    assert read(picture).scene.things == ()


@pytest.mark.parametrize("name", BACKGROUNDS)
@pytest.mark.parametrize("colour", COLOURS)
def test_nor_is_one_in_a_colour_of_the_domain(colour, name):
    for radius, x, y in ((4, 20, 50), (9, 40, 12)):
        assert read(smear(COLOURS[colour], radius, x, y, name)).scene.things == (), radius


@given(COLOUR, COLOUR, st.floats(0, 2 * np.pi))
@settings(max_examples=15, deadline=None)
def test_shading_from_one_colour_to_another_is_not_a_thing(start, end, angle):
    y, x = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE]
    way = x * np.cos(angle) + y * np.sin(angle)
    share = ((way - way.min()) / np.ptp(way))[..., None]
    picture = (1 - share) * np.array(start) + share * np.array(end)
    assert read(picture.astype(np.uint8)).scene.things == ()
