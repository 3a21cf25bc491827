"""Where the tokens of an encoding stand in a prompt."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdiff.errors import LLMDiffError
from llmdiff.language import ExtractionConfig, LanguageModel, tokenize
from llmdiff.language.spans import prompt_spans
from tiny_llm import build_tokenizer

TEMPLATES = [None, "chat", "Draw: {prompt}", "{prompt} in detail"]


@pytest.mark.filterwarnings("ignore:The prompt has")
@settings(max_examples=40, deadline=None)
@given(prompt=st.text(max_size=12), template=st.sampled_from(TEMPLATES), limit=st.integers(1, 12))
def test_there_is_a_span_for_each_token_of_the_encoding(
    prompt: str, template: str | None, limit: int, tiny_llm: LanguageModel
) -> None:
    config = ExtractionConfig(template=template, max_tokens=limit)
    found = prompt_spans(tiny_llm, prompt, config)
    assert len(found.spans) == tokenize(tiny_llm, [prompt], config).kept.shape[1]
    assert found.is_cut == (found.count > limit)
    assert all(span is None or 0 <= span[0] <= span[1] <= len(prompt) for span in found.spans)
    assert found.is_cut or found.read == len(prompt)


def test_a_cut_prompt_says_how_much_of_it_is_read(tiny_llm: LanguageModel) -> None:
    found = prompt_spans(tiny_llm, "a cat, a ball", ExtractionConfig(max_tokens=4))
    assert ("a cat, a ball"[: found.read], found.count, found.limit) == ("a cat,", 10, 4)


def test_a_tokenizer_without_offsets_is_refused(tiny_llm: LanguageModel) -> None:
    class Slow:
        is_fast = False

        def __getattr__(self, name: str) -> object:
            return getattr(tiny_llm.tokenizer, name)

        def __call__(self, *args: object, **options: object) -> object:
            return tiny_llm.tokenizer(*args, **options)

    llm = LanguageModel.from_model(tiny_llm.model, build_tokenizer(), "slow")
    llm.tokenizer = Slow()
    with pytest.raises(LLMDiffError, match="where its tokens are"):
        prompt_spans(llm, "a cat", ExtractionConfig())
    assert torch.is_tensor(tokenize(llm, ["a cat"], ExtractionConfig()).ids)
