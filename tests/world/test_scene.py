"""Scenes by lot: on the grid, apart from each other, and of things that look as the scene says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world_scenes import SCENES, SEEDS

from llmdiff.scenes.facts import Count, Look
from llmdiff.world.atlas import own_tints
from llmdiff.world.description import Detail, describe
from llmdiff.world.scene import Looks, Lot, Placed, place, sample
from llmdiff.world.staging import scene_with
from llmdiff.world.things import NAMES
from llmdiff.world.vocabulary import CELL, OWN


@given(SCENES)
@settings(max_examples=200, deadline=None)
def test_things_lie_on_the_grid_and_apart(scene):
    taken = np.zeros((scene.canvas, scene.canvas), int)
    for thing in scene.things:
        assert (thing.left % CELL, thing.top % CELL, thing.side % CELL) == (0, 0, 0)
        assert min(thing.left, thing.top) >= 0
        assert max(thing.left, thing.top) + thing.side <= scene.canvas
        assert thing.colour not in own_tints(thing.kind)
        taken[thing.top : thing.top + thing.side, thing.left : thing.left + thing.side] += 1
    assert taken.max() == 1
    assert 1 <= len(scene.things) <= 4
    assert scene.canvas == 128 or len(scene.things) == 1


def test_the_same_lot_draws_the_same_scene():
    assert sample(np.random.default_rng(3)) == sample(np.random.default_rng(3))
    assert sample(np.random.default_rng(3)) != sample(np.random.default_rng(4))


def test_only_listed_things_are_drawn():
    rng = np.random.default_rng(0)
    kinds = {thing.kind for _ in range(200) for thing in sample(rng, NAMES[:7]).things}
    assert kinds == set(NAMES[:7])


@pytest.mark.parametrize("size", ["small", "large"])
def test_four_things_of_one_size_always_find_a_place(size):
    for seed in range(50):
        things = place([Looks("dog", OWN, size)] * 4, np.random.default_rng(seed))
        assert len({(thing.left, thing.top) for thing in things}) == 4


def test_places_are_spread_over_the_picture():
    rng = np.random.default_rng(0)
    corners = {(t.left, t.top) for _ in range(3000) for t in place([Looks("dog", OWN, "small")], rng)}
    assert len(corners) == 12 * 12


def test_the_lot_decides_counts_and_colours():
    rng = np.random.default_rng(0)
    scenes = [sample(rng, lot=Lot(counts=(0, 0, 1, 0), own=1.0, repeats=1.0)) for _ in range(30)]
    assert {len(scene.things) for scene in scenes} == {3}
    assert {thing.colour for scene in scenes for thing in scene.things} == {OWN}


def test_a_thing_has_its_tint_and_the_colour_that_is_its_own():
    assert Placed("lemon", OWN, "small", 0, 0).has_colour("yellow")
    assert not Placed("lemon", OWN, "small", 0, 0).has_colour("blue")
    assert Placed("lemon", "blue", "small", 0, 0).has_colour("blue")
    assert not Placed("lemon", "blue", "small", 0, 0).has_colour("yellow")


@given(SCENES, SEEDS)
@settings(max_examples=100, deadline=None)
def test_all_that_is_described_holds_and_can_be_staged_again(scene, seed):
    rng = np.random.default_rng(seed)
    facts = describe(scene, rng, Detail(size=0.7, links=0.8)).facts()
    assert all(fact.holds(scene) for fact in facts)
    assert sum(fact.n for fact in facts if isinstance(fact, Count)) == len(scene.things)
    again = scene_with(facts, rng)
    assert all(fact.holds(again) for fact in facts)


@given(st.sampled_from(NAMES), SEEDS)
@settings(max_examples=30, deadline=None)
def test_what_is_not_stated_is_open_but_for_the_colour(name, seed):
    thing = scene_with([Count(Look(name), 1)], np.random.default_rng(seed)).things[0]
    assert (thing.kind, thing.colour) == (name, OWN)
