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


@pytest.fixture
def make_adapter(tiny_llm: LanguageModel) -> Callable[..., LLMDiffAdapter]:
    """Makes an adapter with the tiny LLM."""

    def make(pipe: DiffusionPipeline, **options: Any) -> LLMDiffAdapter:
        return LLMDiffAdapter.create(pipe, tiny_llm, **options)

    return make


@pytest.fixture(params=["augment", "replace"])
def mode(request: pytest.FixtureRequest) -> str:
    """Both modes of an adapter."""
    return request.param
