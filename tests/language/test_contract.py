"""What extraction must hold to (docs/method.md section 1), for every family of decoder-only LLMs.

Every test notes its cell of the matrix family × property, from which the documentation's table can be written: pytest's
``record_property("matrix", (family, property, outcome))``.
"""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import MptConfig, MptForCausalLM, PreTrainedTokenizerFast

from language.families import ALIBI, FAMILIES, RECURRENT, build, recurrent_scores, reference_scores
from llmdiff.errors import LLMDiffError
from llmdiff.language import ExtractionConfig, LanguageModel, Tokens, extract_stack, tokenize
from tiny_llm import build_tokenizer

PLAIN = ExtractionConfig(normalise="none")
PROMPTS = ["a cat sat", "a", "the cat on a mat, at noon"]
EAGER = {"attn_implementation": "eager", "experts_implementation": "eager"}
MASKED = {f"{family} (ALiBi)": (family, changes) for family, changes in ALIBI.items()}
FOLDED = {family: (family, changes) for family, changes in FAMILIES.items()}
RECURRENT_ONES = {family: (family, changes) for family, changes in RECURRENT.items()}
ALL: dict[str, tuple[str, dict[str, Any]]] = FOLDED | MASKED | RECURRENT_ONES
GEMMA3N = {"vocab_size_per_layer_input": 265, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0}
GEMMA3N |= {"laurel_rank": 4, "activation_sparsity_pattern": [0.0] * 3}
Note = Callable[[str, str, str], None]


@pytest.fixture
def note(record_property: Callable[[str, object], None]) -> Note:
    """Notes the outcome of a cell."""
    return lambda family, quality, outcome: record_property("matrix", (family, quality, outcome))


def whole(ids: Tensor) -> Tokens:
    return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))


def some_ids() -> Tensor:
    return torch.randint(1, 200, (1, 9), generator=torch.Generator().manual_seed(7))


def is_exact(name: str) -> bool:
    """Whether the family runs in float64: torch's grouped matrix product of experts knows none."""
    return not ALL[name][1].get("num_experts")


@functools.cache
def take(name: str) -> LanguageModel:
    family, changes = ALL[name]
    dtype = torch.float64 if is_exact(name) else torch.float32
    return LanguageModel.from_model(
        build(family, changes, dtype, **(EAGER if name in MASKED else {})), build_tokenizer(), name
    )


@functools.cache
def scores(name: str) -> Tensor:
    """(T, S, D) of the same ids."""
    return extract_stack(take(name), whole(some_ids()), PLAIN)[1][:, 0]


@functools.cache
def expected(name: str) -> Tensor:
    """The same, read slowly by other means."""
    family, changes = ALL[name]
    if name in RECURRENT_ONES:
        return recurrent_scores(build(family, changes), some_ids())
    return reference_scores(build(family, changes, **EAGER), some_ids())


@pytest.mark.parametrize("name", ALL)
def test_unconditional_is_the_block_without_the_other_tokens(name: str, note: Note) -> None:
    scale = expected(name)[:, 1:].norm(dim=-1).mean()
    assert (scores(name) - expected(name)).norm(dim=-1).max() < (1e-5 if is_exact(name) else 1e-4) * scale
    assert (expected(name)[:, 0].abs() < 1e-6 * scale).all()
    paired = "in one call, " * take(name).paired.get(True, False)
    how = paired if paired and name in FOLDED else paired + ("by the mask" if name in MASKED else "by the fold")
    note(name, "alone is exact", how.removesuffix(", "))


@pytest.mark.parametrize("name", ["Llama", "GPTNeoX"])
def test_both_slow_extractions_agree(name: str) -> None:
    family, changes = ALL[name]
    scale = expected(name)[:, 1:].norm(dim=-1).mean()
    assert (recurrent_scores(build(family, changes), some_ids()) - expected(name)).norm(dim=-1).max() < 1e-5 * scale


@pytest.mark.parametrize("name", ALL)
def test_unconditional_differs_from_causal(name: str, note: Note) -> None:
    sizes = scores(name)[:, 1:].norm(dim=-1)
    assert (sizes > 1e-3 * sizes.mean()).all()
    note(name, "alone differs from causal", "holds")


@pytest.mark.parametrize("name", ALL)
def test_the_first_score_is_nothing(name: str, note: Note) -> None:
    assert (scores(name)[:, 0] == 0).all()
    note(name, "first score is 0", "exactly")


@pytest.mark.parametrize("name", ALL)
def test_a_later_token_moves_no_earlier_score(name: str, note: Note) -> None:
    ids = some_ids()
    ids[0, 6] += 1
    changed = extract_stack(take(name), whole(ids), PLAIN)[1][:, 0]
    moved = (changed - scores(name)).abs().amax((0, 2)) / scores(name).abs().max()
    assert moved[:6].max() < 1e-5
    assert moved[6] > 1e-3
    note(name, "later tokens change nothing", "holds")


@pytest.mark.parametrize("name", ALL)
def test_padding_changes_nothing(name: str, note: Note) -> None:
    family, changes = ALL[name]
    llm = LanguageModel.from_model(build(family, changes, torch.float32), build_tokenizer(), name)
    tokens = tokenize(llm, PROMPTS, PLAIN)
    _, stack = extract_stack(llm, tokens, PLAIN)
    for row, prompt in enumerate(PROMPTS):
        own = tokenize(llm, [prompt], PLAIN)
        _, alone = extract_stack(llm, own, PLAIN)
        length = own.ids.shape[1]
        assert (stack[:, row, :length] - alone[:, 0]).abs().max() <= 1e-4 * stack.abs().max()
        assert not stack[:, row, length:].any()
    note(name, "padding changes nothing", "holds")


def test_a_stream_that_is_not_one_vector_per_token_is_refused(tokenizer: PreTrainedTokenizerFast, note: Note) -> None:
    llm = LanguageModel.from_model(build("Gemma3nText", GEMMA3N), tokenizer, "gemma3n")
    with pytest.raises(LLMDiffError, match="single residual stream") as caught:
        extract_stack(llm, whole(some_ids()), PLAIN)
    note("Gemma3nText", "alone is exact", f"refused: {caught.value}")


def test_position_biases_of_an_unknown_kind_are_refused(tokenizer: PreTrainedTokenizerFast, note: Note) -> None:
    mpt = MptForCausalLM(MptConfig(vocab_size=265, d_model=32, n_heads=4, n_layers=2, max_seq_len=64))
    llm = LanguageModel.from_model(mpt, tokenizer, "mpt")
    with pytest.raises(LLMDiffError, match="position biases") as caught:
        extract_stack(llm, whole(some_ids()), PLAIN)
    note("Mpt", "alone is exact", f"refused: {caught.value}")
    _, states = extract_stack(llm, whole(some_ids()), ExtractionConfig(extraction="mean"))
    assert states.any()
