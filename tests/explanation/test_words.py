"""Words of prompts, and their tokens."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdiff.explanation.words import tokens_of, words_of

TEXTS = st.text("ab cé-'’.,猫犬🦊\u0301\n", max_size=20) | st.text(max_size=20)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a red cup.", ["a", "red", "cup"]),
        ("the fox's well-lit tail - 'here'", ["the", "fox's", "well-lit", "tail", "here"]),
        ("赤い猫", ["赤", "い", "猫"]),
        ("a 🦊, 2 cups", ["a", "🦊", "2", "cups"]),
        ("लाल बिल्ली", ["लाल", "बिल्ली"]),
        ("... , -", []),
        ("", []),
    ],
)
def test_words_are_those_that_a_reader_sees(prompt: str, words: list[str]) -> None:
    assert [word.text for word in words_of(prompt)] == words


@settings(max_examples=40)
@given(TEXTS)
def test_words_stand_where_they_say_and_one_after_the_other(prompt: str) -> None:
    words = words_of(prompt)
    assert all(prompt[word.begin : word.end] == word.text for word in words)
    places = [place for word in words for place in (word.begin, word.end)]
    assert places == sorted(places)
    between = set(range(len(prompt))) - {n for word in words for n in range(word.begin, word.end)}
    assert not any(prompt[n].isalpha() for n in between)


@settings(max_examples=40)
@given(TEXTS, st.data())
def test_a_token_belongs_to_one_word_at_most(prompt: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(prompt)))) | {0, len(prompt)})
    spans = [*pairwise(cuts), None]
    found = [number for numbers in tokens_of(words_of(prompt), spans) for number in numbers]
    assert len(found) == len(set(found))
    assert len(spans) - 1 not in found
