"""The figures of the world's checker: all of what is drawn, less of what is spoiled."""

import numpy as np
import pytest

from llmdiff.evaluation import evaluate_world_checker, world_checker
from llmdiff.world.checker import Reading
from llmdiff.world.scene import Scene


@pytest.fixture(autouse=True)
def few_things(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all things, templates would take the longest to make."""
    names = world_checker.NAMES[:40]
    read = world_checker.read
    monkeypatch.setattr(world_checker, "NAMES", names)
    monkeypatch.setattr(world_checker, "read", lambda picture: read(picture, ("flat",), len(names)))


def test_drawn_scenes_are_read_right():
    shares: list[float] = []
    assert evaluate_world_checker(4, progress=lambda stage, share: shares.append(share)) == {
        "scenes": 4, "facts": 1.0, "whole": 1.0,
    }  # fmt: skip
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_what_spoils_pictures_costs_something():
    assert evaluate_world_checker(3, noise=150.0, blur=8.0)["whole"] < 1


def test_what_is_not_read_does_not_count(monkeypatch):
    monkeypatch.setattr(world_checker, "read", lambda picture: Reading(Scene("day", ()), 0.0))
    result = evaluate_world_checker(6)
    assert result["whole"] == 0
    assert result["facts"] < 0.3


def test_pictures_go_through_a_base_s_autoencoder(monkeypatch):
    asked = []

    def through(base: str):
        asked.append(base)
        return lambda picture: np.zeros_like(picture)

    monkeypatch.setattr(world_checker, "through_autoencoder", through)
    assert evaluate_world_checker(2, base="some/base")["whole"] == 0
    assert asked == ["some/base"]


def test_an_autoencoder_gives_a_picture_back(places):
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    lossy = world_checker.through_autoencoder(str(places.base))(picture)
    assert (lossy.shape, lossy.dtype) == (picture.shape, np.uint8)
    assert not np.array_equal(lossy, picture)
