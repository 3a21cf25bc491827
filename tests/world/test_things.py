"""The things and their words: complete, distinct, and none told by its own name."""

import re
from collections import Counter

import pytest

from llmdiff.world.captions import article
from llmdiff.world.languages import LANGUAGES
from llmdiff.world.lexicon import HELD_OUT_LANGUAGES, NAMED_ONLY, TAUGHT_LANGUAGES, THING_WORDS, names_a_thing
from llmdiff.world.things import FIRST, NAMES, THING, THINGS


def test_three_hundred_things_have_one_word_each_for_a_name():
    assert len(THINGS) == len(THING) == 300
    assert all(re.fullmatch("[a-z]+", name) for name in NAMES)
    assert len({thing.art for thing in THINGS}) == 300
    assert all("".join(chr(int(part, 16)) for part in thing.emoji.split("-")) for thing in THINGS)


def test_plurals_are_not_the_singular_but_where_english_has_no_other():
    assert {t.name for t in THINGS if t.plural == t.noun} == {"fish", "deer", "moose", "dice", "squid", "jellyfish"}


def test_a_shorter_list_is_of_many_kinds():
    assert len({thing.group for thing in THINGS[:FIRST]}) >= 15
    assert max(Counter(thing.group for thing in THINGS[:FIRST]).values()) <= FIRST / 5


def test_every_thing_has_all_its_words():
    assert list(THING_WORDS) == list(NAMES)
    for name, words in THING_WORDS.items():
        assert len(words.synonyms) >= 3, name
        assert words.mark, name
        assert words.description, name
        assert list(words.names) == [*TAUGHT_LANGUAGES, *HELD_OUT_LANGUAGES] == list(LANGUAGES)
        assert words.riddle or name not in NAMES[:FIRST], name


def test_no_word_means_two_things():
    said = Counter(word.lower() for name, words in THING_WORDS.items() for word in (name, *words.synonyms))
    assert [word for word, n in said.items() if n > 1] == []
    for code in LANGUAGES:
        assert len({words.names[code] for words in THING_WORDS.values()}) == 300, code
    for kind in ("mark", "description"):
        assert len({getattr(words, kind) for words in THING_WORDS.values()}) == 300


@pytest.mark.parametrize("kind", ["mark", "description", "riddle"])
def test_nothing_is_described_by_its_own_name(kind):
    for name, words in THING_WORDS.items():
        for word in (name, THING[name].noun, THING[name].plural):
            assert not re.search(rf"\b{word}\b", getattr(words, kind), re.IGNORECASE), (name, word)


def test_every_name_in_another_language_has_an_article_with_a_gender():
    for name, words in THING_WORDS.items():
        for code, other in words.names.items():
            given = "un'" if other.startswith("un'") else other.split(" ")[0]
            assert given in LANGUAGES[code].articles, (name, code)


def test_a_quarter_of_the_first_things_and_of_all_are_named_only():
    first = [name for name in NAMES[:FIRST] if name in NAMED_ONLY]
    assert (len(first), len(NAMED_ONLY)) == (30, 75)
    assert len({THING[name].group for name in first}) >= 10


@pytest.mark.parametrize(("text", "found"), [("a lobster-coloured dot", True), ("two Vespas", False), ("a Vespa", True),
                                             ("on the sand", False), ("two wolves", True)])  # fmt: skip
def test_names_of_things_are_found_in_texts(text, found):
    assert names_a_thing(text) is found


def test_dictionaries_do_not_say_the_names_of_what_they_explain():
    defined = [name for name in NAMES if THING_WORDS[name].definition]
    assert len(defined) >= 260
    for name in defined:
        definition = THING_WORDS[name].definition
        assert not re.search(rf"\b{THING[name].noun}\b", definition, re.IGNORECASE), name
        assert 2 <= len(definition.split()) <= 24, name
    keywords = [word for words in THING_WORDS.values() for word in words.keywords]
    assert len(keywords) >= 700
    assert not [word for word in keywords if names_a_thing(word)]


@pytest.mark.parametrize(
    "phrase",
    [
        "an hourglass",
        "a unicorn",
        "an umbrella",
        "a one-piece",
        "an elephant",
        "a dog",
        "the largest beast",
        "the first two leaves",
    ],
)
def test_articles_go_by_sound(phrase):
    assert article(phrase.split(" ", 1)[1]) == phrase
