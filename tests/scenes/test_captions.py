"""Plain captions say what their facts state, and the facts are true."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdiff.scenes.captions import listed, plain_caption, plain_text
from llmdiff.scenes.description import Description, Detail, Mention, describe
from llmdiff.scenes.facts import Backdrop, Count, Look, Related, all_hold
from llmdiff.scenes.phrasing import contains_held_out
from llmdiff.scenes.scene import sample_scene
from scenes.grammar import facts_of

SEEDS = st.integers(0, 2**32 - 1)
DETAILS = st.builds(Detail, *[st.sampled_from([0.0, 0.5, 1.0])] * 4)


@given(SEEDS, DETAILS)
@settings(max_examples=200, deadline=None)
def test_a_caption_states_its_facts_and_they_hold(seed, detail):
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    caption = plain_caption(scene, rng, detail)
    assert facts_of(caption.text) == set(caption.facts)
    assert len(set(caption.facts)) == len(caption.facts)
    assert all_hold(caption.facts, scene)
    assert not contains_held_out(caption.text)


@given(SEEDS, DETAILS)
@settings(max_examples=100, deadline=None)
def test_every_thing_is_mentioned_once(seed, detail):
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    description = describe(scene, rng, detail)
    assert sum(mention.n for mention in description.mentions) == len(scene.things)
    for thing in scene.things:
        assert sum(mention.look.fits(thing) for mention in description.mentions) == 1
    assert Description.of(description.facts()) == description


def test_detail_decides_what_is_said():
    scene = sample_scene(np.random.default_rng(8), count=2)
    full = plain_caption(scene, np.random.default_rng(0), Detail(1, 1, 1, 1))
    bare = plain_caption(scene, np.random.default_rng(0), Detail(0, 0, 0, 0))
    assert any(isinstance(fact, Backdrop) for fact in full.facts)
    assert all(fact.look.colour and fact.look.size for fact in full.facts if isinstance(fact, Count))
    assert {type(fact) for fact in bare.facts} == {Count}


@pytest.mark.parametrize(
    ("mentions", "relation", "place", "text"),
    [
        ([(Look("ball", "red", "small"), 1)], None, None, "a small red ball"),
        ([(Look("umbrella"), 1)], None, "day", "an umbrella by day"),
        ([(Look("box", "orange"), 1)], None, "night", "an orange box at night"),
        ([(Look("box", "blue"), 2)], None, "snow", "two blue boxes in the snow"),
        ([(Look("fish", None, "large"), 4)], None, "sunset", "four large fish at sunset"),
        ([(Look("sun"), 1), (Look("cup"), 3)], None, None, "a sun and three cups"),
        ([(Look("sun"), 1), (Look("cup"), 1), (Look("car"), 1)], "above", "desert",
         "a sun above a cup and a car in the desert"),
        ([(Look("sun"), 1), (Look("cup"), 1), (Look("car"), 1), (Look("star"), 1)], None, None,
         "a sun, a cup, a car and a star"),
    ],
)  # fmt: skip
def test_wordings(mentions, relation, place, text):
    description = Description(tuple(Mention(*pair) for pair in mentions), relation, place)
    assert plain_text(description) == text
    assert facts_of(text) == set(description.facts())


def test_facts_of_a_description():
    ball, cup = Look("ball", "red"), Look("cup")
    description = Description((Mention(ball, 1), Mention(cup, 1)), "left of", "night")
    assert description.facts() == (Count(ball, 1), Count(cup, 1), Related(ball, "left of", cup), Backdrop("night"))


def test_lists():
    assert [listed("a"), listed("ab"), listed("abc")] == ["a", "a and b", "a, b and c"]
