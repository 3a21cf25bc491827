"""JSON and YAML of unknown origin: the plain ones mean what they did, and the others cost one sentence."""

import json
import math
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdiff.errors import LLMDiffError
from llmdiff.structured_text import LARGEST_JSON, LARGEST_YAML, parse_json, parse_yaml

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40))

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(plain)
def test_what_is_plain_is_read_as_ever(content: Any) -> None:
    assert parse_json(json.dumps(content), "It") == content
    text = yaml.safe_dump(content, allow_unicode=True)
    assert parse_yaml(text, "It") == yaml.safe_load(text)  # which reads some ends of lines as others


def test_yaml_for_people_is_read() -> None:
    text = "# notes\nloop: &loop {steps: 5, rate: 1.0e-4}\nmore:\n  <<: *loop\n  steps: 7\nday: 2026-01-01\nempty:\n"
    assert parse_yaml(text, "It") == yaml.safe_load(text)
    assert parse_yaml("", "It") is None


@pytest.mark.fault("hostile text")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value"),
        ("[" * 100_000, "more than 100 levels"),
        ("[" * 101 + "]" * 101, "more than 100 levels"),
        ('{"a":' * 500 + "1" + "}" * 500, "more than 100 levels"),
        ("9" * 5000, "more than 64 bits"),
        ("-" + "9" * 30, "more than 64 bits"),
        ("[NaN]", "nan is not finite"),
        ("[1e999]", "inf is not finite"),
        ('{"a": {"b": 1, "b": 1}}', "the key 'b' stands twice"),
        ('["\\ud800"]', "half of a character"),
        ('{"\\udfff": 1}', "half of a character"),
        ("[" + "1," * LARGEST_JSON + "1]", "characters, more than"),
    ],
)
def test_hostile_json_is_refused_in_a_sentence(text: str, said: str) -> None:
    assert said in refusal(parse_json, text)


@pytest.mark.fault("hostile text")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "while parsing"),
        ("[" * 50_000, "more than 100 levels"),
        ("- " * 50_000, "more than 100 levels"),
        ("[" * 101 + "]" * 101, "more than 100 levels"),
        (BOMB, "aliases spelled out"),
        (MERGES, "aliases spelled out"),
        ("&a [*a]", "more than 100 levels"),
        ("a: &a {b: *a}", "more than 100 levels"),
        ("a: 1\nb: {c: 1, c: 2}", "the key 'c' stands twice"),
        ("a: .nan", "not finite"),
        ("a: -.inf", "not finite"),
        ("a: 1.0e+999", "not finite"),
        ("a: " + "9" * 5000, "more than 64 bits"),
        ("a: 0b" + "1" * 50_000, "more than 64 bits"),
        ("a: 2026-13-45", "month must be in"),
        ("a: !!int ''", "not of the kind"),
        ("a: !!bool x", "not of the kind"),
        ("a: !!timestamp x", "not of the kind"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ('"\\ud83d"', "half of a character"),
        ("{[1]: 2}", "found unhashable key"),
        ("a: \x00", "special characters"),
        ("a: \ud800", "special characters"),
        ("--- 1\n--- 2", "expected a single document"),
        ("a\n" * LARGEST_YAML, "characters, more than"),
    ],
)
def test_hostile_yaml_is_refused_in_a_sentence(text: str, said: str) -> None:
    assert said in refusal(parse_yaml, text)


@pytest.mark.fault("hostile text")
@pytest.mark.parametrize("text", [BOMB, MERGES])
def test_a_bomb_takes_no_memory(text: str) -> None:
    tracemalloc.start()
    try:
        refusal(parse_yaml, text)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_numbers_that_are_not_finite_may_be_let_in() -> None:
    assert math.isnan(parse_json("[NaN]", "It", finite=False)[0])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from([*'[]{}:,"&*a<!?|>-\n 0.e\\ud8', "!!int ", "<<: ", "&a ", "*a", "- ", "1e9"])))
def test_any_text_is_read_or_refused(parts: list[str]) -> None:
    for parse in (parse_json, parse_yaml):
        with suppress(LLMDiffError):
            parse("".join(parts), "It")


def refusal(parse: Callable[..., Any], text: str) -> str:
    """The sentence that refuses a text, within bounded time."""
    start = time.monotonic()
    with pytest.raises(LLMDiffError) as caught:
        parse(text, "The file x", "fetch it again")
    assert time.monotonic() - start < 10
    sentence = str(caught.value)
    assert sentence.startswith("The file x is not usable ")
    assert sentence.endswith("; fetch it again.")
    assert "\n" not in sentence
    assert len(sentence) < 300
    sentence.encode()
    return sentence
