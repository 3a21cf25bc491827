"""Tokenizers from strangers: one sentence before they take gigabytes, when they are loaded or when they read a text."""

import base64
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from llmdiff.base.loading import load_pipeline
from llmdiff.errors import LLMDiffError
from llmdiff.language import LanguageModel, loading
from llmdiff.tokenizer_files import check_growth
from tiny_base import Places

pytestmark = pytest.mark.fault("hostile templates")


@pytest.fixture
def llm(places: Places, tmp_path: Path) -> Path:
    return Path(shutil.copytree(places.llm, tmp_path / "llm"))


def refusal(load: Callable[[], object]) -> str:
    start = time.process_time()
    with pytest.raises(LLMDiffError) as caught:
        load()
    assert time.process_time() - start < 10
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(file: Path, **entries: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def added(count: int) -> list[dict[str, object]]:
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized", "special"], False)
    return [{"id": 262 + n, "content": f"<{n}>", **flags} for n in range(count)]


def replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


A = {"String": "a"}
GROWING: dict[str, Any] = {
    "doubling forty times": {"type": "Sequence", "normalizers": [replace(A, "aa")] * 40},
    "one long text": replace(A, "a" * 5000),
    "between all letters": replace({"Regex": ""}, "a" * 5000),
    "a long beginning": {"type": "Prepend", "prepend": "a" * 5000},
    "nested": {"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [replace(A, "a" * 99)] * 2}]},
}


@pytest.mark.parametrize("normalizer", GROWING.values(), ids=GROWING)
def test_a_text_that_grows_without_end_is_not_begun_with(llm: Path, normalizer: dict[str, Any]) -> None:
    change(llm / "tokenizer.json", normalizer=normalizer)
    assert "makes more than 1,000 characters of one" in refusal(lambda: LanguageModel.load(str(llm)))


def test_nor_in_the_tokenizer_of_a_base(places: Places, tmp_path: Path) -> None:
    base = shutil.copytree(places.base, tmp_path / "base")
    change(base / "tokenizer/tokenizer.json", normalizer=GROWING["doubling forty times"])
    assert "The tokenizer of the base model" in refusal(lambda: load_pipeline(base))


@pytest.mark.parametrize("key", ["model_max_length", "extra_ids"])
def test_a_base_pads_no_text_to_any_length(places: Places, tmp_path: Path, key: str) -> None:
    base = shutil.copytree(places.base, tmp_path / "base")
    change(base / "tokenizer/tokenizer_config.json", **{key: 10**9})
    assert f"{key} is 1,000,000,000" in refusal(lambda: load_pipeline(base))


def test_a_table_of_characters_that_grow() -> None:
    """In SentencePiece's form: 4 bytes for the size of the trie, the trie, and what the characters become."""
    table = base64.b64encode((4).to_bytes(4, "little") + bytes(4) + b"ab\0" + b"c" * 2000 + b"\0").decode()
    state = json.dumps({"type": "Precompiled", "precompiled_charsmap": table})

    class Backend:
        normalizer = type("Normalizer", (), {"__getstate__": lambda self: state})()

    with pytest.raises(LLMDiffError, match="The tokenizer makes more than"):
        check_growth(type("Tokenizer", (), {"backend_tokenizer": Backend})(), "The tokenizer")


def test_what_normalizers_do_is_allowed() -> None:
    steps = [normalizers.Replace(" ", "\u2581"), normalizers.Replace("``", '"'), normalizers.Prepend("\u2581")]
    backend = Tokenizer(models.BPE())
    for normalizer in (normalizers.Sequence([*steps, normalizers.NFKC(), normalizers.Lowercase()]), None):
        if normalizer is not None:
            backend.normalizer = normalizer
        check_growth(PreTrainedTokenizerFast(tokenizer_object=backend), "The tokenizer")
    check_growth(None, "No tokenizer")


def test_ten_million_tokens_are_not_added(llm: Path) -> None:
    with (llm / "added_tokens.json").open("wb") as file:
        file.truncate(10**10)  # sparse
    assert "it has more than 100 MB" in refusal(lambda: LanguageModel.load(str(llm)))
    (llm / "added_tokens.json").unlink()
    change(llm / "tokenizer.json", added_tokens=added(200_001))
    assert "it adds 200,001 tokens" in refusal(lambda: LanguageModel.load(str(llm)))


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "merges.txt"])
def test_a_tokenizer_that_is_no_file(llm: Path, name: str) -> None:
    (llm / name).unlink(missing_ok=True)
    os.mkfifo(llm / name)
    assert f"{name}' is none that a model has (it is a device, a FIFO" in refusal(lambda: LanguageModel.load(str(llm)))


@pytest.mark.parametrize("text", ["", "[" * 100_000, "\0", "{", '{"a": 1e999}'])
def test_a_damaged_config_of_a_tokenizer(llm: Path, text: str) -> None:
    (llm / "tokenizer_config.json").write_text(text)
    assert "tokenizer" in refusal(lambda: LanguageModel.load(str(llm)))


def test_what_takes_too_long_to_load_is_left(llm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "LOADING", 0.2)
    monkeypatch.setattr(loading.Loading, "_load_tokenizer", lambda _: time.sleep(3))
    assert f"The tokenizer of {llm} takes more than 0.2 seconds" in refusal(lambda: LanguageModel.load(str(llm)))


DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "a type that is none": lambda content: content["model"].update(type="none such"),
    "a number below zero": lambda content: content["model"]["vocab"].update({"zz": -1}),
    "a text for a number": lambda content: content["model"]["vocab"].update({"zz": "x"}),
    "a pattern that is none": lambda content: content.update(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_tokenizer_is_a_sentence(llm: Path, places: Places, tmp_path: Path, damage: str) -> None:
    """The library tokenizers, in which they are found, raises exceptions of no class of its own."""
    base = Path(shutil.copytree(places.base, tmp_path / "base"))
    for file in (llm / "tokenizer.json", base / "tokenizer" / "tokenizer.json"):
        content = json.loads(file.read_text())
        DAMAGE[damage](content)
        file.write_text(json.dumps(content))
    assert "is missing or damaged" in refusal(lambda: LanguageModel.load(str(llm)))
    assert "is missing or damaged" in refusal(lambda: load_pipeline(base))


def test_a_merge_of_what_is_not_in_the_vocabulary_is_a_sentence(llm: Path) -> None:
    file = llm / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["merges"].append(["zz", "qq"])
    file.write_text(json.dumps(content))
    assert "out of vocabulary" in refusal(lambda: LanguageModel.load(str(llm)))


@pytest.mark.parametrize("limit", ["{prompt}", "1", 0, -1, 0.5, True, [], float("nan")])
def test_a_limit_that_is_none_is_a_sentence(llm: Path, limit: object) -> None:
    change(llm / "tokenizer_config.json", model_max_length=limit)
    assert "is none that a model has (model_max_length is" in refusal(lambda: LanguageModel.load(str(llm)))


@pytest.mark.parametrize("limit", [None, 512, 1e30, 10**30])
def test_limits_as_they_are_saved_are_taken(llm: Path, limit: object) -> None:
    change(llm / "tokenizer_config.json", model_max_length=limit)
    LanguageModel.load(str(llm))
