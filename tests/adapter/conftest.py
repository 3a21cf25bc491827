"""Fixtures of the adapter's tests."""

from collections.abc import Callable
from typing import Any

import pytest
from diffusers import DiffusionPipeline, StableDiffusionPipeline

from adapter.tiny import build_sd
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.language import LanguageModel


@pytest.fixture
def sd() -> StableDiffusionPipeline:
    return build_sd()


@pytest.fixture(scope="session")
def settled_llm(tiny_llm: LanguageModel) -> LanguageModel:
    """The tiny LLM as a renderer has it: its weights are looked at once, and not for each prompt."""
    llm = LanguageModel.from_model(tiny_llm.model, tiny_llm.tokenizer, name=tiny_llm.name)
    llm.settled = True
    return llm


@pytest.fixture
def make_adapter(settled_llm: LanguageModel) -> Callable[..., LLMDiffAdapter]:
    """Makes an adapter with the tiny LLM."""

    def make(pipe: DiffusionPipeline, **options: Any) -> LLMDiffAdapter:
        return LLMDiffAdapter.create(pipe, settled_llm, **options)

    return make


@pytest.fixture(params=["augment", "replace"])
def mode(request: pytest.FixtureRequest) -> str:
    """Both modes of an adapter."""
    return request.param
