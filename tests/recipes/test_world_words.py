"""What is taken of dictionaries for the things of the world."""

import pytest

from llmdiff.world.things import THING
from world.build_words import Nouns, definition, keywords

INDEX = """\
  1 a line of the licence
candle n 1 1 @ 1 0 00000100
hammer n 2 1 @ 2 0 00000200 00000300
pet n 1 0 1 0 00000400
bark n 1 0 1 0 00000500
"""
DATA = """\
  1 a line of the licence
00000100 06 n 02 candle 0 taper 0 001 @ 00000001 n 0000 | stick of wax (or tallow) with a wick; "she lit it"
00000200 06 n 01 hammer 0 001 @ 00000001 n 0000 | the part of a gunlock that strikes the percussion cap
00000300 06 n 01 hammer 0 001 @ 00000001 n 0000 | a hand tool with a heavy head; used to strike; a hammer of sorts
00000400 05 n 01 pet 0 000 | a domesticated animal
00000500 05 n 01 bark 0 000 | a sound
"""


@pytest.fixture(scope="module")
def nouns() -> Nouns:
    return Nouns(INDEX, DATA)


def test_a_definition_is_of_the_sense_that_is_meant_without_brackets_and_examples(nouns):
    assert definition(THING["candle"], nouns) == "stick of wax with a wick"


def test_a_definition_that_says_the_name_is_none(nouns):
    assert definition(THING["hammer"], nouns) == ""
    named = Nouns(INDEX, DATA.replace("; a hammer of sorts", ""))
    assert definition(THING["hammer"], named) == "hand tool with a heavy head, used to strike"


def test_what_the_dictionary_lacks_has_no_definition(nouns):
    assert definition(THING["dog"], nouns) == ""
    assert definition(THING["heart"], nouns) == ""


def test_keywords_are_nouns_that_name_no_thing(nouns):
    emoji = {THING["dog"].emoji: {"tags": ["dog", "pet", "cat", "bark", "adorbs", "face"]}}
    assert keywords(THING["dog"], emoji, nouns) == ["pet", "bark"]
