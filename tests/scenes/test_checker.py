"""The checker reads drawn scenes back exactly, and sees nothing where nothing is."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from llmdiff.scenes.checker import MAX_FOUND, read
from llmdiff.scenes.drawing import background, draw
from llmdiff.scenes.scene import Scene, Thing, sample_scene
from llmdiff.scenes.vocabulary import BACKGROUNDS, COLOURS, KINDS


def content(scene: Scene) -> tuple[str, frozenset[Thing]]:
    return scene.background, frozenset(scene.things)


def scenes(n: int) -> list[Scene]:
    return [sample_scene(np.random.default_rng((99, seed))) for seed in range(n)]


def test_drawn_scenes_are_read_back_exactly():
    for scene in scenes(40):
        assert content(read(draw(scene)).scene) == content(scene)


def test_so_are_noisy_ones():
    rng = np.random.default_rng(0)
    for scene in scenes(20):
        noisy = draw(scene) + rng.normal(0, 6, (64, 64, 3))
        assert content(read(noisy.clip(0, 255).astype(np.uint8)).scene) == content(scene)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_in_a_colour_and_both_sizes(kind):
    colour = list(COLOURS)[KINDS.index(kind) % len(COLOURS)]
    name = list(BACKGROUNDS)[KINDS.index(kind) % len(BACKGROUNDS)]
    scene = Scene(name, (Thing(kind, colour, "small", 12, 20), Thing(kind, colour, "large", 44, 40)))
    assert content(read(draw(scene)).scene) == content(scene)


def test_a_shift_moves_the_things_and_nothing_else():
    for scene in scenes(12):
        if all(thing.x + thing.side // 2 + 2 < 64 for thing in scene.things):
            shifted = np.roll(draw(scene), 2, axis=1)
            expected = Scene(scene.background, tuple(replace(thing, x=thing.x + 2) for thing in scene.things))
            assert content(read(shifted).scene) == content(expected)


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_an_empty_picture_is_empty(name):
    reading = read(background(name))
    assert content(reading.scene) == (name, frozenset())
    assert reading.clutter == 0


def test_other_sizes_modes_and_types_are_taken():
    scene = Scene("day", (Thing("star", "red", "large", 30, 30), Thing("cup", "blue", "small", 10, 50)))
    picture = Image.fromarray(draw(scene))
    large = picture.resize((256, 256), Image.Resampling.NEAREST)
    for image in (picture, large, large.convert("RGBA"), np.asarray(picture)):
        assert content(read(image).scene) == content(scene)


def blob(rgb: tuple[int, int, int], radius: float) -> np.ndarray:
    """A smear of one colour without outline or shape: opaque in the middle, fading to nothing."""
    y, x = np.mgrid[:64, :64]
    alpha = np.clip(1.3 - np.hypot(x - 32, y - 26) / radius, 0, 1)[..., None]
    return (background("day") * (1 - alpha) + alpha * np.array(rgb)).astype(np.uint8)


@pytest.mark.parametrize("radius", [4, 6, 8, 12, 18, 24])
def test_a_smear_is_clutter_and_not_a_thing(radius):
    for colour in COLOURS:
        reading = read(blob(COLOURS[colour], radius))
        assert reading.scene.things == (), colour
        assert reading.clutter > 0.005, colour


def test_a_smear_does_not_hide_what_is_drawn_beside_it():
    thing = Thing("star", "yellow", "small", 54, 54)
    picture = blob(COLOURS["red"], 12)
    picture[45:] = draw(Scene("day", (thing,)))[45:]
    assert read(picture).scene.things == (thing,)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_wash_of_one_colour_is_not_full_of_things(colour):
    """Many places explain it equally well; between those taken for smears, one thing may seem to be left."""
    reading = read(np.full((64, 64, 3), COLOURS[colour], np.uint8))
    assert len(reading.scene.things) <= 1
    assert reading.clutter > 0.5


def test_noise_shows_next_to_nothing():
    rng = np.random.default_rng(1)
    found = [read(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)) for _ in range(12)]
    assert sum(bool(reading.scene.things) for reading in found) <= 1
    assert min(reading.clutter for reading in found) > 0.7


def test_the_search_ends():
    rng = np.random.default_rng(2)
    spots = [(x, y) for x in (9, 27, 45) for y in (9, 27, 45)]
    things = tuple(Thing(str(rng.choice(KINDS)), "red", "small", x, y) for x, y in spots)
    assert len(read(draw(Scene("snow", things))).scene.things) <= MAX_FOUND
