"""Both outputs of a block in one call. That they are exact is shown family by family in ``test_contract``."""

import threading

import pytest
import torch
from torch import nn
from transformers import AttentionInterface, LlamaForCausalLM, PreTrainedTokenizerFast

from language.families import build
from language.test_contract import ALL, PLAIN, some_ids, take, whole
from llmdiff.language import ExtractionConfig, LanguageModel, extract_stack, extract_sum

FOLDED = {"Falcon", "Falcon (ALiBi)", "Bloom (ALiBi)", "GptOss", "Gemma2"}
"""Their attention is of their own, has sinks, or is eager."""
GATED = {"Qwen3Next", "Qwen3_5Text"}
"""Their attention is multiplied by a gate before its output projection."""
MIXTURES = {"Mixtral", "Qwen3Moe"}
"""Their experts read three dimensions, which a pair has of a single prompt only."""


@pytest.mark.parametrize("name", ALL)
def test_families_are_paired_unless_there_is_a_reason(name: str) -> None:
    """Else an error of ours would only make everything slower."""
    llm = take(name)
    for rows in (1, 2):
        extract_stack(llm, whole(some_ids().repeat(rows, 1)), PLAIN)
    expected = {True: name not in GATED, False: name not in GATED | MIXTURES}
    assert llm.paired == ({} if name in FOLDED else expected)


class Scaled(nn.Module):
    """An output projection that is fine with a pair, of attention that was changed before it came here."""

    def __init__(self, projection: nn.Linear, by: float) -> None:
        super().__init__()
        self.projection, self.by = projection, by

    def forward(self, attention: torch.Tensor) -> torch.Tensor:
        if len(attention) == 2:  # of a pair, the conditional half alone
            attention = attention * torch.tensor([self.by, 1.0], dtype=attention.dtype).view(2, 1, 1)
            return self.projection(attention)
        return self.projection(attention * self.by)


@pytest.mark.parametrize("layer", [0, 2])
def test_a_pair_that_a_block_gets_wrong_is_noticed(layer: int, tokenizer: PreTrainedTokenizerFast) -> None:
    model = build("Llama", {})
    assert isinstance(model, LlamaForCausalLM)
    attention = model.model.layers[layer].self_attn
    attention.o_proj = Scaled(attention.o_proj, 1.5)
    llm = LanguageModel.from_model(model, tokenizer, "scaled")
    _, stack = extract_stack(llm, whole(some_ids()), PLAIN)
    assert llm.paired == {True: False}
    attention.o_proj = attention.o_proj.projection
    with torch.no_grad():
        attention.o_proj.weight *= 1.5
    _, expected = extract_stack(LanguageModel.from_model(model, tokenizer, "plain"), whole(some_ids()), PLAIN)
    torch.testing.assert_close(stack, expected)


def test_a_prompt_of_one_token_proves_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    llm = LanguageModel.from_model(build("Llama", {}), tokenizer, "llama")
    _, stack = extract_stack(llm, whole(some_ids()[:, :1]), PLAIN)
    assert not stack.any()
    assert llm.paired == {}


def test_what_is_wrong_with_a_prompt_is_not_held_against_the_blocks(tokenizer: PreTrainedTokenizerFast) -> None:
    llm = LanguageModel.from_model(build("Llama", {}), tokenizer, "llama")
    with pytest.raises(IndexError):
        extract_stack(llm, whole(torch.tensor([[1, 10_000]])), PLAIN)
    assert llm.paired == {}


def test_nothing_is_left_behind_and_other_threads_notice_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    llm = LanguageModel.from_model(build("Llama", {}), tokenizer, "llama")
    ids, stock = some_ids(), AttentionInterface()["sdpa"]
    plain = llm.model(input_ids=ids, use_cache=False)[0]
    found: list[torch.Tensor] = []
    thread = threading.Thread(target=lambda: found.append(llm.model(input_ids=ids, use_cache=False)[0]))

    def meanwhile(module: nn.Module, args: tuple[object, ...]) -> None:
        if not found and threading.current_thread() is threading.main_thread():
            assert AttentionInterface()["sdpa"] is not stock
            thread.start()
            thread.join()

    handle = llm.blocks[1].mlp.register_forward_pre_hook(meanwhile)
    extract_sum(llm, whole(ids), PLAIN, torch.ones(llm.block_count))
    handle.remove()
    assert torch.equal(found[0], plain)
    assert AttentionInterface()["sdpa"] is stock
    assert not any(module._forward_pre_hooks for module in llm.model.modules())
    assert torch.equal(llm.model(input_ids=ids, use_cache=False)[0], plain)


@pytest.mark.parametrize(("extraction", "blocks"), [("layer:1", 1), ("penultimate", 2), ("last", 3), ("mean", 3)])
def test_blocks_behind_the_last_one_that_counts_do_not_run(
    extraction: str, blocks: int, tokenizer: PreTrainedTokenizerFast
) -> None:
    llm = LanguageModel.from_model(build("Llama", {}), tokenizer, "llama")
    config = ExtractionConfig(extraction=extraction)
    run: list[int] = []
    for index, block in enumerate(llm.blocks):
        block.register_forward_pre_hook(lambda *_, index=index: run.append(index))
    weights = torch.zeros(3) + (extraction == "mean")
    weights[blocks - 1] = 1
    total = extract_sum(llm, whole(some_ids()), config, weights)
    assert run == list(range(blocks))
    start, stack = extract_stack(llm, whole(some_ids()), config)
    torch.testing.assert_close(total, start + torch.einsum("t,tbsd->bsd", weights, stack))


@pytest.mark.parametrize("score", ["residual", "difference"])
def test_terms_with_a_weight_of_0_are_left_out_of_the_sum_alone(score: str, tokenizer: PreTrainedTokenizerFast) -> None:
    llm = LanguageModel.from_model(build("Llama", {}), tokenizer, "llama")
    config = ExtractionConfig.model_validate({"score": score})
    start, stack = extract_stack(llm, whole(some_ids()), config)
    for weights in torch.tensor([[0, 2.0, 0], [0, 0, 1.5], [1.0, 0, -1], [0, 0, 0]]):
        total = extract_sum(llm, whole(some_ids()), config, weights)
        torch.testing.assert_close(total, start + torch.einsum("t,tbsd->bsd", weights, stack))
