"""Drawn scenes of real things as training data: what is seen is what is said, in all kinds of words."""

import numpy as np
import pytest
import torch

from llmdiff.data import WorldData, captioned
from llmdiff.data.check import check
from llmdiff.data.world import World
from llmdiff.evaluation.domains import DOMAINS
from llmdiff.scenes.facts import Count, all_hold
from llmdiff.world.lexicon import NAMED_ONLY, THING_WORDS, held_out_words
from llmdiff.world.mix import Mix
from llmdiff.world.things import NAMES


def data(**settings: object) -> World:
    return World(WorldData.model_validate({"kind": "world", "captions": 12, "pictures": 2, **settings}))


def as_image(pixels: torch.Tensor) -> np.ndarray:
    """(3, H, W) in -1..1 to uint8 (H, W, 3)."""
    return ((pixels + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


def test_it_is_a_function_of_seed_and_number():
    few, many, other = data(captions=4), data(captions=8), data(captions=4, seed=5)
    assert few.captions[:4] == many.captions[:4] != other.captions[:4]
    assert torch.equal(few.pixels(3), many.pixels(3))
    names = [[one.identity(i) for i in range(4)] for one in (few, many, other)]
    assert names[0] == names[1]
    assert len({*names[0], *names[2]}) == 8


def test_pictures_show_what_their_captions_state_and_differ_in_the_rest():
    world = data(captions=3)
    assert len(world) == len(world.captions) == len(world.teacher_captions) == 6
    for n in range(len(world)):
        assert all_hold(world.facts(n), DOMAINS[2].read(as_image(world.pixels(n)))), world.captions[n]
    assert any(not torch.equal(world.pixels(n), world.pixels(n + 3)) for n in range(3))
    assert world.pixels(0).shape == (3, *world.size(0)) == (3, 128, 128)


def test_the_base_is_told_the_same_in_its_own_words():
    world = data(captions=60)
    for n in range(60):
        stated = [fact for fact in world.facts(n) if not (isinstance(fact, Count) and not fact.n)]
        assert world.teacher_captions[n] == (DOMAINS[2].plainly(stated),)
    assert sum(a == b for a, b in zip(world.captions, world.teacher_captions, strict=True)) > 10
    plain = data(mix={"plain": 1, "short": 0, "long": 0, "tags": 0, "implied": 0, "foreign": 0})
    assert plain.captions == plain.teacher_captions


def test_things_are_the_first_ones_and_some_go_by_their_names_alone():
    world = data(captions=400, things=20, mix={"implied": 0.5})
    assert {fact.look.kind for n in range(400) for fact in world.facts(n) if isinstance(fact, Count)} <= set(NAMES[:20])
    texts = " ".join(text for (text,) in world.captions)
    for name in NAMED_ONLY & set(NAMES[:20]):
        words = THING_WORDS[name]
        assert not [phrase for phrase in (words.mark, words.description) if phrase in texts]
    assert THING_WORDS["dog"].mark in texts
    assert not [word for word in held_out_words() if len(word.split()) > 2 and word in texts]


def test_a_recipe_opens_and_checks_it():
    source = WorldData(kind="world", captions=5)
    opened = captioned(source, resolution=64)
    assert isinstance(opened, World)
    assert check(source, resolution=64).sizes == {(128, 128): 20}


@pytest.mark.parametrize(
    "settings", [{"things": 3}, {"things": 301}, {"mix": {"plain": -1}}, {"mix": {"rhymes": 1}},
                 {"mix": dict.fromkeys(Mix().shares(), 0)}, {"mix": {"plain": float("nan")}}]
)  # fmt: skip
def test_what_cannot_be_is_refused(settings):
    with pytest.raises(ValueError, match=r"things|mix"):
        data(**settings)
