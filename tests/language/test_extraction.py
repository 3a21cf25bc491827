"""Block scores against a slow reference, and what they must hold to (docs/method.md section 1)."""

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from language.families import build
from llmdiff.errors import LLMDiffError
from llmdiff.language import ExtractionConfig, LanguageModel, TextEncoding, Tokens, extract_stack, extract_sum, tokenize
from llmdiff.language import extraction as extraction_module
from llmdiff.language.unconditional import fold_tokens

PLAIN = ExtractionConfig(normalise="none")
PROMPTS = ["a cat sat", "a", "the cat on a mat, at noon"]
EXTRACTIONS = ["llmdiff", "last", "penultimate", "layer:2", "mean", "norm-mean", "weighted", "signed"]


def random_ids(length: int = 9) -> Tensor:
    return torch.randint(1, 200, (1, length), generator=torch.Generator().manual_seed(7))


def whole(ids: Tensor) -> Tokens:
    return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))


def test_start_is_the_embedding(tiny_llm: LanguageModel) -> None:
    tokens = tokenize(tiny_llm, PROMPTS, PLAIN)
    start, _ = extract_stack(tiny_llm, tokens, PLAIN)
    embeds = tiny_llm.model.get_input_embeddings()(tokens.ids)
    assert torch.equal(start, embeds * tokens.mask.unsqueeze(-1))
    zeros, _ = extract_stack(tiny_llm, tokens, PLAIN.model_copy(update={"start": "zeros"}))
    assert not zeros.any()


def test_rms_scales_the_start_too(tiny_llm: LanguageModel) -> None:
    tokens = tokenize(tiny_llm, ["a red cat", "dog"], PLAIN)
    plain, _ = extract_stack(tiny_llm, tokens, PLAIN)
    start, _ = extract_stack(tiny_llm, tokens, ExtractionConfig())
    torch.testing.assert_close(
        start[tokens.mask].square().mean(-1), torch.ones(int(tokens.mask.sum())), rtol=1e-3, atol=0
    )
    torch.testing.assert_close(
        F.cosine_similarity(start, plain, dim=-1)[tokens.mask], torch.ones(int(tokens.mask.sum()))
    )


@pytest.mark.parametrize("extraction", ["llmdiff", "last", "mean"])
def test_numbers_that_a_dtype_does_not_hold_are_told(tiny_llm: LanguageModel, extraction: str) -> None:
    """As Gemma 3's residuals in float16; padding, whose numbers nobody reads, does not count."""
    config = ExtractionConfig(extraction=extraction)
    llm = LanguageModel.from_model(copy.deepcopy(tiny_llm.model).half(), tiny_llm.tokenizer, name="tiny")
    tokens = tokenize(llm, PROMPTS, config)
    extract_sum(llm, tokens, config, torch.ones(llm.block_count))
    llm.model.embed_tokens.weight.data[:] = 60000.0
    llm.blocks[1].mlp.down_proj.weight.data[:] = 60000.0
    with pytest.raises(LLMDiffError, match="tiny comes to numbers that are not finite in float16: load it in bfloat16"):
        extract_sum(llm, tokens, config, torch.ones(llm.block_count))
    llm.model.float()
    llm.blocks[1].mlp.down_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(LLMDiffError, match="not finite in float32: its weights are damaged"):
        extract_sum(llm, tokens, config, torch.ones(llm.block_count))


@pytest.mark.parametrize("score", ["residual", "difference"])
@pytest.mark.parametrize("normalise", ["none", "rms"])
def test_a_later_token_changes_no_earlier_score(tiny_llm: LanguageModel, score: Any, normalise: Any) -> None:
    config = ExtractionConfig(score=score, normalise=normalise)
    ids = random_ids()
    changed = ids.clone()
    changed[0, 6] += 1
    _, before = extract_stack(tiny_llm, whole(ids), config)
    _, after = extract_stack(tiny_llm, whole(changed), config)
    torch.testing.assert_close(after[:, :, :6], before[:, :, :6], rtol=1e-4, atol=1e-5)
    assert (after[:, :, 6:] - before[:, :, 6:]).abs().amax((0, 1, 3)).min() > 1e-3


