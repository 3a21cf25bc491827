"""The checker reads scenes that were drawn, also spoiled ones, and no things where there are none."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from PIL import Image, ImageFilter
from world_scenes import SEEDS

from llmdiff.world.atlas import STYLES, sprite
from llmdiff.world.checker import read
from llmdiff.world.drawing import BACKGROUNDS, background, draw, pixels
from llmdiff.world.scene import Lot, Placed, Scene, sample
from llmdiff.world.things import FIRST, NAMES
from llmdiff.world.vocabulary import COLOURS


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_what_was_drawn_is_read(seed):
    scene = sample(np.random.default_rng(seed), NAMES[:FIRST], canvas=64 if seed % 5 == 0 else 128)
    found = read(draw(scene), STYLES[:1], FIRST)
    assert set(found.scene.things) == set(scene.things)
    assert (found.scene.background, found.scene.canvas) == (scene.background, scene.canvas)
    assert found.clutter == 0


def jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=15)
    return Image.open(file)


def noisy(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, 20, (128, 128, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


SPOILS = {
    "noise": noisy,
    "blur": lambda image: image.filter(ImageFilter.GaussianBlur(1.5)),
    "jpeg": jpeg,
    "coarse": lambda image: image.resize((48, 48), Image.Resampling.BOX).resize((128, 128), Image.Resampling.BICUBIC),
    "dim": lambda image: image.point(lambda v: round(0.9 * v + 8)),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_what_was_drawn_is_read_when_spoiled(spoil):
    right = total = 0
    for seed in range(12):
        scene = sample(np.random.default_rng((7, seed)), NAMES[:FIRST])
        found = read(SPOILS[spoil](draw(scene)), STYLES[:1], FIRST).scene
        right += len(set(found.things) & set(scene.things)) - len(set(found.things) - set(scene.things))
        total += len(scene.things)
        assert found.background == scene.background
    assert right >= total - 1


def test_all_things_and_styles_are_read():
    for seed in range(3):
        scene = sample(np.random.default_rng(seed), NAMES, lot=Lot(styles=STYLES))
        scene = replace(scene, background="day")
        found = read(draw(scene)).scene
        assert (set(found.things), found.style) == (set(scene.things), scene.style)


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_an_empty_background_shows_nothing(name):
    found = read(Image.fromarray(background(name).copy()), count=FIRST)
    assert (found.scene.background, found.scene.things, found.clutter) == (name, (), 0)


def test_most_smears_are_nothing_and_none_is_many_things():
    """Smears of any colour and size, without outline or shape: opaque in the middle, fading to nothing."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:128, :128]
    counts = []
    for i in range(24):
        empty = background(list(BACKGROUNDS)[i % 8])
        alpha = np.clip(1.3 - np.hypot(columns - 60, rows - 60) / rng.integers(15, 41), 0, 1)[..., None]
        picture = empty * (1 - alpha) + alpha * rng.integers(0, 256, 3)
        counts.append(len(read(picture.astype(np.uint8), count=FIRST).scene.things))
    assert max(counts) <= 1
    assert sum(counts) < len(counts) / 2


def test_a_silhouette_is_not_the_thing():
    """A car in one colour alone, without windows, doors and wheels, is a smear of a car."""
    scene = Scene("day", (Placed("car", "own", "large", 32, 32),))
    rgba = sprite("car", "flat", 64)
    picture = pixels(scene)
    window = picture[32:96, 32:96]
    window[rgba[..., 3] > 128] = rgba[rgba[..., 3] > 128][:, :3].mean(0)
    assert [thing.kind for thing in read(picture, count=FIRST).scene.things] == []


def test_a_picture_of_another_size_is_resampled():
    scene = Scene("snow", (Placed("penguin", "blue", "large", 8, 56), Placed("dog", "own", "small", 80, 0)))
    assert read(draw(scene).resize((512, 512), Image.Resampling.NEAREST), count=FIRST).scene == scene


def test_the_answer_does_not_depend_on_how_sums_are_added():
    noise = np.random.default_rng(1).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    pictures = [noise, noise // 2 + pixels(sample(np.random.default_rng(2), NAMES[:FIRST])) // 2]
    threads = torch.get_num_threads()
    readings = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            readings.append([read(picture, count=FIRST) for picture in pictures])
    finally:
        torch.set_num_threads(threads)
    assert readings[0] == readings[1]


def test_every_tint_of_a_thing_is_told_apart():
    for colour in COLOURS:
        scene = Scene("wall", (Placed("guitar", colour, "small", 40, 40),))
        assert read(draw(scene), count=FIRST).scene.things[0].colour == colour
