"""Scenes that are drawn by lot, for properties."""

import numpy as np
from hypothesis import strategies as st

from llmdiff.world.atlas import STYLES
from llmdiff.world.scene import Lot, Scene, sample
from llmdiff.world.things import NAMES


def scene(seed: int) -> Scene:
    """A scene of any of the things, in any style, now and then of a thing alone."""
    rng = np.random.default_rng(seed)
    return sample(rng, NAMES, canvas=64 if seed % 5 == 0 else 128, lot=Lot(styles=STYLES))


SEEDS = st.integers(0, 2**32 - 1)
SCENES = st.builds(scene, SEEDS)
