"""Block terms: they equal a direct reading, are found by the content of what they depend on, and are read once."""

import hashlib
import multiprocessing
import os
import signal
import string
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import normalizers
from transformers.tokenization_python import PythonBackend

from llmdiff.errors import LLMDiffError
from llmdiff.language import ExtractionConfig, LanguageModel, TextEncoding, extract_stack, tokenize
from llmdiff.language.record import tokenizer_hash
from llmdiff.precompute import BlockTerms, LiveTerms, terms
from llmdiff.progress import silent
from tiny_llm import build_llama

CAPTIONS = ["a red cup", "", "a much longer caption of two blue cups", "cat", "a red cup"]
READINGS = {
    "llmdiff": ExtractionConfig(),
    "plain": ExtractionConfig(normalise="none", start="zeros"),
    "weighted": ExtractionConfig(extraction="weighted"),
    "template": ExtractionConfig(template="Describe: {prompt}", max_tokens=12),
    "norm-mean": ExtractionConfig(extraction="norm-mean"),
    "last": ExtractionConfig(extraction="last"),
}
LEARNED = ("llmdiff", "plain", "weighted", "template")
SPAWN = multiprocessing.get_context("spawn")  # a forked process would wait for threads of torch that it does not have


def terms_of(llm: LanguageModel, parent: Path, name: str = "llmdiff", **options: Any) -> BlockTerms:
    return BlockTerms.of(CAPTIONS, llm, READINGS[name], parent, silent, **options)


def folders(parent: Path) -> list[Path]:
    return sorted(parent.iterdir())


def no_reading(*_: object) -> None:
    pytest.fail("the LLM is read again")


@pytest.mark.filterwarnings("ignore:The prompt has")
@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("name", READINGS)
def test_terms_equal_a_direct_reading(tiny_llm, tmp_path, name, live):
    reading = READINGS[name]
    source = LiveTerms(tiny_llm, reading) if live else terms_of(tiny_llm, tmp_path, name)
    start, stack, mask = source.batch(CAPTIONS)
    assert start.shape == (*mask.shape, tiny_llm.width)
    assert stack.shape == (tiny_llm.block_count if name in LEARNED else 1, *start.shape)
    assert start.dtype == stack.dtype == torch.float32
    encoding = TextEncoding(reading, tiny_llm.width, tiny_llm.block_count).eval()
    for row, text in enumerate(CAPTIONS):
        tokens = tokenize(tiny_llm, [text], reading)
        own_start, own_stack = extract_stack(tiny_llm, tokens, reading)
        n = own_start.shape[1]
        assert mask[row].tolist() == [True] * n + [False] * (mask.shape[1] - n)
        if name in LEARNED:
            assert torch.allclose(stack[:, row, :n], own_stack[:, 0], rtol=1e-3, atol=1e-3)
        expected = encoding(own_start, own_stack, tokens.kept)[0]
        assert torch.allclose(encoding(start, stack, mask)[row, :n], expected, rtol=2e-3, atol=5e-3)
        assert not start[row, n:].any()
        assert not stack[:, row, n:].any()


def test_terms_on_their_way_to_a_device_are_those_that_are_kept(tiny_llm, tmp_path):
    source = terms_of(tiny_llm, tmp_path)
    start, stack, mask = source.batch(CAPTIONS, as_kept=True)
    assert start.dtype == stack.dtype == torch.float16
    expected = source.batch(CAPTIONS)
    assert all(torch.equal(a.to(b.dtype), b) for a, b in zip((start, stack, mask), expected, strict=True))


