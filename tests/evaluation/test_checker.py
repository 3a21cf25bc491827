"""The figures of the checker: right on drawings, and lower where the reading is wrong."""

import pytest

from llmdiff.evaluation import checker, evaluate_checker
from llmdiff.scenes.checker import Reading
from llmdiff.scenes.scene import Scene, Thing

SHARES = ("kinds", "colours", "sizes", "counts", "backgrounds", "whole")


def test_drawn_scenes_are_read_right():
    told: list[float] = []
    result = evaluate_checker(12, progress=lambda stage, share: told.append(share))
    assert result["scenes"] == 12
    assert result["things"] >= 12
    assert {result[name] for name in SHARES} == {1.0}
    assert result["false_things"] == 0
    assert told == [(n + 1) / 12 for n in range(12)]


def test_heavy_noise_costs_something():
    result = evaluate_checker(6, noise=120)
    assert result["noise"] == 120
    assert result["whole"] < 1


SCENE = Scene("day", (Thing("cup", "red", "small", 10, 10), Thing("star", "blue", "large", 40, 40)))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (SCENE, {}),
        (Scene("night", SCENE.things), {"backgrounds": 0, "whole": 0}),
        (Scene("day", SCENE.things[:1]), {"kinds": 0.5, "colours": 0.5, "sizes": 0.5, "counts": 0, "whole": 0}),
        (Scene("day", (*SCENE.things, Thing("sun", "red", "small", 10, 50))),
         {"counts": 0, "whole": 0, "false_things": 0.5}),
        (Scene("day", (SCENE.things[0], Thing("star", "pink", "large", 42, 40))), {"colours": 0.5, "whole": 0}),
        (Scene("day", (SCENE.things[0], Thing("sun", "blue", "small", 40, 40))),
         {"kinds": 0.5, "sizes": 0.5, "whole": 0}),
        (Scene("day", (SCENE.things[0], Thing("star", "blue", "large", 50, 40))),
         {"kinds": 0.5, "colours": 0.5, "sizes": 0.5, "false_things": 0.5, "whole": 0}),
    ],
)  # fmt: skip
def test_every_kind_of_mistake_is_counted(monkeypatch, found, expected):
    monkeypatch.setattr(checker, "sample_scene", lambda rng: SCENE)
    monkeypatch.setattr(checker, "read", lambda picture: Reading(found, 0.0))
    result = evaluate_checker(3)
    assert result["things"] == 6
    right = dict.fromkeys(SHARES, 1.0) | {"false_things": 0.0}
    assert {name: result[name] for name in right} == pytest.approx(right | expected)
