"""Pictures that the checker reads: drawn scenes, washes, smears, noise."""

import numpy as np
from hypothesis import strategies as st

from llmdiff.scenes.drawing import background, draw
from llmdiff.scenes.scene import sample_scene
from llmdiff.scenes.vocabulary import BACKGROUNDS, RGB

COLOUR = st.tuples(*[st.integers(0, 255)] * 3)
BACKGROUND = st.sampled_from(list(BACKGROUNDS))


def wash(rgb: RGB) -> np.ndarray:
    """A picture of one colour."""
    return np.full((64, 64, 3), rgb, np.uint8)


def smear(rgb: RGB, radius: float, x: float = 32, y: float = 26, name: str = "day") -> np.ndarray:
    """A smear of one colour without outline or shape: opaque in the middle, fading to nothing."""
    rows, columns = np.mgrid[:64, :64]
    alpha = np.clip(1.3 - np.hypot(columns - x, rows - y) / radius, 0, 1)[..., None]
    return (background(name) * (1 - alpha) + alpha * np.array(rgb)).astype(np.uint8)


def drawing(seed: int) -> np.ndarray:
    """A scene drawn by lot."""
    return draw(sample_scene(np.random.default_rng(seed)))


def noise(seed: int, low: int = 0, high: int = 256) -> np.ndarray:
    """Grey levels drawn by lot from `low` to before `high`."""
    return np.random.default_rng(seed).integers(low, high, (64, 64, 3)).astype(np.uint8)


WASHES = st.builds(wash, COLOUR)
SMEARS = st.builds(smear, COLOUR, st.floats(4, 30), st.floats(0, 63), st.floats(0, 63), BACKGROUND)
DRAWINGS = st.builds(drawing, st.integers(0, 2**32))
NOISES = st.builds(noise, st.integers(0, 2**32))
PICTURES = st.one_of(WASHES, SMEARS, DRAWINGS, NOISES)
