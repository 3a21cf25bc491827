"""Fixtures: one tiny model of each kind in both forms."""

import pytest

from comfyui.tiny import Forms, build_forms
from llmdiff.language import LanguageModel
from tiny_llm import build_llama


@pytest.fixture(scope="session")
def llm() -> LanguageModel:
    return build_llama(blocks=2, width=8)


@pytest.fixture(scope="session", params=["sd", "sdxl"])
def forms(request: pytest.FixtureRequest) -> Forms:
    return build_forms(request.param)


@pytest.fixture(scope="session")
def sd() -> Forms:
    return build_forms("sd")
