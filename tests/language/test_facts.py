"""An LLM that was loaded before loads its weights when they are needed, and is the same in all that is seen of it."""

import json
import os
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from llmdiff import content
from llmdiff.language import ExtractionConfig, LanguageModel, TextEncoding, encode, facts
from llmdiff.language.loading import Loading
from llmdiff.language.store import SETTING
from llmdiff.language.transformers_internals import attention_implementation

CONFIG = ExtractionConfig()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with nothing in it, where encodings are kept, too."""
    monkeypatch.setattr(facts, "home", lambda: tmp_path / "home")
    monkeypatch.setenv("LLMDIFF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(SETTING, "1")
    return tmp_path / "home"


@pytest.fixture
def folder(tiny_llm: LanguageModel, tmp_path: Path, home: Path) -> str:
    """A tiny LLM as transformers saves one."""
    model = LlamaForCausalLM(tiny_llm.model.config)
    model.model.load_state_dict(tiny_llm.model.state_dict())
    model.save_pretrained(tmp_path / "llm")
    tiny_llm.tokenizer.save_pretrained(tmp_path / "llm")
    return str(tmp_path / "llm")


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources of weights that have been loaded, as they are loaded."""
    sources: list[str] = []
    load = Loading.model
    monkeypatch.setattr(Loading, "model", lambda self: sources.append(self.source) or load(self))
    return sources


def encoded(llm: LanguageModel, prompt: str) -> torch.Tensor:
    torch.manual_seed(0)
    return encode(llm, [prompt], CONFIG, TextEncoding(CONFIG, llm.width, llm.block_count).eval()).embeds


def kept(home: Path) -> list[Path]:
    return list((home / "llms").glob("*.json"))


def test_a_known_prompt_needs_no_weights_and_a_new_one_does(folder: str, loads: list[str]) -> None:
    first = encoded(LanguageModel.load(folder, late=True), "a red cup")
    assert loads == [folder]
    again = LanguageModel.load(folder, late=True)
    torch.testing.assert_close(encoded(again, "a red cup"), first, rtol=0, atol=0)
    assert loads == [folder]
    late, plain = encoded(again, "a blue cup"), encoded(LanguageModel.load(folder), "a blue cup")
    torch.testing.assert_close(late, plain, rtol=0, atol=0)
    assert loads == [folder] * 3


def test_all_else_of_it_is_as_if_it_had_been_loaded(folder: str, loads: list[str]) -> None:
    plain = LanguageModel.load(folder, late=True)
    late = LanguageModel.load(folder, late=True)
    assert len(loads) == 1

    def seen(llm: LanguageModel) -> tuple[object, ...]:
        shape = llm.architecture, llm.width, llm.block_count, llm.dtype, llm.device
        return (*shape, llm.identity(), llm.content(), attention_implementation(llm.config))

    assert seen(late) == seen(plain)
    assert len(loads) == 1
    assert len(late.blocks) == late.block_count
    assert len(loads) == 2
    assert seen(late) == seen(plain)  # of its weights, which are there


def test_who_does_not_ask_for_it_gets_weights_at_once(folder: str, loads: list[str], home: Path) -> None:
    LanguageModel.load(folder)
    LanguageModel.load(folder)
    assert len(loads) == 2
    assert kept(home) == []


def test_changed_weights_are_not_taken_for_those_of_before(folder: str, loads: list[str]) -> None:
    before = LanguageModel.load(folder, late=True).content()
    file = Path(folder) / "model.safetensors"
    status = file.stat()
    weights = load_file(file)
    weights["model.norm.weight"] += 1
    save_file(weights, file, {"format": "pt"})
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size
    assert LanguageModel.load(folder, late=True).content() != before
    assert len(loads) == 2


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_every_file_of_it_counts(folder: str, loads: list[str], name: str) -> None:
    LanguageModel.load(folder, late=True)
    file = Path(folder) / name
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_position_embeddings": 99}))
    LanguageModel.load(folder, late=True)
    assert len(loads) == 2


def test_options_of_loading_count(folder: str, loads: list[str]) -> None:
    LanguageModel.load(folder, late=True)
    assert LanguageModel.load(folder, late=True, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert LanguageModel.load(folder, late=True, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert len(loads) == 2


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b'{"facts": {}}', b"\xff"])
def test_damaged_facts_are_made_again(folder: str, loads: list[str], home: Path, damage: bytes) -> None:
    before = LanguageModel.load(folder, late=True).content()
    [path] = kept(home)
    path.write_bytes(damage)
    assert LanguageModel.load(folder, late=True).content() == before
    LanguageModel.load(folder, late=True)
    assert len(loads) == 2


def test_facts_that_somebody_has_edited_are_made_again(folder: str, loads: list[str], home: Path) -> None:
    LanguageModel.load(folder, late=True)
    [path] = kept(home)
    path.write_text(path.read_text().replace("decoder-only", "encoder-only"))
    assert LanguageModel.load(folder, late=True).architecture == "decoder-only"
    assert len(loads) == 2


def test_without_a_home_it_loads_as_ever(folder: str, loads: list[str], home: Path) -> None:
    home.write_text("not a folder")
    LanguageModel.load(folder, late=True)
    LanguageModel.load(folder, late=True)
    assert len(loads) == 2


def test_files_that_have_not_changed_are_not_read_again(
    folder: str, loads: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "home", lambda: home)
    LanguageModel.load(folder, late=True)
    soon = time.time_ns() + 10**10
    monkeypatch.setattr(time, "time_ns", lambda: soon)  # the files are no longer fresh
    LanguageModel.load(folder, late=True)
    monkeypatch.setattr(content, "_read", lambda source: pytest.fail(f"{source.place} is read"))
    LanguageModel.load(folder, late=True)
    assert len(loads) == 1
