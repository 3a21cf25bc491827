"""Prompts to encodings, and the memory of those made last."""

import copy
import pickle

import pytest
import torch
from torch import Tensor

from llmdiff.language import Encoding, LanguageModel, ReadingConfig, TextEncoding, encode, read_stack, tokenize
from llmdiff.language.cache import EncodingCache

CONFIG = ReadingConfig(template="Say: {prompt}")
PROMPTS = ["a cat sat on a mat", "", "a", "a cat sat on a mat"]


@pytest.fixture
def llm(tiny_llm: LanguageModel) -> LanguageModel:
    """The shared LLM with an empty memory and a count of its passes."""
    fresh = LanguageModel.from_model(tiny_llm.model, tiny_llm.tokenizer, "fresh")
    return fresh


@pytest.fixture
def passes(llm: LanguageModel):  # type: ignore[no-untyped-def]
    """The batch sizes of prompts that the LLM has been run on; the template's prefix is no prompt."""
    sizes: list[int] = []

    def note(module: object, args: tuple[object, ...], kwargs: dict[str, Tensor]) -> None:
        if "attention_mask" in kwargs:
            sizes.append(len(kwargs["input_ids"]))

    handle = llm.model.register_forward_pre_hook(note, with_kwargs=True)
    yield sizes
    handle.remove()


def make(llm: LanguageModel, config: ReadingConfig = CONFIG) -> TextEncoding:
    return TextEncoding(config, llm.width, llm.block_count).eval()


def test_inference_equals_training_without_noise(llm: LanguageModel) -> None:
    text_encoding = make(llm)
    encoding = encode(llm, PROMPTS, CONFIG, text_encoding)
    tokens = tokenize(llm, PROMPTS, CONFIG)
    expected = text_encoding(*read_stack(llm, tokens, CONFIG), tokens.kept)
    torch.testing.assert_close(encoding.embeds, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(encoding.mask, tokens.kept)
    assert torch.isfinite(encoding.embeds).all()
    assert not encoding.embeds.requires_grad


def test_each_prompt_is_read_once(llm: LanguageModel, passes: list[int]) -> None:
    text_encoding = make(llm)
    first = encode(llm, PROMPTS, CONFIG, text_encoding)
    assert passes == [3]
    again = encode(llm, PROMPTS, CONFIG, copy.deepcopy(text_encoding))
    assert passes == [3]
    assert torch.equal(first.embeds, again.embeds)
    encode(llm, ["a", "a dog"], CONFIG, text_encoding)
    assert passes == [3, 1]


def test_a_change_of_anything_is_a_new_encoding(llm: LanguageModel, passes: list[int]) -> None:
    text_encoding = make(llm)
    before = encode(llm, PROMPTS, CONFIG, text_encoding)
    with torch.no_grad():
        text_encoding.g[1] += 0.5
    after = encode(llm, PROMPTS, CONFIG, text_encoding)
    assert not torch.equal(before.embeds, after.embeds)
    other = CONFIG.model_copy(update={"score": "difference"})
    encode(llm, PROMPTS, other, text_encoding)
    encode(llm, PROMPTS, CONFIG, copy.deepcopy(text_encoding).double())
    assert passes == [3, 3, 3, 3]


def test_what_is_remembered_cannot_be_changed_from_outside(llm: LanguageModel) -> None:
    text_encoding = make(llm)
    first = encode(llm, ["a cat"], CONFIG, text_encoding)
    kept = first.embeds.clone()
    first.embeds.zero_()
    second = encode(llm, ["a cat"], CONFIG, text_encoding)
    second.embeds.zero_()
    assert torch.equal(encode(llm, ["a cat"], CONFIG, text_encoding).embeds, kept)


def test_noise_is_never_remembered(llm: LanguageModel, passes: list[int]) -> None:
    text_encoding = make(llm)
    clean = encode(llm, ["a cat"], CONFIG, text_encoding)
    noisy = [
        encode(llm, ["a cat"], CONFIG, text_encoding, generator=torch.Generator().manual_seed(seed)).embeds
        for seed in (1, 1, 2)
    ]
    assert torch.equal(noisy[0], noisy[1])
    assert not torch.equal(noisy[0], noisy[2])
    assert not torch.equal(noisy[0], clean.embeds)
    text_encoding.train()
    assert not torch.equal(
        encode(llm, ["a cat"], CONFIG, text_encoding).embeds, encode(llm, ["a cat"], CONFIG, text_encoding).embeds
    )
    assert len(passes) == 6
    assert len(llm.encodings) == 1


def test_many_prompts_are_read_in_batches(llm: LanguageModel, passes: list[int]) -> None:
    prompts = [f"cat {i}" for i in range(40)]
    encoding = encode(llm, prompts, CONFIG, make(llm))
    assert passes == [16, 16, 8]
    assert len(encoding) == 40
    torch.testing.assert_close(
        encoding.embeds[37, : encoding.mask[37].sum()],
        encode(llm, ["cat 37"], CONFIG, make(llm)).embeds[0],
        rtol=1e-4,
        atol=1e-5,
    )


def test_the_memory_is_bounded_and_drops_what_was_used_longest_ago() -> None:
    cache = EncodingCache(limit=3 * 16)
    for name in "abc":
        cache.put(name, torch.zeros(4))
    assert cache.get("a") is not None
    cache.put("d", torch.ones(4))
    assert cache.get("b") is None
    assert [cache.get(name) is not None for name in "acd"] == [True, True, True]
    cache.put("d", torch.zeros(8))
    assert cache.size == 48
    assert len(cache) == 2
    cache.put("huge", torch.zeros(100))
    assert cache.get("huge") is None
    assert len(cache) == 2
    for twin in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert (len(twin), twin.limit) == (0, 48)
    cache.clear()
    assert (len(cache), cache.size) == (0, 0)


def test_encodings_are_joined_repeated_and_moved() -> None:
    one = Encoding(torch.ones(1, 2, 3), torch.ones(1, 2, dtype=torch.bool))
    two = Encoding(torch.full((2, 4, 3), 2.0), torch.tensor([[True] * 4, [True, False, False, False]]))
    both = Encoding.cat([one, two])
    assert both.embeds.shape == (3, 4, 3)
    assert both.mask.tolist() == [[True, True, False, False], [True] * 4, [True, False, False, False]]
    assert not both.embeds[0, 2:].any()
    twice = both.repeat_interleave(2)
    order: Tensor = twice.embeds[:, 0, 0]
    assert order.tolist() == [1, 1, 2, 2, 2, 2]
    assert twice.mask.shape == (6, 4)
    half = both.to(dtype=torch.float16)
    assert (half.embeds.dtype, half.mask.dtype) == (torch.float16, torch.bool)
