"""Prompts of more than 512 tokens: read to their last token, and cut with a warning where a limit says so."""

import warnings

import pytest
import torch

from adapter.tiny import draw, perturb
from language.families import FAMILIES, build, reference_scores
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.language import ExtractionConfig, LanguageModel, Tokens, extract_stack
from llmdiff.language.tokens import _warn_of_cut
from tiny_llm import build_llama, build_tokenizer

READING = ExtractionConfig(max_tokens=600, normalise="none")
HEAD = "x" * 560  # a token each, since nothing is merged
SHORT = HEAD + "red" + "y" * 37
LONG = SHORT + "beyond the limit, where nobody looks any more"


@torch.no_grad()
def test_scores_far_into_a_prompt_are_those_of_the_slow_reference():
    model = build("Llama", FAMILIES["Llama"] | {"max_position_embeddings": 1024}, attn_implementation="eager")
    ids = torch.randint(1, 200, (1, 600), generator=torch.Generator().manual_seed(7))
    expected = reference_scores(model, ids)
    llm = LanguageModel.from_model(model, build_tokenizer(), "long")
    scores = extract_stack(llm, Tokens(ids, torch.ones_like(ids, dtype=torch.bool)), READING)[1][:, 0]
    scale = expected[:, 1:].norm(dim=-1).mean()
    assert (scores - expected).norm(dim=-1).max() < 1e-5 * scale
    assert scores[:, 599].norm(dim=-1).min() > 1e-3 * scale


def test_a_prompt_of_600_tokens_makes_the_picture_and_what_is_cut_does_not(sd, mode):
    llm = build_llama(positions=1024)
    adapter = perturb(LLMDiffAdapter.create(sd, llm, mode=mode, reading=READING)).attach(sd)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        picture = draw(sd, SHORT)
        other = draw(sd, HEAD + "tan" + "y" * 37)
    assert adapter.encode([SHORT, "a"]).mask.sum(1).tolist() == [600, 1]
    assert not torch.allclose(picture, other, atol=1e-4)  # for tokens 561 to 563
    cut = r"has 644 tokens and 600 are read; the last 44 are cut, from: 'beyond the limit, where nobody looks any more'"
    _warn_of_cut.cache_clear()  # each prompt is warned of once
    with pytest.warns(UserWarning, match=cut):
        assert torch.equal(draw(sd, LONG), picture)
