"""Tiny models on disk, saved once for the session."""

import pytest

from llmdiff.language import LanguageModel
from tiny_base import Places, save_models


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory, tiny_llm: LanguageModel) -> Places:
    """Folders of a tiny base model, LLM and adapter. Do not change them: the session shares them."""
    return save_models(tmp_path_factory.mktemp("models"), tiny_llm)
