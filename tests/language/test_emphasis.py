"""Prompt weights: their syntax, and what they do to an encoding."""

import re
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdiff.errors import LLMDiffError
from llmdiff.language import ExtractionConfig, LanguageModel, TextEncoding, encode, tokenize
from llmdiff.language.emphasis import LARGEST, parse, plain

CONFIG = ExtractionConfig(template="Say: {prompt}")


@pytest.mark.parametrize(
    ("prompt", "text", "weights"),
    [
        ("a (cat:1.3)", "a cat", {"a ": 1.0, "cat": 1.3}),
        ("a (cat: .5 ) sat", "a cat sat", {"cat": 0.5, " sat": 1.0}),
        ("(cat)", "cat", {"cat": 1.1}),
        ("((cat))", "cat", {"cat": 1.21}),
        ("[cat]", "cat", {"cat": 1 / 1.1}),
        ("(a [b] (c:2))", "a b c", {"a ": 1.1, "b": 1.0, "c": 2.2}),
        (r"\(cat:1.3\)", "(cat:1.3)", {"(cat:1.3)": 1.0}),
        ("cat:1.3)", "cat:1.3)", {"cat:1.3)": 1.0}),
        ("(cat", "(cat", {"(cat": 1.0}),
        ("a) [b", "a) [b", {"a) [b": 1.0}),
        ("(a]", "(a]", {"(a]": 1.0}),
        ("(cat:very)", "cat:very", {"cat:very": 1.1}),
        ("a\\b", "a\\b", {"a\\b": 1.0}),
        ("()", "", {}),
        ("(猫:-1)🦜", "猫🦜", {"猫": -1.0, "🦜": 1.0}),
        ("(cat:1e-1)", "cat", {"cat": 0.1}),
        ("((cat:0.01):500)", "cat", {"cat": 5.0}),
        ("a [cat:dog:0.5]", "a [cat:dog:0.5]", {"a [cat:dog:0.5]": 1.0}),
        ("([cat|dog])", "[cat|dog]", {"[cat|dog]": 1.1}),
        ("[(a|b)]", "a|b", {"a|b": 1.0}),
        ("[(cat:1.5): .5]", "[cat: .5]", {"[": 1.0, "cat": 1.5, ": .5]": 1.0}),
        ("(cat:5]", "(cat:5]", {"(cat:5]": 1.0}),
    ],
)
def test_the_syntax(prompt: str, text: str, weights: dict[str, float]) -> None:
    parsed, found = parse(prompt)
    assert parsed == text == plain(prompt)
    for part, weight in weights.items():
        begin = parsed.index(part)
        assert found[begin : begin + len(part)] == pytest.approx([weight] * len(part))


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab(:)[]\\1. \n🦜|", max_size=30))
def test_any_prompt_is_parsed_or_refused(prompt: str) -> None:
    letters = [character for character in prompt if character in "ab🦜"]
    assert [character for character in plain(prompt) if character in "ab🦜"] == letters
    try:
        text, weights = parse(prompt)
    except LLMDiffError:
        assert re.search(r":\s*\d{2}", prompt)
        return
    assert text == plain(prompt)
    assert len(text) == len(weights)
    assert all(abs(weight) <= LARGEST for weight in weights)


UNCLOSED, EMPTY, TEXT = ("(", "a", ""), ("(", "", ")"), (":1", "", "")


@pytest.mark.parametrize("depth", [1_000, 100_000])
@pytest.mark.parametrize(
    ("opening", "text", "closing"),
    [UNCLOSED, EMPTY, TEXT, ("[", "a", "]"), ("(", "a", ":1)"), ("([", "a", "])"), ("[:", "", ")]")],
)
def test_brackets_by_the_thousand_take_linear_time(opening: str, text: str, closing: str, depth: int) -> None:
    began = time.process_time()
    found, weights = parse(opening * depth + text + closing * depth)
    assert time.process_time() - began < 2
    assert len(found) == len(weights)


