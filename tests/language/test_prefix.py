"""The cached keys and values of a template's prefix give what running on the whole prompt gives."""

from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from language.families import ALIBI, FAMILIES, RECURRENT, build
from llmdiff.language import ExtractionConfig, LanguageModel, Tokens, extract_stack, tokenize

TEMPLATES = {"chat": "chat", "instruction": "Describe what is seen: {prompt}"}
PROMPTS = ["a cat sat", "", "the cat on a mat, at noon"]
UNCACHED = {"Mistral", "Gemma2", "Gemma3Text", "GptOss"}  # in these tests their windows are shorter than the prefix
UNCACHED |= {"Gemma4Text", "Bloom", "Falcon", "Lfm2", "Qwen3_5Text", "Qwen3Next"}


def uncached(llm: LanguageModel, tokens: Tokens, config: ExtractionConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """The same extraction without a cache of the prefix."""
    llm.prefixes = dict.fromkeys([tuple(tokens.ids[0, : tokens.skip].tolist())])
    return extract_stack(llm, tokens, config)


@pytest.mark.parametrize(("family", "changes"), [*FAMILIES.items(), *ALIBI.items(), *RECURRENT.items()])
def test_it_equals_running_on_whole_prompts(
    family: str, changes: dict[str, Any], tokenizer: PreTrainedTokenizerFast
) -> None:
    llm = LanguageModel.from_model(build(family, changes, torch.float32), tokenizer, family)
    config = ExtractionConfig(template="Say this: {prompt}", normalise="none")
    tokens = tokenize(llm, PROMPTS, config)
    start, stack = extract_stack(llm, tokens, config)
    assert [cache is None for cache in llm.prefixes.values()] == [family in UNCACHED]
    expected_start, expected = uncached(llm, tokens, config)
    assert (stack - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert torch.equal(start, expected_start)


@pytest.mark.parametrize("family", [family for family, changes in FAMILIES.items() if changes.get("sliding_window")])
def test_a_window_that_the_prefix_fits_slides_on_after_it(family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    changes = FAMILIES[family] | {"sliding_window": 12}
    llm = LanguageModel.from_model(build(family, changes, torch.float32), tokenizer, family)
    config = ExtractionConfig(
        template="Say this: {prompt}", normalise="none"
    )  # of 9 tokens, and the longest prompt of 25
    tokens = tokenize(llm, PROMPTS, config)
    _, stack = extract_stack(llm, tokens, config)
    assert [cache is None for cache in llm.prefixes.values()] == [family == "Gemma4Text"]
    _, expected = uncached(llm, tokens, config)
    assert (stack - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("extraction", ["llmdiff", "last", "mean"])
def test_every_extraction_goes_on_from_it(tiny_llm: LanguageModel, extraction: str, template: str) -> None:
    llm = LanguageModel.from_model(tiny_llm.model, tiny_llm.tokenizer, "fresh")
    config = ExtractionConfig(extraction=extraction, template=template, score="difference")
    tokens = tokenize(llm, PROMPTS, config)
    for _ in range(2):  # a pass must not change what is kept for the next
        start, stack = extract_stack(llm, tokens, config)
    expected_start, expected = uncached(llm, tokens, config)
    torch.testing.assert_close(stack, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(start, expected_start)


def test_few_are_kept_and_only_what_follows_is_run(tiny_llm: LanguageModel) -> None:
    llm = LanguageModel.from_model(tiny_llm.model, tiny_llm.tokenizer, "fresh")
    lengths: list[int] = []
    handle = llm.model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    for number in [*range(9), 8]:
        config = ExtractionConfig(template=f"Say it {number} times: {{prompt}}")
        extract_stack(llm, tokenize(llm, ["a cat"], config), config)
    handle.remove()
    assert len(llm.prefixes) == 4
    prefix, rest = lengths[:2]
    assert lengths == [prefix, rest] * 9 + [rest]
    assert rest < prefix