@pytest.mark.parametrize("name", ["llmdiff", "weighted"])
@pytest.mark.parametrize("groups", [1, 3, 4, 9])
def test_grouped_terms_train_like_terms_whose_weights_are_tied(tiny_llm, tmp_path, name, groups):
    """Two steps of Adam on groups equal two steps on all blocks with each weight set to its group's mean."""
    whole, grouped = terms_of(tiny_llm, tmp_path / "a", name), terms_of(tiny_llm, tmp_path / "b", name, groups=groups)
    (start, stack, mask), (_, sums, _) = whole.batch(CAPTIONS), grouped.batch(CAPTIONS)
    assert len(sums) == min(groups, 4)
    tied = [torch.arange(4) * len(sums) // 4 == g for g in range(len(sums))]
    one, other = (TextEncoding(READINGS[name], tiny_llm.width, 4).eval() for _ in range(2))
    for encoding, batch in ((one, stack), (other, sums)):
        weights = next(p for key, p in encoding.named_parameters() if key in ("g", "logits"))
        optimizer = torch.optim.Adam([weights], lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            encoding(start, batch, mask)[..., :5].square().sum().backward()
            for group in tied:
                weights.grad[group] = weights.grad[group].mean()
            optimizer.step()
    assert torch.allclose(one.weights(), other.weights(), atol=2e-2)
    assert all(len(set(other.weights()[group].tolist())) == 1 for group in tied)
    assert torch.allclose(one(start, stack, mask), other(start, sums, mask), atol=2e-2)


def test_companions_in_a_batch_change_nothing(tiny_llm, tmp_path):
    source = terms_of(tiny_llm, tmp_path)
    start, stack, mask = source.batch(CAPTIONS)
    alone_start, alone_stack, alone_mask = source.batch(["cat"])
    n = alone_mask.shape[1]
    assert alone_mask.all()
    assert torch.equal(start[3:4, :n], alone_start)
    assert torch.equal(stack[:, 3:4, :n], alone_stack)
    assert torch.equal(stack[:, 0], stack[:, 4])
    assert int(mask[3].sum()) == n


def test_a_caption_is_read_once_and_a_larger_set_reads_what_is_new(tiny_llm, tmp_path, monkeypatch):
    first = terms_of(tiny_llm, tmp_path).batch(CAPTIONS)
    read: list[str] = []

    def listening(llm: LanguageModel, texts: list[str], reading: ExtractionConfig) -> Any:
        read.extend(texts)
        return tokenize(llm, texts, reading)

    monkeypatch.setattr(terms, "tokenize", listening)
    more = BlockTerms.of([*reversed(CAPTIONS), "new", "new"], tiny_llm, READINGS["llmdiff"], tmp_path, silent)
    assert set(read) == {"new"}
    assert all(torch.equal(a, b) for a, b in zip(first, more.batch(CAPTIONS), strict=True))
    assert more.batch(["new"])[2].sum() == 3
    monkeypatch.setattr(terms, "extract_stack", no_reading)
    terms_of(tiny_llm, tmp_path)


def changed(llm: LanguageModel, change: Callable[[LanguageModel], None]) -> LanguageModel:
    change(llm)
    return llm


def _one_bit(llm: LanguageModel) -> None:
    """Changes the last bit of a single weight, one that no sample of the weights looks at."""
    weight = llm.blocks[2].mlp.up_proj.weight.data.view(-1)
    weight[1].view(1).view(torch.int32).bitwise_xor_(1)


def _lower_case(llm: LanguageModel) -> None:
    llm.tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()


def _one_row(llm: LanguageModel) -> None:
    llm.model.embed_tokens.weight.data[7] += 1


def _chat(llm: LanguageModel) -> None:
    llm.tokenizer.chat_template = "{{ messages[0]['content'] }}"


def _limit(llm: LanguageModel) -> None:
    llm.tokenizer.model_max_length = 7


CHANGES = {
    "one embedding row": lambda: changed(build_llama(), _one_row),
    "chat template": lambda: changed(build_llama(), _chat),
    "limit": lambda: changed(build_llama(), _limit),
    "other weights": lambda: build_llama(seed=1),
    "one bit": lambda: changed(build_llama(), _one_bit),
    "tokenizer": lambda: changed(build_llama(), _lower_case),
    "dtype": lambda: changed(build_llama(), lambda llm: llm.model.to(torch.bfloat16)),
}


@pytest.mark.fault("identity")
@pytest.mark.parametrize("change", CHANGES)
def test_another_llm_never_gets_what_this_one_said(tiny_llm, tmp_path, change):
    terms_of(tiny_llm, tmp_path)
    terms_of(CHANGES[change](), tmp_path)
    assert len(folders(tmp_path)) == 2


@pytest.mark.parametrize(
    "option",
    [
        {"template": "Draw {prompt}"},
        {"template": "chat"},
        {"max_tokens": 3},
        {"normalise": "none"},
        {"score": "difference"},
        {"start": "zeros"},
        {"extraction": "weighted"},
        {"extraction": "layer:2"},
    ],
)
@pytest.mark.filterwarnings("ignore:The prompt has")
def test_another_reading_never_gets_what_this_one_said(tiny_llm, tmp_path, option):
    terms_of(tiny_llm, tmp_path)
    BlockTerms.of(CAPTIONS, tiny_llm, ExtractionConfig(**option), tmp_path, silent)
    assert len(folders(tmp_path)) == 2


def test_neither_name_nor_noise_nor_use_makes_an_llm_another(tiny_llm, tmp_path, monkeypatch):
    terms_of(tiny_llm, tmp_path)
    monkeypatch.setattr(terms, "extract_stack", no_reading)
    twin = build_llama()
    twin.name, twin.revision = "somewhere/else", "v2"
    twin.tokenizer(["a", "longer"], padding=True, truncation=True, max_length=4)
    BlockTerms.of(CAPTIONS, twin, ExtractionConfig(noise=False), tmp_path, silent)
    assert len(folders(tmp_path)) == 1


class Letters(PythonBackend):
    """A tokenizer of Python code, which has no backend that says how it splits: into letters, some of them joined."""

    def __init__(self, joined: str = "", small: bool = False, **settings: Any) -> None:
        self.joined, self.rules = joined, {"small": small}
        self.codes = {letter: code for code, letter in enumerate(string.printable)} | {joined: 500, "?": 501}
        super().__init__(unk_token="?", **settings)

    @property
    def vocab_size(self) -> int:
        return 502

    def get_vocab(self) -> dict[str, int]:
        return {letter: code for code, letter in enumerate(string.printable)}

    def _tokenize(self, text: str) -> list[str]:
        text = text.lower() if self.rules["small"] else text
        return [self.joined if n % 2 and self.joined else letter for n, letter in enumerate(text)]

    def _convert_token_to_id(self, token: str) -> int:
        return self.codes.get(token, 501)


@pytest.mark.fault("identity")
@pytest.mark.parametrize("change", [{"joined": "ab"}, {"small": True}, {"model_max_length": 5}])
def test_a_tokenizer_of_python_code_is_known_by_what_it_does(change: dict[str, Any]) -> None:
    before = tokenizer_hash(Letters())
    assert tokenizer_hash(Letters()) == before
    assert tokenizer_hash(Letters(**change)) != before


def test_progress_is_told_from_0_up_with_the_size(tiny_llm, tmp_path, monkeypatch):
    told: list[tuple[str, float]] = []
    monkeypatch.setattr(terms, "_CHUNK", 5000)
    texts = [f"caption {n}" for n in range(40)]
    BlockTerms.of(texts, tiny_llm, READINGS["llmdiff"], tmp_path, lambda stage, share: told.append((stage, share)))
    size = int(tokenize(tiny_llm, texts, READINGS["llmdiff"]).kept.sum()) * (1 + 4) * 32 * 2
    assert {stage for stage, _ in told} == {f"Reading captions, {size / 1000:.3g} kB"}
    shares = [share for _, share in told]
    assert len(shares) > 4
    assert shares[0] == 0
    assert shares == sorted(set(shares))
    assert shares[-1] < 1


def test_a_full_disk_and_a_place_that_cannot_be_written_are_told(tiny_llm, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LLMDiffError, match="cannot be written"):
        terms_of(tiny_llm, tmp_path / "file")
    monkeypatch.setattr(terms, "term_bytes", lambda *_: 10**18)
    with pytest.raises(LLMDiffError, match="The LLM's terms of the captions take"):
        terms_of(tiny_llm, tmp_path)


def test_terms_that_float16_does_not_hold_are_refused(tmp_path):
    llm = build_llama()
    llm.model.embed_tokens.weight.data *= 1e7
    reading = ExtractionConfig(extraction="layer:2")
    with pytest.raises(LLMDiffError, match="too large for float16"):
        BlockTerms.of(CAPTIONS, llm, reading, tmp_path, silent)


def _read(parent: str, chunk: int, pause: float) -> None:
    """A process that reads 40 captions in files of some captions each.

    With one thread: sums that are shared among more or fewer threads are not the same to the bit.
    """
    torch.set_num_threads(1)

    def slowly(*arguments: Any) -> Any:
        time.sleep(pause)
        return extract_stack(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(terms, "_CHUNK", chunk)
        patch.setattr(terms, "extract_stack", slowly)
        BlockTerms.of(TEXTS, build_llama(), READINGS["llmdiff"], Path(parent), silent)


TEXTS = ["", *(f"{'a ' * (n % 5)}caption {n}" for n in range(40))]


def contents(parent: Path) -> dict[str, str]:
    """Each file's hash, by its name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in parent.glob("*/*")}


def read_apart(parent: Path) -> None:
    process = SPAWN.Process(target=_read, args=(str(parent), 20000, 0))
    process.start()
    process.join(120)
    assert process.exitcode == 0


@pytest.mark.slow
def test_a_killed_reading_goes_on_where_it_was_and_ends_in_the_same_bytes(tmp_path):
    process = SPAWN.Process(target=_read, args=(str(tmp_path / "killed"), 20000, 0.3))
    process.start()
    while len(list((tmp_path / "killed").glob("*/*.safetensors"))) < 2:
        assert process.is_alive()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    there = contents(tmp_path / "killed")
    next((tmp_path / "killed").glob("*/*.safetensors")).with_suffix(".lock").touch()  # killed before it let go
    read_apart(tmp_path / "alone")
    assert len(contents(tmp_path / "alone")) > len([name for name in there if name.endswith("safetensors")]) + 1
    read_apart(tmp_path / "killed")
    assert contents(tmp_path / "killed") == contents(tmp_path / "alone")