@pytest.mark.parametrize("extraction", EXTRACTIONS)
def test_a_prompt_alone_equals_the_prompt_in_a_batch(tiny_llm: LanguageModel, extraction: str) -> None:
    config = ExtractionConfig(extraction=extraction)
    tokens = tokenize(tiny_llm, PROMPTS, config)
    start, stack = extract_stack(tiny_llm, tokens, config)
    for row, prompt in enumerate(PROMPTS):
        own = tokenize(tiny_llm, [prompt], config)
        length = own.ids.shape[1]
        own_start, own_stack = extract_stack(tiny_llm, own, config)
        torch.testing.assert_close(start[row, :length], own_start[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(stack[:, row, :length], own_stack[:, 0], rtol=1e-4, atol=1e-4)
        assert not stack[:, row, length:].any()
        assert not start[row, length:].any()


@pytest.mark.parametrize("score", ["residual", "difference"])
@pytest.mark.parametrize("extraction", EXTRACTIONS)
def test_the_sum_equals_the_weighted_stack(tiny_llm: LanguageModel, extraction: str, score: Any) -> None:
    config = ExtractionConfig(extraction=extraction, score=score, template="Say: {prompt}")
    tokens = tokenize(tiny_llm, PROMPTS, config)
    weights = torch.randn(tiny_llm.block_count, generator=torch.Generator().manual_seed(1))
    start, stack = extract_stack(tiny_llm, tokens, config)
    expected = start + sum(weight * term for weight, term in zip(weights, stack, strict=True))
    torch.testing.assert_close(extract_sum(tiny_llm, tokens, config, weights), expected, rtol=1e-5, atol=1e-5)


def test_difference_is_the_neighbour_before_minus_the_block(tiny_llm: LanguageModel) -> None:
    tokens = tokenize(tiny_llm, PROMPTS, PLAIN)
    _, scores = extract_stack(tiny_llm, tokens, PLAIN)
    _, differences = extract_stack(tiny_llm, tokens, ExtractionConfig(score="difference", normalise="none"))
    torch.testing.assert_close(differences[0], scores[0])
    torch.testing.assert_close(differences[1:], scores[:-1] - scores[1:])


def test_the_conditional_score_is_a_blocks_whole_update(tiny_llm: LanguageModel) -> None:
    """The first token has one too, and without the unconditional term nothing else is subtracted."""
    config = ExtractionConfig(score="conditional", normalise="none")
    tokens = tokenize(tiny_llm, ["the cat on a mat"], config)
    _, updates = extract_stack(tiny_llm, tokens, config)
    blocks = tiny_llm.block_count
    states = copy.deepcopy(tiny_llm.model)(tokens.ids, output_hidden_states=True).hidden_states
    for index in range(blocks - 1):  # the last of transformers' states has passed the final norm
        torch.testing.assert_close(updates[index], states[index + 1] - states[index], rtol=1e-4, atol=1e-4)
    assert updates[:, :, 0].any()
    _, scores = extract_stack(tiny_llm, tokens, PLAIN)
    _, alone = extract_stack(tiny_llm, tokenize(tiny_llm, ["t"], config), config)
    torch.testing.assert_close(updates[0, 0, 0], alone[0, 0, 0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(updates[:, :, 1:], scores[:, :, 1:])
    total = extract_sum(tiny_llm, tokens, config, torch.ones(blocks))
    start, stack = extract_stack(tiny_llm, tokens, config)
    torch.testing.assert_close(total, start + stack.sum(0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("extraction", EXTRACTIONS)
def test_of_a_doubled_prompt_the_second_copy_is_read(tiny_llm: LanguageModel, extraction: str) -> None:
    config = ExtractionConfig(extraction=extraction, template="Say: {prompt} = {prompt}!")
    tokens = tokenize(tiny_llm, PROMPTS, config)
    start, stack = extract_stack(tiny_llm, tokens, config)
    total = extract_sum(tiny_llm, tokens, config, torch.ones(tiny_llm.block_count))
    assert stack.shape[1:3] == tokens.kept.shape
    for row, prompt in enumerate(PROMPTS):
        first = tokenize(tiny_llm, [""], ExtractionConfig(template=f"Say: {prompt} ={{prompt}}")).skip
        uncut = tokenize(tiny_llm, [f"Say: {prompt} = {prompt}!"], ExtractionConfig())
        expected_start, expected = extract_stack(tiny_llm, uncut, config)
        length = int(tokens.kept[row].sum())
        assert tiny_llm.tokenizer.decode(uncut.ids[0, first:]) == f" {prompt}!"
        assert length == uncut.ids.shape[1] - first
        torch.testing.assert_close(start[row, :length], expected_start[0, first:], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(stack[:, row, :length], expected[:, 0, first:], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(total[row], start[row] + stack[:, row].sum(0), rtol=1e-4, atol=1e-4)
        assert not stack[:, row, length:].any()


def test_every_token_of_a_second_copy_has_seen_the_whole_prompt(tiny_llm: LanguageModel) -> None:
    def encoded(prompt: str, template: str | None) -> Tensor:
        config = ExtractionConfig(extraction="last", template=template)
        return extract_stack(tiny_llm, tokenize(tiny_llm, [prompt], config), config)[1][-1, 0]

    one, other = (encoded(prompt, None) for prompt in ("a cat sat", "a cat bit"))
    torch.testing.assert_close(one[:3], other[:3])
    one, other = (encoded(prompt, "{prompt} {prompt}") for prompt in ("a cat sat", "a cat bit"))
    assert ((one[:3] - other[:3]).abs().amax(-1) > 1e-3).all()


def test_the_empty_prompt_twice_is_one_token(tiny_llm: LanguageModel) -> None:
    for template in ("{prompt} {prompt}", "{prompt}\n{prompt}"):
        tokens = tokenize(tiny_llm, ["", "a cat"], ExtractionConfig(template=template))
        assert tokens.kept.sum(1).tolist() == [1, 3]


def test_rms_normalised_scores_have_unit_size_or_are_zero(tiny_llm: LanguageModel) -> None:
    tokens = tokenize(tiny_llm, PROMPTS, ExtractionConfig())
    _, stack = extract_stack(tiny_llm, tokens, ExtractionConfig())
    sizes = stack.square().mean(-1).sqrt()
    later = tokens.mask.clone()
    later[:, 0] = False
    torch.testing.assert_close(sizes[:, later], torch.ones_like(sizes[:, later]), rtol=1e-3, atol=1e-3)
    assert not sizes[:, ~later].any()


def test_states_are_what_transformers_calls_hidden_states(tiny_llm: LanguageModel) -> None:
    tokens = tokenize(tiny_llm, ["the cat on a mat"], PLAIN)
    out = copy.deepcopy(tiny_llm.model)(tokens.ids, output_hidden_states=True)  # which hangs hooks on a model for good
    states = out.hidden_states

    def read(extraction: str) -> Tensor:
        config = ExtractionConfig(extraction=extraction)
        weights = TextEncoding(config, tiny_llm.width, tiny_llm.block_count).weights()
        return extract_sum(tiny_llm, tokens, config, weights.detach())

    torch.testing.assert_close(read("last"), out.last_hidden_state)
    torch.testing.assert_close(read("penultimate"), states[-2])
    torch.testing.assert_close(read("layer:1"), states[1])
    torch.testing.assert_close(tiny_llm.model.norm(read("layer:4")), out.last_hidden_state)
    raw = [*states[1:-1], read("layer:4")]
    torch.testing.assert_close(read("mean"), torch.stack(raw).mean(0))
    torch.testing.assert_close(read("weighted"), torch.stack(raw).mean(0))
    normed = [(x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt() for x in raw]
    torch.testing.assert_close(read("norm-mean"), torch.stack(normed).mean(0), rtol=1e-4, atol=1e-4)


def test_cutting_a_prefix_leaves_the_rest_as_it_was(tiny_llm: LanguageModel) -> None:
    tokens = tokenize(tiny_llm, PROMPTS, ExtractionConfig(template="Say: {prompt}"))
    uncut = Tokens(tokens.ids, tokens.mask)
    assert tokens.skip == 4
    for config in (PLAIN, ExtractionConfig(extraction="mean")):
        start, stack = extract_stack(tiny_llm, tokens, config)
        whole_start, whole_stack = extract_stack(tiny_llm, uncut, config)
        torch.testing.assert_close(stack, whole_stack[:, :, 4:])
        torch.testing.assert_close(start, whole_start[:, 4:])
        assert stack[:, :, 0].any() or config is not PLAIN


def test_half_precision_scores_are_summed_in_float32(tokenizer: PreTrainedTokenizerFast) -> None:
    model = build("Llama", {})
    exact = LanguageModel.from_model(copy.deepcopy(model), tokenizer, "exact")
    coarse = LanguageModel.from_model(model.to(torch.bfloat16), tokenizer, "coarse")
    tokens, weights = whole(random_ids()), torch.ones(3)
    total = extract_sum(coarse, tokens, PLAIN, weights)
    expected = extract_sum(exact, tokens, PLAIN, weights)
    assert total.dtype == torch.float32
    assert (total - expected).norm() < 0.05 * expected.norm()


def test_an_extraction_leaves_no_trace_and_survives_an_error(tiny_llm: LanguageModel) -> None:
    before = [list(block._forward_hooks) for block in tiny_llm.blocks]
    with pytest.raises(IndexError):
        extract_stack(tiny_llm, whole(torch.tensor([[1, 10_000]])), PLAIN)
    assert [list(block._forward_hooks) for block in tiny_llm.blocks] == before
    start, stack = extract_stack(tiny_llm, whole(random_ids()), PLAIN)
    assert not stack.requires_grad
    assert not stack.is_inference()
    assert [list(block._forward_hooks) for block in tiny_llm.blocks] == before
    assert start.dtype == stack.dtype == torch.float32


def test_two_threads_read_one_llm_at_once(tiny_llm: LanguageModel) -> None:
    tokens = [tokenize(tiny_llm, [prompt], PLAIN) for prompt in ("a cat sat on a mat", "a dog")]
    expected = [extract_stack(tiny_llm, t, PLAIN)[1] for t in tokens]

    def read(index: int) -> Tensor:
        return extract_stack(tiny_llm, tokens[index % 2], PLAIN)[1]

    with ThreadPoolExecutor(4) as pool:
        for index, stack in enumerate(pool.map(read, range(40))):
            assert torch.equal(stack, expected[index % 2])


def test_fold_finds_the_sequence_dimension_wherever_it_is() -> None:
    rows, columns = torch.tensor([0, 1, 1]), torch.tensor([2, 1, 3])
    per_prompt, shared = torch.randn(2, 5, 3), torch.randn(1, 5, 3)
    axes = torch.randn(4, 2, 5, 3)
    folded = fold_tokens({"a": (per_prompt, [shared]), "b": axes, "c": "text"}, 2, 5, rows, columns)
    torch.testing.assert_close(folded["a"][0], per_prompt[rows, columns].unsqueeze(1))
    torch.testing.assert_close(folded["a"][1][0], shared[0, columns].unsqueeze(1))
    torch.testing.assert_close(folded["b"], axes[:, rows, columns].unsqueeze(2))
    assert folded["c"] == "text"
    assert fold_tokens(torch.arange(5), 2, 5, rows, columns).tolist() == [0]
    unrelated = torch.randn(7)
    assert fold_tokens(unrelated, 2, 5, rows, columns) is unrelated


@pytest.mark.parametrize("extraction", ["llmdiff", "last"])
def test_many_prompts_are_read_in_parts(
    extraction: str, tiny_llm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ExtractionConfig(extraction=extraction)
    tokens = tokenize(tiny_llm, ["a cat sat", "a", "the cat on a mat, at noon", "", "a dog"], config)
    weights = torch.rand(tiny_llm.block_count)
    start, stack = extract_stack(tiny_llm, tokens, config)
    total = extract_sum(tiny_llm, tokens, config, weights)
    passes: list[int] = []
    handle = tiny_llm.model.register_forward_pre_hook(
        lambda module, args, kwargs: passes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    monkeypatch.setattr(extraction_module, "_AT_ONCE", (4 if extraction == "llmdiff" else 2) * tokens.ids.shape[1])
    in_parts = extract_stack(tiny_llm, tokens, config)
    handle.remove()
    assert passes == [2, 2, 1]
    torch.testing.assert_close(in_parts, (start, stack), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(extract_sum(tiny_llm, tokens, config, weights), total, rtol=1e-4, atol=1e-4)
