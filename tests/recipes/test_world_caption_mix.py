"""The trial of caption mixes: what readers are taught and asked, and that they learn."""

import numpy as np
import pytest
import torch

from llmdiff.world.lexicon import THING_WORDS
from llmdiff.world.things import THING
from tiny_base import Places
from world.caption_mix import KINDS, MIXES, TESTS, THINGS, Captions, askable, right, told, trained
from world.thing_reader import _READ, States, states_of


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "unseen languages"])
def test_things_that_are_only_named_are_taught_by_name_and_asked_in_other_words(kind):
    some = askable(kind)[::6]
    taught, asked = (told(kind, some, 3, 1, every) for every in (False, True))
    for text, number in zip(taught.texts, taught.things, strict=True):
        assert THING[THINGS[number]].noun in text
        assert not [word for word in THING_WORDS[THINGS[number]].synonyms if word in text]
    if kind in TESTS[1:]:
        named = [THING[THINGS[n]].noun in text for text, n in zip(asked.texts, asked.things, strict=True)]
        assert sum(named) <= (0 if kind in ("definitions", "keywords") else len(named) / 2)
    assert taught.texts == told(kind, some, 3, 1, every=False).texts


def test_mixes_are_of_known_kinds():
    for mix in MIXES.values():
        assert sum(mix.values()) == pytest.approx(1)
        assert set(mix) <= set(KINDS) - {"unseen languages"}


def captions(seed: int, each: int) -> Captions:
    """Three tokens each, of which one is that of the thing."""
    rng = torch.Generator().manual_seed(seed)
    names = torch.randn(len(THINGS), _READ, generator=torch.Generator().manual_seed(7))
    things = torch.arange(len(THINGS)).repeat(each)
    rows = [torch.cat((torch.randn(2, _READ, generator=rng), names[thing][None])) for thing in things]
    return Captions(States(tuple(rows)), things)


@pytest.mark.parametrize("by", ["names", "vectors"])
def test_a_reader_learns_to_say_the_thing(by):
    taught, asked = {"plain": captions(0, 4)}, captions(1, 1)
    before, reader = (trained(taught, {"plain": 1.0}, by, steps, seed=0) for steps in (1, 80))
    assert right(before, asked).mean() < 0.2
    assert right(reader, asked).mean() > 0.6
    again = trained(taught, {"plain": 1.0}, by, 80, seed=0)
    assert np.array_equal(right(again, asked), right(reader, asked))
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), reader.parameters(), strict=True))


def test_states_of_texts_do_not_depend_on_those_that_are_read_with_them(places: Places):
    texts = ["a dog", "an enormous crimson dog in the snow", "two cats"]
    states = states_of(str(places.llm), texts)
    assert len(states) == 3
    padded, padding = states.batch(np.array([1, 0]))
    assert padded.shape == (2, len(states.rows[1]), _READ)
    assert padding.sum(1).tolist() == [0, len(states.rows[1]) - len(states.rows[0])]
    together = torch.cat(states.rows)
    assert together.mean(0).abs().max() < 1e-4
