"""Prompt weights: their syntax, and what they do to an encoding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdiff.language import LanguageModel, ReadingConfig, TextEncoding, encode, tokenize
from llmdiff.language.emphasis import parse

CONFIG = ReadingConfig(template="Say: {prompt}")


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
    ],
)
def test_the_syntax(prompt: str, text: str, weights: dict[str, float]) -> None:
    plain, found = parse(prompt)
    assert plain == text
    for part, weight in weights.items():
        begin = plain.index(part)
        assert found[begin : begin + len(part)] == pytest.approx([weight] * len(part))


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab(:)[]\\1. \n🦜", max_size=30))
def test_any_prompt_is_parsed(prompt: str) -> None:
    plain, weights = parse(prompt)
    assert len(plain) == len(weights)
    letters = [character for character in prompt if character in "ab🦜"]
    assert [character for character in plain if character in "ab🦜"] == letters


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
    (ids,) = tokenize(tiny_llm, ["(cat:1.5)"], ReadingConfig()).ids
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
    config = ReadingConfig(max_tokens=5)
    with pytest.warns(UserWarning, match="are cut"):
        tokens = tokenize(tiny_llm, ["(xyzxyz:2)" * 3], config, weighted=True)
    assert tokens.weights is not None
    assert tokens.weights.tolist() == [[2.0] * 5]
