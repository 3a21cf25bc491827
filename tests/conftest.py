"""Fixtures that several test packages share: a tiny real LLM, its tokenizer, and models on disk."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

import deprecations
from faults import FaultTable
from llmdiff import content
from llmdiff.language import LanguageModel, facts
from llmdiff.language.store import SETTING
from tiny_base import Places, save_models
from tiny_llm import build_llama, build_tokenizer


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", type=Path, help="write the table of tries and failures into this document")


def pytest_configure(config: pytest.Config) -> None:
    """Signals end things as they do in a terminal: who runs the tests in the background has them ignored, by nohup too.

    Processes that the tests start inherit it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    if document := config.getoption("--faults"):
        config.pluginmanager.register(FaultTable(document))


def pytest_collection_finish() -> None:
    """What the libraries have made at import is for ever: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_encodings_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test has encoded must not be found by another, nor be left in the home of who runs the tests.

    Who sets the variable himself runs the tests with such a cache.
    """
    if SETTING not in os.environ:
        monkeypatch.setenv(SETTING, "0")


@pytest.fixture(autouse=True, scope="session")
def _hints_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the tests have hashed and loaded is not remembered in the home of who runs them."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for module in (content, facts):
            patch.setattr(module, "home", lambda: folder)
        yield


@pytest.fixture
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cache of encodings on disk, also where all other tests have one: of tests that count what the LLM reads."""
    monkeypatch.setenv(SETTING, "0")


@pytest.fixture(autouse=True)
def _no_deprecated_calls_of_hosts() -> Iterator[None]:
    """What diffusers, transformers, accelerate and peft only log as deprecated fails a test as their warnings do."""
    with deprecations.refused():
        yield


@pytest.fixture(scope="session")
def tiny_llm() -> LanguageModel:
    """A random Llama of 4 blocks and width 32 (frozen, float32, CPU). Do not change it: the session shares it."""
    return build_llama()


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory, tiny_llm: LanguageModel) -> Places:
    """Folders of a tiny base model, LLM and adapter. Do not change them: the session shares them."""
    return save_models(tmp_path_factory.mktemp("models"), tiny_llm)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of one's own, free to be changed."""
    return build_tokenizer()
