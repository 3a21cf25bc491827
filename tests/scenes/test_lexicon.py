"""The words: those taught and those held back lie apart, and none says more than it should."""

import re
from itertools import chain, combinations

import pytest

from llmdiff.scenes import lexicon
from llmdiff.scenes.captions import NUMBERS, PLACES
from llmdiff.scenes.phrasing import contains_held_out, held_out_words
from llmdiff.scenes.scene import RELATIONS
from llmdiff.scenes.vocabulary import BACKGROUNDS, COLOURS, KINDS, SIZES

TABLES = {
    "colours": (lexicon.COLOUR_WORDS, COLOURS),
    "kinds": (lexicon.KIND_WORDS, KINDS),
    "backgrounds": (lexicon.BACKGROUND_WORDS, BACKGROUNDS),
    "sizes": (lexicon.SIZE_WORDS, SIZES),
    "relations": (lexicon.RELATION_WORDS, RELATIONS),
    "numbers": (lexicon.NUMBER_WORDS, (2, 3, 4)),
}
ALL_TAUGHT = [phrase for table, _ in TABLES.values() for words in table.values() for phrase in words.taught]


@pytest.mark.parametrize("name", TABLES)
def test_there_are_words_for_everything_of_both_sorts(name):
    table, domain = TABLES[name]
    assert set(table) == set(domain)
    assert all(len(words.taught) >= 10 and words.held_out for words in table.values())


@pytest.mark.parametrize("name", TABLES)
def test_no_word_means_two_things(name):
    for (_, a), (_, b) in combinations(TABLES[name][0].items(), 2):
        assert not {*a.taught, *a.held_out} & {*b.taught, *b.held_out}


def test_no_taught_word_contains_a_held_out_one():
    assert [phrase for phrase in ALL_TAUGHT if contains_held_out(phrase)] == []
    assert len(held_out_words()) >= 80


def test_held_out_colours_and_kinds_bring_words_that_are_not_taught():
    """Not just taught words put together anew."""
    taught = {word for phrase in ALL_TAUGHT for word in re.findall(r"[\w']+", phrase)}
    for words in chain(lexicon.COLOUR_WORDS.values(), lexicon.KIND_WORDS.values()):
        for phrase in words.held_out:
            assert set(re.findall(r"[\w']+", phrase)) - taught, phrase


def test_a_name_of_a_thing_says_nothing_of_size_or_colour():
    spoken = {w for table in (lexicon.SIZE_WORDS, lexicon.COLOUR_WORDS) for v in table.values() for w in v.taught}
    for words in lexicon.KIND_WORDS.values():
        for phrase in words.taught + words.held_out:
            assert not spoken & set(phrase.split(" ")), phrase


def test_the_plain_word_is_taught_first():
    for name in ("colours", "kinds", "sizes", "relations"):
        assert all(words.taught[0] == plain for plain, words in TABLES[name][0].items())
    assert {name: words.taught[0] for name, words in lexicon.BACKGROUND_WORDS.items()} == PLACES
    assert [lexicon.NUMBER_WORDS[n].taught[0] for n in (2, 3, 4)] == list(NUMBERS[2:])
