"""What facts mean, and that a changed scene breaks them."""

from dataclasses import replace

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llmdiff.scenes.captions import plain_caption
from llmdiff.scenes.description import Detail
from llmdiff.scenes.facts import Backdrop, Count, Look, Related, all_hold
from llmdiff.scenes.phrasing import natural_caption
from llmdiff.scenes.scene import Scene, Thing, sample_scene
from llmdiff.scenes.vocabulary import BACKGROUNDS, COLOURS, KINDS, SIZES

SEEDS = st.integers(0, 2**32 - 1)
RED_BALL = Thing("ball", "red", "small", 10, 30)
SCENE = Scene("night", (RED_BALL, Thing("ball", "red", "large", 30, 30), Thing("cup", "blue", "small", 50, 30)))


def test_counts_are_exact():
    held = {n for n in range(5) if Count(Look("ball", "red"), n).holds(SCENE)}
    assert held == {2}
    assert Count(Look("ball", size="small"), 1).holds(SCENE)
    assert Count(Look("cup", "red"), 0).holds(SCENE)
    assert not Count(Look("star"), 1).holds(SCENE)


def test_what_is_left_open_fits_anything():
    assert Look("ball").fits(RED_BALL)
    assert Look("ball", "red", "small").fits(RED_BALL)
    assert not Look("box", "red", "small").fits(RED_BALL)
    assert not Look("ball", "blue").fits(RED_BALL)
    assert not Look("ball", None, "large").fits(RED_BALL)


def test_some_pair_must_stand_so():
    assert Related(Look("ball"), "left of", Look("cup")).holds(SCENE)
    assert Related(Look("ball", size="small"), "left of", Look("ball", size="large")).holds(SCENE)
    assert Related(Look("ball"), "left of", Look("ball")).holds(SCENE)
    assert not Related(Look("cup"), "left of", Look("ball")).holds(SCENE)
    assert not Related(Look("ball"), "above", Look("cup")).holds(SCENE)
    assert not Related(Look("cup"), "left of", Look("cup")).holds(SCENE)


def test_backgrounds():
    assert [name for name in BACKGROUNDS if Backdrop(name).holds(SCENE)] == ["night"]


def changed(scene: Scene, index: int, **changes: object) -> Scene:
    things = list(scene.things)
    things[index] = replace(things[index], **changes)
    return Scene(scene.background, tuple(things))


@given(SEEDS, st.integers(0, 3), st.booleans(), st.data())
@settings(max_examples=150, deadline=None)
def test_a_caption_is_false_of_an_altered_scene(seed, index, natural, data):
    """All that a full caption says is needed: kind, colour, size and number of every thing, and the background."""
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    full = Detail(colour=1, size=1, relation=1, background=1)
    word = natural_caption if natural else plain_caption
    facts = word(scene, rng, detail=full).facts
    thing = scene.things[index % len(scene.things)]
    at = scene.things.index(thing)
    altered = [
        changed(scene, at, colour=data.draw(st.sampled_from([c for c in COLOURS if c != thing.colour]))),
        changed(scene, at, kind=data.draw(st.sampled_from([k for k in KINDS if k != thing.kind]))),
        changed(scene, at, size=next(size for size in SIZES if size != thing.size)),
        Scene(scene.background, scene.things[:at] + scene.things[at + 1 :]),
        Scene(scene.background, (*scene.things, thing)),
        Scene(next(name for name in BACKGROUNDS if name != scene.background), scene.things),
    ]
    assert all_hold(facts, scene)
    for other in altered:
        assert not all_hold(facts, other), other


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_a_relation_is_false_when_its_pair_changes_places(seed):
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, count=2)
    facts = plain_caption(scene, rng, Detail(1, 1, 1, 1)).facts
    assume(any(isinstance(fact, Related) for fact in facts))
    a, b = scene.things
    swapped = Scene(scene.background, (replace(a, x=b.x, y=b.y), replace(b, x=a.x, y=a.y)))
    assert not all_hold(facts, swapped)
    assert [fact for fact in facts if not fact.holds(swapped)] == [fact for fact in facts if isinstance(fact, Related)]
