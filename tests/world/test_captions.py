"""Captions of all kinds: they say what holds, and nothing of what is kept for tests."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world_scenes import SCENES, SEEDS

from llmdiff.scenes.description import Mention
from llmdiff.scenes.facts import Count, Look
from llmdiff.world.captions import PLACES, plain, plain_caption
from llmdiff.world.description import Description, Detail, Link, describe
from llmdiff.world.languages import LANGUAGES, can_say, foreign_text
from llmdiff.world.lexicon import (
    BACKGROUND_WORDS,
    COLOUR_WORDS,
    NAMED_ONLY,
    NUMBER_WORDS,
    RELATION_WORDS,
    SIZE_WORDS,
    TAUGHT_LANGUAGES,
    THING_WORDS,
    held_out_words,
)
from llmdiff.world.mix import KINDS, Mix
from llmdiff.world.mixture import mixed_caption, with_absent
from llmdiff.world.phrasing import Style, short_text, tags_text
from llmdiff.world.prose import LONGEST, SHORTEST, Prose, prose_text
from llmdiff.world.scene import Placed, Scene, sample
from llmdiff.world.things import FIRST, NAMES, THING, THINGS
from llmdiff.world.vocabulary import COLOURS, SIZES

TABLES = (BACKGROUND_WORDS, COLOUR_WORDS, NUMBER_WORDS, RELATION_WORDS, SIZE_WORDS)
ONLY = {kind: Mix(**(dict.fromkeys(KINDS, 0.0) | {kind: 1.0})) for kind in KINDS}


def test_a_plain_caption_says_all_without_a_lot():
    scene = Scene("wall", (Placed("dog", "red", "small", 0, 40), Placed("teapot", "own", "large", 64, 32)))
    assert plain(Scene("snow", scene.things[:1])) == "a small red dog in the snow"
    text = plain(scene)
    assert text in (
        "a small red dog left of a large teapot by the wall", "a large teapot right of a small red dog by the wall",
    )  # fmt: skip


WORDS = {word for thing in THINGS for form in (thing.noun, thing.plural) for word in form.split()}
WORDS |= {
    *COLOURS,
    *SIZES,
    *" ".join(PLACES.values()).split(),
    *["a", "an", "two", "three", "four", "and", "left", "right", "of", "above", "below"],
}


@given(SCENES, SEEDS)
@settings(max_examples=100, deadline=None)
def test_plain_captions_are_of_few_words(scene, seed):
    caption = plain_caption(scene, np.random.default_rng(seed))
    assert set(caption.text.replace(",", "").split()) <= WORDS
    assert all(fact.holds(scene) for fact in caption.facts)


@pytest.mark.parametrize("kind", KINDS)
@given(SCENES, SEEDS)
@settings(max_examples=25, deadline=None)
def test_captions_of_every_kind_state_what_holds(kind, scene, seed):
    caption = mixed_caption(scene, np.random.default_rng(seed), mix=ONLY[kind])
    assert caption.text
    assert caption.facts
    assert all(fact.holds(scene) for fact in caption.facts)


HELD_OUT = re.compile("|".join(rf"\b{re.escape(phrase)}\b" for phrase in held_out_words()), re.IGNORECASE)


def test_no_word_for_training_says_what_is_held_out():
    texts = [word for table in TABLES for words in table.values() for word in words.taught]
    for name, words in THING_WORDS.items():
        texts += [THING[name].noun, THING[name].plural]
        if name not in NAMED_ONLY:
            texts += [*words.synonyms, words.mark, words.description, words.riddle]
            texts += [words.names[code] for code in TAUGHT_LANGUAGES]
    assert [(text, match.group()) for text in texts if (match := HELD_OUT.search(text))] == []


def test_training_captions_never_say_what_is_held_out():
    rng = np.random.default_rng(0)
    texts = [mixed_caption(sample(rng, NAMES), rng).text for _ in range(300)]
    assert [match.group() for text in texts if (match := HELD_OUT.search(text))] == []


def test_things_that_are_named_only_are_told_by_name_alone_in_training_and_otherwise_in_tests():
    scene = Scene("snow", (Placed("elephant", "red", "small", 0, 40),))
    for seed in range(50):
        rng = np.random.default_rng(seed)
        description = describe(scene, rng)
        assert "elephant" in mixed_caption(scene, rng).text
        assert "elephant" not in short_text(description, rng, Style(synonym=1.0, all_things=True))
        text = prose_text(description, rng, Prose(implied=1.0), Style(all_things=True))
        assert "elephant" not in text or THING_WORDS["elephant"].mark not in text
    assert "elephant" in NAMED_ONLY


@given(SCENES, SEEDS)
@settings(max_examples=100, deadline=None)
def test_long_captions_have_between_sixty_and_two_hundred_words(scene, seed):
    rng = np.random.default_rng(seed)
    text = prose_text(describe(scene, rng), rng, Prose(long=True))
    assert SHORTEST <= len(text.split()) <= LONGEST


@given(SEEDS)
@settings(max_examples=100, deadline=None)
def test_it_stands_for_what_was_named_last(seed):
    """Neither a filler nor a place parts a sentence about "it" from the thing."""
    rng = np.random.default_rng(seed)
    looks = (Look("dog", "red"), Look("horse", "blue"))
    description = Description(tuple(Mention(look, 1) for look in looks), (Link(0, "left of", 1),), "snow")
    text = prose_text(description, rng, Prose(long=True), Style(synonym=0.0, plain=1.0))
    sentences = re.split(r"(?<=[.?]) ", text)
    names = [i for i, sentence in enumerate(sentences) if re.search(r"\b(dog|horse)\b", sentence)]
    looks_at = [i for i, sentence in enumerate(sentences) if sentence in ("It is red.", "It is blue.")]
    assert all(i - 1 in names for i in looks_at)
    assert "right of it" in sentences[names[1]].lower()


def test_what_is_absent_is_said_and_a_fact():
    scene = Scene("snow", (Placed("dog", "own", "small", 0, 40),))
    rng = np.random.default_rng(0)
    description = with_absent(describe(scene, rng), rng, ("dog", "hat"))
    assert description.absent == ("hat",)
    assert Count(Look("hat"), 0) in description.facts()
    for text in (short_text(description, rng), tags_text(description, rng), prose_text(description, rng)):
        assert re.search(r"\bhat\b", text)
        assert re.search(r"\b(no|without|not|leave out|in vain)\b", text, re.IGNORECASE)
    assert Description.of(description.facts()) == description


@given(SCENES, SEEDS)
@settings(max_examples=100, deadline=None)
def test_a_description_comes_back_from_its_facts(scene, seed):
    description = describe(scene, np.random.default_rng(seed), Detail(links=1.0))
    assert Description.of(description.facts()) == description


@pytest.mark.parametrize(("code", "expected"), [
    ("de", "Ein kleiner roter Hund, rechts davon eine blaue Katze, bei Nacht."),
    ("fr", "Un petit chien rouge, à sa droite un chat bleu, la nuit."),
    ("es", "Un perro rojo pequeño, a su derecha un gato azul, de noche."),
    ("it", "Un cane rosso piccolo, alla sua destra un gatto blu, di notte."),
    ("nl", "Een kleine rode hond, rechts ervan een blauwe kat, 's nachts."),
    ("pt", "Um cachorro vermelho pequeno, à sua direita um gato azul, à noite."),
])  # fmt: skip
def test_other_languages(code, expected):
    mentions = (Mention(Look("dog", "red", "small"), 1), Mention(Look("cat", "blue"), 1))
    assert foreign_text(Description(mentions, (Link(0, "left of", 1),), "night"), code) == expected


@given(st.sampled_from(NAMES), st.sampled_from(list(COLOURS)), st.sampled_from(list(SIZES)))
@settings(max_examples=100, deadline=None)
def test_everything_can_be_said_in_every_language(name, colour, size):
    description = Description((Mention(Look(name, colour, size), 1),), background="sea")
    assert can_say(description)
    texts = {foreign_text(description, code) for code in LANGUAGES}
    assert len(texts) == len(LANGUAGES)
    assert not any("  " in text for text in texts)


def test_plurals_and_counts():
    two = Description((Mention(Look("mouse", "red"), 2),))
    assert short_text(two, np.random.default_rng(1), Style(synonym=0.0, plain=1.0)).count("mice") == 1
    assert not can_say(two)
    assert THING["mouse"].plural == "mice"
    assert FIRST == 120


@pytest.mark.parametrize(
    ("name", "plural"),
    [
        ("snail", "slugs with a shell"),
        ("bed", "places to sleep"),
        ("penguin", "emperors of Antarctica"),
        ("lollipop", "candies on a stick"),
    ],
)
def test_synonyms_of_several_words_have_a_plural_too(name, plural):
    description, style = Description((Mention(Look(name), 3),)), Style(synonym=1.0, all_things=True)
    texts = {short_text(description, np.random.default_rng(seed), style) for seed in range(40)}
    assert any(plural in text for text in texts)


def test_what_is_absent_has_an_article_after_without():
    description = Description((Mention(Look("dog"), 1),), absent=("anchor",))
    texts = [short_text(description, np.random.default_rng(seed)) for seed in range(40)]
    assert any("without an anchor" in text for text in texts)
    assert any("no anchor" in text for text in texts)


def test_things_are_told_by_definitions_and_keywords_where_they_may_be():
    rng = np.random.default_rng(0)
    for name in ("candle", "drum"):
        words, description = THING_WORDS[name], Description((Mention(Look(name, "red"), 1),))
        for every in (False, True):
            style = Style(synonym=0.0, all_things=every, keywords=1.0)
            defined = prose_text(description, rng, Prose(implied=1.0, defined=1.0), style)
            tags = tags_text(Description((Mention(Look("owl", "red"), 1),)), rng, style)
            assert (words.definition in defined) is (every or name not in NAMED_ONLY)
            assert "bird" in tags or "ornithology" in tags
            assert "owl" not in tags
