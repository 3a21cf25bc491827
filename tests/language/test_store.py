"""Encodings on disk: found again by content, never trusted when damaged, never more than they may weigh."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from llmdiff.home import home
from llmdiff.language import ExtractionConfig, LanguageModel, TextEncoding, encode
from llmdiff.language.store import DEFAULT_MEGABYTES, SETTING, EncodingStore, default_store
from tiny_llm import build_llama

CONFIG = ExtractionConfig()


@pytest.fixture
def store(tmp_path: Path) -> EncodingStore:
    return EncodingStore(tmp_path / "encodings", 10_000)


@pytest.fixture
def _kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMDIFF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(SETTING, "1")


def make(seed: int = 0) -> tuple[LanguageModel, TextEncoding]:
    llm = build_llama(seed=seed)
    return llm, TextEncoding(CONFIG, llm.width, llm.block_count).eval()


def passes(llm: LanguageModel) -> list[int]:
    counted: list[int] = []
    llm.model.register_forward_pre_hook(lambda *_: counted.append(1))
    return counted


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_is_put_is_got(store: EncodingStore, dtype: torch.dtype) -> None:
    embeds = torch.randn(3, 4).to(dtype)
    assert store.get("a") is None
    store.put("a", embeds)
    found = store.get("a")
    assert found is not None
    assert found.dtype == dtype
    assert torch.equal(found, embeds)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_file_is_as_none(store: EncodingStore, damage: str) -> None:
    store.put("a", torch.randn(3, 4))
    (path,) = store.folder.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:-5]
    elif damage == "flipped":
        content[-3] ^= 1
    else:
        content = bytearray(b"" if damage == "empty" else b"{}" * 50)
    path.write_bytes(content)
    assert store.get("a") is None
    assert not path.exists()


@pytest.mark.fault("special files")
@pytest.mark.timeout(60)
def test_what_is_no_file_is_as_none(store: EncodingStore) -> None:
    store.put("a", torch.randn(3, 4))
    (path,) = store.folder.iterdir()
    path.unlink()
    os.mkfifo(path)
    assert store.get("a") is None
    assert not path.exists()


def test_those_used_longest_ago_go_first(store: EncodingStore) -> None:
    for age, name in enumerate("abc"):
        store.put(name, torch.zeros(500))
        os.utime(store._path(name), (1000 + age, 1000 + age))
    assert store.get("a") is not None  # and so it is the one used last
    store.put("d", torch.zeros(1500))
    assert {path.stem for path in store.folder.iterdir()} == {"a", "d"}
    store.put("huge", torch.zeros(10_000))
    assert store.get("huge") is None


def test_a_file_that_may_be_read_and_not_touched_is_read(store: EncodingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(path)

    store.put("a", torch.ones(3, 4))
    monkeypatch.setattr(os, "utime", refuse)
    for _ in range(2):
        found = store.get("a")
        assert found is not None
        assert torch.equal(found, torch.ones(3, 4))


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = EncodingStore(tmp_path / "file" / "encodings", 1000)
    store.put("a", torch.zeros(4))
    assert store.get("a") is None


def test_two_at_once(store: EncodingStore) -> None:
    """Writers and readers of the same few keys, with room for half of them."""

    def work(number: int) -> None:
        key = number % 6
        store.put(str(key), torch.full((700,), float(key)))
        found = store.get(str((number + 1) % 6))
        assert found is None or found.unique().tolist() == [(number + 1) % 6]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(120)))
    assert sum(path.stat().st_size for path in store.folder.iterdir()) <= store.limit


@pytest.mark.slow
@pytest.mark.usefixtures("_kept")
def test_another_process_finds_the_encoding() -> None:
    code = (
        "from language.test_store import *; llm, text_encoding = make(); encode(llm, ['a cat'], CONFIG, text_encoding)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    llm, text_encoding = make()
    counted = passes(llm)
    found = encode(llm, ["a cat"], CONFIG, text_encoding)
    assert not counted
    llm.encodings.clear()
    (home() / "encodings").rename(home() / "away")
    assert torch.equal(encode(llm, ["a cat"], CONFIG, text_encoding).embeds, found.embeds)
    assert counted


@pytest.mark.usefixtures("_kept")
def test_a_change_of_anything_is_another_encoding() -> None:
    llm, text_encoding = make()
    first = encode(llm, ["a cat"], CONFIG, text_encoding).embeds

    def fresh(change) -> torch.Tensor:  # type: ignore[no-untyped-def]
        llm, text_encoding = make()
        config = change(llm, text_encoding) or CONFIG
        counted = passes(llm)
        embeds = encode(llm, ["a cat"], config, text_encoding).embeds
        assert counted
        return embeds

    @torch.no_grad()
    def other_llm(llm: LanguageModel, _: TextEncoding) -> None:
        for weight in llm.model.parameters():
            weight.mul_(1.0001)

    @torch.no_grad()
    def other_weights(_: LanguageModel, text_encoding: TextEncoding) -> None:
        text_encoding.g[0] += 1e-3

    for change in (other_llm, other_weights, lambda *_: ExtractionConfig(template="Say: {prompt}")):
        assert fresh(change).shape[-1] == first.shape[-1]
    assert len(list((home() / "encodings").iterdir())) == 4


@pytest.mark.usefixtures("_kept")
def test_every_prompt_is_kept_whatever_its_company() -> None:
    llm, text_encoding = make()
    together = encode(llm, ["a cat on a mat", "a dog"], CONFIG, text_encoding)
    assert len(list((home() / "encodings").iterdir())) == 2
    llm, text_encoding = make()
    counted = passes(llm)
    alone = encode(llm, ["a dog"], CONFIG, text_encoding)
    assert not counted
    assert torch.equal(alone.embeds[0], together.embeds[1][together.mask[1]])


@pytest.mark.usefixtures("nothing_kept")
def test_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_store() is None
    monkeypatch.setenv(SETTING, "3")
    store = default_store()
    assert store is not None
    assert store.limit == 3 * 2**20
    for setting in ("", "much"):
        monkeypatch.setenv(SETTING, setting)
        store = default_store()
        assert store is not None
        assert store.limit == DEFAULT_MEGABYTES * 2**20
