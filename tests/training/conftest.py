"""Fixtures of the tests of training."""

from pathlib import Path

import pytest

from llmdiff.language import LanguageModel
from training.tiny_objective import Make, maker


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever devices there are: accelerate cannot change its mind within one process."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


@pytest.fixture
def make(tiny_llm: LanguageModel, tmp_path: Path) -> Make:
    """Makes an objective of four captioned random latents; the keywords are keys of its recipe."""
    return maker(tiny_llm, tmp_path)
