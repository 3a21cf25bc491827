"""What is computed once: block terms equal a direct reading, are kept, and are computed anew when they must be."""

from pathlib import Path

import numpy as np
import pytest
import torch

from llmdiff.errors import LLMDiffError
from llmdiff.language import LanguageModel, ReadingConfig, read_stack, tokenize
from llmdiff.training import precompute
from llmdiff.training.precompute import BlockTerms
from tiny_base import build_base
from tiny_llm import build_llama

CAPTIONS = ["a red cup", "", "a much longer caption of two blue cups", "cat", "a red cup"]
READINGS = {
    "llmdiff": ReadingConfig(),
    "plain": ReadingConfig(normalise="none", start="zeros"),
    "norm-mean": ReadingConfig(extraction="norm-mean"),
    "template": ReadingConfig(template="Describe: {prompt}", max_tokens=12),
}


def silent(stage: str, share: float) -> None:
    """Reports to nobody."""


def terms_of(llm: LanguageModel, parent: Path, reading: ReadingConfig = READINGS["llmdiff"]) -> BlockTerms:
    return BlockTerms.of(CAPTIONS, llm, reading, parent, silent)


@pytest.mark.filterwarnings("ignore:The prompt has")
@pytest.mark.parametrize("name", READINGS)
def test_terms_equal_a_direct_reading(tiny_llm, tmp_path, name):
    reading = READINGS[name]
    start, stack, mask = terms_of(tiny_llm, tmp_path, reading).batch(CAPTIONS)
    assert start.shape == (*mask.shape, tiny_llm.width)
    assert stack.shape == (tiny_llm.block_count, *start.shape)
    assert start.dtype == stack.dtype == torch.float32
    for row, text in enumerate(CAPTIONS):
        tokens = tokenize(tiny_llm, [text], reading)
        own_start, own_stack = read_stack(tiny_llm, tokens, reading)
        n = own_start.shape[1]
        assert mask[row].tolist() == [True] * n + [False] * (mask.shape[1] - n)
        assert torch.allclose(start[row, :n], own_start[0], rtol=1e-3, atol=1e-3)
        assert torch.allclose(stack[:, row, :n], own_stack[:, 0], rtol=1e-3, atol=1e-3)
        assert not start[row, n:].any()
        assert not stack[:, row, n:].any()


def test_companions_in_a_batch_change_nothing(tiny_llm, tmp_path):
    terms = terms_of(tiny_llm, tmp_path)
    start, stack, mask = terms.batch(CAPTIONS)
    alone_start, alone_stack, alone_mask = terms.batch(["cat"])
    n = alone_mask.shape[1]
    assert alone_mask.all()
    assert torch.equal(start[3:4, :n], alone_start)
    assert torch.equal(stack[:, 3:4, :n], alone_stack)
    assert torch.equal(stack[:, 0], stack[:, 4])
    assert int(mask[3].sum()) == n


def test_terms_are_kept(tiny_llm, tmp_path, monkeypatch):
    first = terms_of(tiny_llm, tmp_path).batch(CAPTIONS)
    monkeypatch.setattr(precompute, "read_stack", lambda *_: pytest.fail("the LLM is read again"))
    again = BlockTerms.of(reversed(CAPTIONS), tiny_llm, READINGS["llmdiff"], tmp_path, silent).batch(CAPTIONS)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("stage", ["no index", "torn arrays", "only a folder"])
def test_a_half_written_folder_is_written_anew(tiny_llm, tmp_path, stage):
    expected = [part.clone() for part in terms_of(tiny_llm, tmp_path).batch(CAPTIONS)]
    (folder,) = tmp_path.iterdir()
    (folder / "index.json").unlink()
    if stage == "torn arrays":
        (folder / "terms.npy").write_bytes((folder / "terms.npy").read_bytes()[:100])
        np.save(folder / "start.npy", np.zeros(3))
    if stage == "only a folder":
        for path in folder.iterdir():
            path.unlink()
    found = terms_of(tiny_llm, tmp_path).batch(CAPTIONS)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_what_the_terms_depend_on_has_a_folder_of_its_own(tiny_llm, tmp_path):
    for reading in (READINGS["llmdiff"], READINGS["plain"], READINGS["norm-mean"]):
        terms_of(tiny_llm, tmp_path, reading)
    terms_of(build_llama(seed=1), tmp_path)
    BlockTerms.of(["another"], tiny_llm, READINGS["llmdiff"], tmp_path, silent)
    assert len(list(tmp_path.iterdir())) == 5
    terms_of(build_llama(seed=0), tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


def test_progress_is_told_from_0_up(tiny_llm, tmp_path):
    told: list[tuple[str, float]] = []
    texts = [f"caption {n}" for n in range(40)]
    BlockTerms.of(texts, tiny_llm, READINGS["llmdiff"], tmp_path, lambda stage, share: told.append((stage, share)))
    assert {stage for stage, _ in told} == {"Reading captions"}
    shares = [share for _, share in told]
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[-1] < 1


def test_a_place_that_cannot_be_written_is_told(tiny_llm, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LLMDiffError, match="The LLM's readings cannot be kept in"):
        terms_of(tiny_llm, tmp_path / "file")


class Gradients:
    """Twenty pictures of one tone each."""

    captions = ["x"] * 20

    def __len__(self) -> int:
        return 20

    def pixels(self, index: int) -> torch.Tensor:
        return torch.full((3, 16, 16), index / 10 - 1)


def test_latents_are_the_scaled_means_of_every_picture():
    data, vae = Gradients(), build_base().vae.eval()
    vae.register_to_config(scaling_factor=0.5, shift_factor=0.25)
    found = precompute.latents(vae, data, silent)
    assert found.shape == (20, 4, 8, 8)
    assert found.dtype == torch.float16
    for n in (0, 7, 19):
        with torch.no_grad():
            mean = vae.encode(data.pixels(n)[None]).latent_dist.mean[0]
        assert torch.allclose(found[n].float(), (mean - 0.25) * 0.5, atol=2e-3)


def test_a_full_disk_while_reading_is_told_and_leaves_no_file(tiny_llm, tmp_path, monkeypatch):
    def fill(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(precompute, "read_stack", fill)
    with pytest.raises(LLMDiffError, match="No space left"):
        precompute.BlockTerms.of(["a"], tiny_llm, ReadingConfig(), tmp_path, lambda *_: None)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
