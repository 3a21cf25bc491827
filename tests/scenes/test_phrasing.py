"""Natural captions: true, in taught words only unless asked otherwise, and in English."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdiff.scenes import lexicon
from llmdiff.scenes.captions import plural
from llmdiff.scenes.description import Description, Detail, Mention
from llmdiff.scenes.facts import Backdrop, Count, Look, Related, all_hold
from llmdiff.scenes.phrasing import (
    Style,
    article,
    contains_held_out,
    held_out_words,
    natural_caption,
    natural_text,
    plural_phrase,
)
from llmdiff.scenes.scene import RELATIONS, sample_scene

SEEDS = st.integers(0, 2**32 - 1)
PLAIN = Style(plain=1, clause=0)


def says(text: str, forms: list[str]) -> bool:
    return any(re.search(rf"\b{re.escape(form)}\b", text, re.IGNORECASE) for form in forms)


def forms(words: lexicon.Words, kind: str = "") -> list[str]:
    """Everything that may stand for a meaning; with a kind, in the plural too."""
    phrases = [*words.taught, *words.held_out]
    return phrases + ([plural_phrase(phrase, kind) for phrase in phrases] if kind else [])


@given(SEEDS, st.sampled_from([Style(), PLAIN, Style(plain=0, clause=1), Style(held_out=0.9)]))
@settings(max_examples=200, deadline=None)
def test_facts_hold_and_each_is_worded(seed, style):
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    caption = natural_caption(scene, rng, style)
    assert all_hold(caption.facts, scene)
    for fact in caption.facts:
        if isinstance(fact, Count):
            assert says(caption.text, forms(lexicon.KIND_WORDS[fact.look.kind], fact.look.kind)), fact
            assert fact.look.colour is None or says(caption.text, forms(lexicon.COLOUR_WORDS[fact.look.colour])), fact
            assert fact.look.size is None or says(caption.text, forms(lexicon.SIZE_WORDS[fact.look.size])), fact
            assert fact.n == 1 or says(caption.text, forms(lexicon.NUMBER_WORDS[fact.n])), fact
        if isinstance(fact, Backdrop):
            assert says(caption.text, forms(lexicon.BACKGROUND_WORDS[fact.name])), fact


@given(SEEDS)
@settings(max_examples=200, deadline=None)
def test_training_captions_hold_no_held_out_word(seed):
    rng = np.random.default_rng(seed)
    assert not contains_held_out(natural_caption(sample_scene(rng), rng).text)


@given(SEEDS)
@settings(max_examples=50, deadline=None)
def test_held_out_wording_replaces_every_word_of_content(seed):
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, count=1)
    thing = scene.things[0]
    text = natural_caption(scene, rng, Style(held_out=1), Detail(1, 1, 1, 1)).text
    assert contains_held_out(text)
    tables = ((lexicon.KIND_WORDS, thing.kind), (lexicon.COLOUR_WORDS, thing.colour), (lexicon.SIZE_WORDS, thing.size))
    for table, name in tables:
        assert says(text, list(table[name].held_out)), (name, text)


def relation_in(text: str) -> tuple[str, str, str]:
    """Which of "ball" and "cup" stands how to the other, read off a wording with plain words."""
    first, second = re.findall("ball|cup", text)
    spoken = re.findall("|".join(RELATIONS), text)
    assert len(spoken) == 1, text
    if re.search(f"with an? .*{spoken[0]} it", text):
        return second, spoken[0], first
    if re.search(f", and {spoken[0]} it an? ", text):
        return second, spoken[0], first
    assert re.search(f"{first}( that is)? {spoken[0]} an? (red )?{second}", text), text
    return first, spoken[0], second


OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


@given(SEEDS, st.sampled_from(RELATIONS))
@settings(max_examples=150, deadline=None)
def test_a_relation_is_said_the_right_way_round_from_either_side(seed, relation):
    description = Description((Mention(Look("ball", "red"), 1), Mention(Look("cup", "red"), 1)), relation, None)
    a, spoken, b = relation_in(natural_text(description, np.random.default_rng(seed), PLAIN))
    assert spoken == (relation if (a, b) == ("ball", "cup") else OPPOSITE[relation])


def test_both_sides_and_every_pattern_come_up():
    description = Description((Mention(Look("ball", "red"), 1), Mention(Look("cup", "red"), 1)), "left of", None)
    texts = [natural_text(description, np.random.default_rng(seed), PLAIN) for seed in range(200)]
    tails = Counter(bool(re.search(", and right of it", text)) for text in texts)
    assert tails[True] > 15
    assert {relation_in(text) for text in texts} == {("ball", "left of", "cup"), ("cup", "right of", "ball")}
    assert isinstance(description.facts()[-1], Related)


@pytest.mark.parametrize(
    ("singular", "kind", "expected"),
    [
        ("box", "box", "boxes"), ("fish", "fish", "fish"), ("swimming fish", "fish", "swimming fish"),
        ("goldfish", "fish", "goldfish"), ("daisy", "flower", "daisies"), ("solar body", "sun", "solar bodies"),
        ("puff of vapour", "cloud", "puffs of vapour"), ("sign of love", "heart", "signs of love"),
        ("larch", "tree", "larches"), ("Christmas tree", "tree", "Christmas trees"), ("fungus", "mushroom", "fungi"),
        ("coffee mug", "cup", "coffee mugs"), ("fly agaric", "mushroom", "fly agarics"), ("taxi", "car", "taxis"),
    ],
)  # fmt: skip
def test_plurals(singular, kind, expected):
    assert plural_phrase(singular, kind) == expected


def test_the_plain_plural_agrees_with_the_natural_one():
    assert all(plural_phrase(kind, kind) == plural(kind) for kind in lexicon.KIND_WORDS)


def test_articles():
    words = ["ultramarine car", "orange box", "umbrella", "emerald star", "house", "huge orb", "wee mug"]
    assert [article(word).split()[0] for word in words] == ["an", "an", "an", "an", "a", "a", "a"]


def test_held_out_words_are_found_in_any_form():
    for phrase in held_out_words():
        assert contains_held_out(f"I see {phrase.upper()}, so lovely")
    for plural_form in ("two poppies", "signs of love", "solar bodies", "larches"):
        assert contains_held_out(plural_form)
    assert not contains_held_out("a twinkling star and a cloud")


@given(SEEDS)
@settings(max_examples=100, deadline=None)
def test_sentences_are_tidy(seed):
    rng = np.random.default_rng(seed)
    text = natural_caption(sample_scene(rng), rng).text
    assert text == text.strip()
    assert not re.search(r"  | [,.]|[,.]{2}|\{|\}|\ba [aeiou]|\ban [^aeiou]|None", text), text
