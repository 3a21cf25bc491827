"""What an adapter says of a prompt without drawing: exchanges, nearest prompts, weights of blocks, base tokens."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from adapter.tiny import build_clip_tokenizer, perturb
from llmdiff.adapter import LLMDiffAdapter, RefinerConfig
from llmdiff.errors import LLMDiffError
from llmdiff.explanation import block_weights, exchange_words, nearest_prompts, words_of
from llmdiff.explanation.base_tokens import spans_among
from llmdiff.explanation.exchange import exchanged, word_vectors
from llmdiff.language import ExtractionConfig, LanguageModel
from tiny_base import build_base

Make = Callable[..., LLMDiffAdapter]


@pytest.fixture(scope="module")
def make(tiny_llm: LanguageModel) -> Make:
    pipe = build_base()
    return lambda **options: LLMDiffAdapter.create(pipe, tiny_llm, **options)


@pytest.fixture(scope="module")
def adapter(make: Make) -> LLMDiffAdapter:
    return make()


def test_a_word_moves_what_comes_after_it_alone(adapter: LLMDiffAdapter) -> None:
    moved = exchange_words(adapter, "a red cup, two", {"red": "blue"}).moved
    assert np.isnan(np.diag(moved)).all()
    after = np.triu(np.ones_like(moved), 1).astype(bool)
    before = np.tril(np.ones_like(moved), -1).astype(bool)
    assert (moved[after] > 1e-2).all()
    assert (moved[before] < 1e-4).all()


def test_a_word_that_is_not_there_cannot_be_exchanged(adapter: LLMDiffAdapter) -> None:
    with pytest.raises(LLMDiffError, match="'blue' is no word of the prompt 'a red cup'"):
        exchange_words(adapter, "a red cup", {"blue": "green"})


def test_with_a_refiner_a_word_moves_those_before_it_too(make: Make) -> None:
    moved = exchange_words(perturb(make(refiner=RefinerConfig(blocks=1))), "a red cup").moved
    assert (moved[~np.eye(3, dtype=bool)] > 1e-3).all()


def test_a_word_exchanged_for_itself_moves_nothing(adapter: LLMDiffAdapter) -> None:
    found = exchange_words(adapter, "a red cup", {"a": "a", "red": "red", "cup": "cup"})
    assert np.nanmax(found.moved) == 0
    assert (found.totals() == 0).all()


@pytest.mark.parametrize(
    ("number", "replacement", "expected"),
    [
        (0, "", "red cup"),
        (1, "", "a cup"),
        (2, "", "a red"),
        (1, "dark blue", "a dark blue cup"),
        (2, "猫", "a red 猫"),
    ],
)
def test_the_other_words_are_found_again(number: int, replacement: str, expected: str) -> None:
    text, words = exchanged("a red cup", words_of("a red cup"), number, replacement)
    assert text == expected
    assert [text[word.begin : word.end] for word in words] == [word.text for word in words]
    assert words[number].text == replacement


def test_vectors_of_words_are_means_of_their_tokens(make: Make) -> None:
    adapter = make(reading=ExtractionConfig(template="Draw: {prompt} now"))
    embeds = adapter.encode(["cat"]).embeds[0]  # " ", "c", "at" and then the template's " now"
    expected = embeds[:-4].mean(0)
    np.testing.assert_allclose(word_vectors(adapter, "cat", words_of("cat"))[0], expected.numpy(), rtol=1e-5)


def test_brackets_are_text_here_and_weights_again_afterwards(adapter: LLMDiffAdapter) -> None:
    adapter.prompt_weights = True
    try:
        found = exchange_words(adapter, "a (red:1.2) cup")
        nearest_prompts(adapter, "a cup", ["(a", "b"])
        assert adapter.prompt_weights
    finally:
        adapter.prompt_weights = False
    assert [word.text for word in found.words] == ["a", "red", "1", "2", "cup"]


def test_the_prompt_that_differs_least_is_nearest(adapter: LLMDiffAdapter) -> None:
    others = ["two dogs at night", "a red cup!", "a red cup", "the sea", "a red cup!"]
    seen: list[float] = []
    found = nearest_prompts(adapter, "a red cup", others, 2, lambda stage, share: seen.append(share))
    assert found[0].prompt == "a red cup!"
    assert len(found) == 2
    assert found[0].similarity > found[1].similarity
    assert seen == sorted(seen)
    assert nearest_prompts(adapter, "a red cup", ["a red cup "]) == []


def test_weights_of_blocks_are_those_that_are_learned(make: Make) -> None:
    adapter = make()
    with torch.no_grad():
        adapter.text_encoding.g.copy_(torch.tensor([0.5, 2.0, 1.0, -1.0]))
    found = block_weights(adapter)
    assert found.weights.tolist() == [0.5, 2.0, 1.0, -1.0]
    assert found.start.tolist() == [1, 1, 1, 1]
    assert block_weights(make(reading=ExtractionConfig(extraction="last"))).weights.tolist() == [0, 0, 0, 1]
    assert block_weights(make(reading=ExtractionConfig(extraction="weighted"))).start.tolist() == [0.25] * 4


def covered(tokenizer: Any, read: str, prompt: str) -> list[str]:
    """What of a prompt each token is found to stand for, of a text that an encoder read."""
    spans = spans_among(tokenizer(read, truncation=True).input_ids, tokenizer, prompt)
    return ["" if span is None else prompt[slice(*span)] for span in spans]


def test_tokens_are_found_in_lower_case_and_where_the_prompt_was_cut() -> None:
    tokenizer = build_clip_tokenizer()  # of single letters, 16 of them with a beginning and an end
    assert covered(tokenizer, "a red cup", "A Red Cup") == ["", *"ARedCup", ""]
    assert "".join(covered(tokenizer, "a red cup on the table", "a red cup on the table")) == "aredcuponthetable"[:14]


def test_tokens_are_found_behind_an_instruction(tokenizer: PreTrainedTokenizerFast) -> None:
    found = covered(tokenizer, "Draw a cat as you like: a cat, a ball", "a cat, a ball")
    assert "".join(found[-10:]) == "a cat, a ball"
    assert set(found[:-10]) == {""}