@pytest.mark.parametrize(
    ("weight", "named"),
    [("9" * 44, "1e+44"), ("9" * 400, "inf"), ("1e38", "1e+38"), ("-1000000", "-1000000"), ("10.5", "10.5")],
)
def test_a_weight_out_of_range_is_refused_in_one_sentence(tiny_llm: LanguageModel, weight: str, named: str) -> None:
    prompt = f"a (red:{weight}) cup"
    expected = rf"^The prompt weight {re.escape(named)} of 'red' is out of range: keep [^.]*, between -10 and 10\.$"
    with pytest.raises(LLMDiffError, match=expected):
        encode(tiny_llm, [prompt], CONFIG, make(tiny_llm), weighted=True)
    assert plain(prompt) == "a red cup"


@pytest.mark.parametrize("prompt", ["(" * 25 + "a" + ")" * 25, "(" * 100_000 + "a" + ")" * 100_000, "((a:0):1e999)"])
def test_nested_weights_out_of_range_are_refused(prompt: str) -> None:
    with pytest.raises(LLMDiffError, match=r"of 'a' is out of range"):
        parse(prompt)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.characters(exclude_characters="()[]\\", exclude_categories=["Cs"]), max_size=30))
def test_a_prompt_without_brackets_is_itself(prompt: str) -> None:
    assert parse(prompt) == (prompt, [1.0] * len(prompt))


def make(llm: LanguageModel) -> TextEncoding:
    return TextEncoding(CONFIG, llm.width, llm.block_count).eval()


def test_they_multiply_the_vectors_of_their_words(tiny_llm: LanguageModel) -> None:
    text_encoding = make(tiny_llm)
    plain = encode(tiny_llm, ["the cat sat"], CONFIG, text_encoding)
    weighted = encode(tiny_llm, ["the (cat:1.5) sat"], CONFIG, text_encoding, weighted=True)
    tokens = tiny_llm.tokenizer.convert_ids_to_tokens(tokenize(tiny_llm, ["the cat sat"], CONFIG).ids[0].tolist())
    spelled = "".join(tokens[4:]).replace("Ġ", " ")
    assert spelled == " the cat sat"
    factor, at = [], 0
    for token in tokens[4:]:
        at += len(token)
        factor.append(1.5 if spelled[:at].endswith((" c", " ca", " cat")) else 1.0)
    assert set(factor) == {1.0, 1.5}
    torch.testing.assert_close(weighted.embeds, plain.embeds * torch.tensor(factor)[None, :, None])


def test_off_they_are_text(tiny_llm: LanguageModel) -> None:
    (ids,) = tokenize(tiny_llm, ["(cat:1.5)"], ExtractionConfig()).ids
    assert tiny_llm.tokenizer.decode(ids) == "(cat:1.5)"
    off = encode(tiny_llm, ["(cat:1.5)"], CONFIG, make(tiny_llm))
    on = encode(tiny_llm, ["(cat:1.5)"], CONFIG, make(tiny_llm), weighted=True)
    assert off.embeds.shape != on.embeds.shape


def test_weights_of_one_change_nothing(tiny_llm: LanguageModel) -> None:
    text_encoding = make(tiny_llm)
    prompts = ["the cat sat", "", "🦜 \0 שלום"]
    plain = encode(tiny_llm, prompts, CONFIG, text_encoding)
    weighted = encode(tiny_llm, ["the (cat:1) sat", "(:2)", prompts[2]], CONFIG, text_encoding, weighted=True)
    torch.testing.assert_close(plain.embeds, weighted.embeds)
    assert torch.equal(plain.mask, weighted.mask)


def test_a_cut_prompt_is_weighted_as_far_as_it_is_read(tiny_llm: LanguageModel) -> None:
    config = ExtractionConfig(max_tokens=5)
    with pytest.warns(UserWarning, match="are cut"):
        tokens = tokenize(tiny_llm, ["(xyzxyz:2)" * 3], config, weighted=True)
    assert tokens.weights is not None
    assert tokens.weights.tolist() == [[2.0] * 5]
