"""The atlas: every thing in every style and size, unlike every other, and small."""

from importlib.resources import files

import numpy as np
import pytest
from PIL import Image, ImageDraw

from llmdiff.world.atlas import STYLES, load, own_tints, sheet_name, sprite
from llmdiff.world.things import NAMES
from llmdiff.world.vocabulary import COLOURS, SIZES
from world import build_atlas


def coarse(sprites: np.ndarray) -> np.ndarray:
    """Sprites on grey in blocks of 4 pixels: (K, N)."""
    rgba = sprites.astype(float)
    pixels = rgba[..., :3] * rgba[..., 3:] / 255 + 128 * (1 - rgba[..., 3:] / 255)
    side = sprites.shape[1] // 4
    return pixels.reshape(len(sprites), side, 4, side, 4, 3).mean((2, 4)).reshape(len(sprites), -1)


@pytest.mark.parametrize("style", STYLES)
def test_all_things_can_be_told_apart_when_small(style):
    x = coarse(load(style, 40))
    distances = np.sqrt(np.maximum(0, (x**2).sum(1)[:, None] + (x**2).sum(1) - 2 * x @ x.T) / x.shape[1])
    distances[np.diag_indices(300)] = np.inf
    nearest = np.unravel_index(distances.argmin(), distances.shape)
    assert distances.min() > 12, (NAMES[nearest[0]], NAMES[nearest[1]])


@pytest.mark.parametrize("side", SIZES.values())
@pytest.mark.parametrize("style", STYLES)
def test_the_art_fills_its_frame_but_for_a_margin(style, side):
    for name in NAMES:
        seen = sprite(name, style, side)[..., 3] >= 16
        down, across = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        longer = max(down[-1] - down[0], across[-1] - across[0]) + 1
        assert 0.85 * side <= longer <= side - 1, name


def test_the_sheets_are_small():
    folder = files("llmdiff.world")
    assert sum((folder / sheet_name(s, p)).stat().st_size for s in STYLES for p in SIZES.values()) < 4_000_000


@pytest.mark.parametrize("colour", COLOURS)
def test_a_tint_is_nearest_to_its_own_colour(colour):
    middles = {name: np.mean(ramp, axis=0) for name, ramp in COLOURS.items()}
    for name in NAMES[:120]:
        rgba = sprite(name, "flat", 40, colour)
        mean = rgba[rgba[..., 3] > 128][:, :3].mean(0)
        assert min(middles, key=lambda other: np.abs(middles[other] - mean).sum()) == colour, name


def test_tints_keep_the_shape_and_leave_the_own_colours_alone():
    before = sprite("dog", "flat", 64).copy()
    tinted = sprite("dog", "flat", 64, "blue")
    assert np.array_equal(tinted[..., 3], before[..., 3])
    assert np.array_equal(sprite("dog", "flat", 64), before)
    assert not tinted.flags.writeable
    assert not before.flags.writeable or not sprite("dog", "flat", 64).flags.writeable


def test_some_things_have_the_colour_of_a_tint():
    assert "yellow" in own_tints("lemon")
    assert own_tints("cloud") == {"white"}
    assert not own_tints("rainbow")


def test_the_recipe_fits_art_into_its_frame():
    art = Image.new("RGBA", (256, 256))
    ImageDraw.Draw(art).rectangle((100, 40, 139, 119), fill=(200, 10, 10, 255))
    made = np.asarray(build_atlas.sprite(art, 64))
    seen = made[..., 3] > 127
    down, across = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    assert abs(len(down) - 60) <= 1
    assert abs(len(across) - 30) <= 1
    assert abs(int(down[0] + down[-1]) - 63) <= 1
    assert abs(int(across[0] + across[-1]) - 63) <= 1
    assert made[32, 32].tolist() == [200, 10, 10, 255]


def test_the_recipe_puts_sprites_where_the_atlas_reads_them():
    sprites = [Image.fromarray(sprite(name, "flat", 40)) for name in NAMES[:25]]
    sheet = np.asarray(build_atlas.sheet(sprites, 40))
    assert sheet.shape == (80, 800, 4)
    assert np.array_equal(sheet[40:80, 40:80], np.asarray(sprites[21]))
