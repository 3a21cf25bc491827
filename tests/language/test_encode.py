"""Prompts to encodings, and the memory of those made last."""

import copy
import functools
import pickle
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llmdiff.language import Encoding, ExtractionConfig, LanguageModel, TextEncoding, encode, extract_stack, tokenize
from llmdiff.language.cache import EncodingCache
from llmdiff.language.store import SETTING

pytestmark = pytest.mark.usefixtures("nothing_kept")

CONFIG = ExtractionConfig(template="Say: {prompt}")
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


def make(llm: LanguageModel, config: ExtractionConfig = CONFIG) -> TextEncoding:
    return TextEncoding(config, llm.width, llm.block_count).eval()


def test_inference_equals_training_without_noise(llm: LanguageModel) -> None:
    text_encoding = make(llm)
    encoding = encode(llm, PROMPTS, CONFIG, text_encoding)
    tokens = tokenize(llm, PROMPTS, CONFIG)
    expected = text_encoding(*extract_stack(llm, tokens, CONFIG), tokens.kept)
    torch.testing.assert_close(encoding.embeds, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(encoding.mask, tokens.kept)
    assert torch.isfinite(encoding.embeds).all()
    assert not encoding.embeds.requires_grad


def test_each_prompt_is_read_once(llm: LanguageModel, passes: list[int]) -> None:
    text_encoding = make(llm)
    first = encode(llm, PROMPTS, CONFIG, text_encoding)
    assert passes == [1, 1, 1]
    again = encode(llm, PROMPTS, CONFIG, copy.deepcopy(text_encoding))
    assert passes == [1, 1, 1]
    assert torch.equal(first.embeds, again.embeds)
    encode(llm, ["a", "a dog"], CONFIG, text_encoding)
    assert passes == [1, 1, 1, 1]


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
    assert passes == [1] * 12


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


@pytest.fixture(scope="module")
def references(tiny_llm: LanguageModel) -> Callable[[str, bool], Tensor]:
    """The encoding (S, D) of a prompt by an LLM that has read nothing else."""

    @functools.cache
    def reference(prompt: str, weighted: bool) -> Tensor:
        llm = LanguageModel.from_model(tiny_llm.model, tiny_llm.tokenizer, "fresh")
        return encode(llm, [prompt], CONFIG, make(llm), weighted=weighted).embeds[0]

    return reference


@settings(max_examples=30, deadline=None)
@given(
    calls=st.lists(
        st.tuples(
            st.lists(st.sampled_from([*PROMPTS, "(a:1.2) dog", "on " * 40, "the cat, " * 9]), min_size=1, max_size=5),
            st.booleans(),
            st.sampled_from(["memory", "disk", "neither"]),
            st.sampled_from(["plain", "autocast", "inference", "offloaded", "prefix forgotten"]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_an_encoding_depends_on_its_prompt_alone(
    tiny_llm: LanguageModel,
    references: Callable[[str, bool], Tensor],
    tmp_path_factory: pytest.TempPathFactory,
    calls: list[tuple[list[str], bool, str, str]],
) -> None:
    """Whatever was encoded before it or beside it, wherever that is remembered: equal bit for bit."""
    llm = LanguageModel.from_model(tiny_llm.model, tiny_llm.tokenizer, "shared")
    text_encoding = make(llm)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LLMDIFF_HOME", str(tmp_path_factory.mktemp("home")))
        for prompts, weighted, remembered, state in calls:
            environment.setenv(SETTING, "1" if remembered == "disk" else "0")
            if remembered != "memory":
                llm.encodings.clear()
            if state == "offloaded":
                llm.offload()
            elif state == "prefix forgotten":
                llm.prefixes.clear()
            with torch.autocast("cpu", enabled=state == "autocast"), torch.inference_mode(state == "inference"):
                encoding = encode(llm, prompts, CONFIG, text_encoding, weighted=weighted)
            for embeds, mask, prompt in zip(encoding.embeds, encoding.mask, prompts, strict=True):
                assert torch.equal(embeds[mask], references(prompt, weighted))
                assert not embeds[~mask].any()


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
