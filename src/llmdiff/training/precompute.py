"""What the frozen models say of the data, computed once before training: latents and block terms.

Letters: B batch, S tokens, D LLM width, T blocks, N tokens of all captions together.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from llmdiff.errors import LLMDiffError
from llmdiff.files import written_whole
from llmdiff.language import LanguageModel, ReadingConfig, read_stack, tokenize
from llmdiff.progress import Progress
from llmdiff.training.data import Captioned

T = TypeVar("T")

_PICTURES = 16  # encoded at once
_TOKENS = 1024  # read by the LLM at once: enough for its products to be worth the way of its weights from memory


@torch.no_grad()
def latents(vae: Any, data: Captioned, report: Progress) -> Tensor:
    """Scaled latents of every picture, float16: (len(data), channels, height, width).

    Args:
        vae: An `AutoencoderKL` or `AutoencoderDC` in eval mode.
    """
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    batches = []
    for start in _tracked(range(0, len(data), _PICTURES), "Encoding pictures", report):
        x = torch.stack([data.pixels(i) for i in range(start, min(start + _PICTURES, len(data)))])
        encoded = vae.encode(x.to(vae.device, vae.dtype))
        mean = encoded.latent if hasattr(encoded, "latent") else encoded.latent_dist.mean
        batches.append(((mean - shift) * vae.config.scaling_factor).half().cpu())
    return torch.cat(batches)


class BlockTerms:
    """The LLM's block terms of every caption, unpadded in float16 files that are mapped into memory.

    A folder holds `start.npy` (N, D), `terms.npy` (N, T, D) and `index.json`, which is written last: where it is, the
    folder is whole. Its name is a hash of all that the terms depend on.
    """

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        self.where = {text: slice(begin, end) for text, (begin, end) in index["captions"].items()}
        self._start = np.load(folder / "start.npy", mmap_mode="r")
        self._terms = np.load(folder / "terms.npy", mmap_mode="r")

    @classmethod
    def of(
        cls, captions: Iterable[str], llm: LanguageModel, reading: ReadingConfig, parent: Path, report: Progress
    ) -> "BlockTerms":
        """The terms of all different captions, read from a folder of `parent` if they are there already.

        Raises:
            LLMDiffError: The files cannot be written.
        """
        texts = sorted(set(captions))
        folder = parent / _key(texts, llm, reading)
        try:
            if not (folder / "index.json").exists():
                _write(texts, llm, reading, folder, report)
            return cls(folder)
        except OSError as error:
            raise LLMDiffError(f"The LLM's readings cannot be kept in {folder} ({error}).") from error

    def batch(self, captions: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Start (B, S, D), stack (T, B, S, D) and mask (B, S) of captions, float32, padded with zeros."""
        places = [self.where[text] for text in captions]
        start = pad_sequence([_float(self._start[place]) for place in places], batch_first=True)
        terms = pad_sequence([_float(self._terms[place]) for place in places], batch_first=True)
        lengths = torch.tensor([place.stop - place.start for place in places])
        return start, terms.permute(2, 0, 1, 3), torch.arange(start.shape[1]) < lengths[:, None]


def _tracked(items: Sequence[T], title: str, report: Progress) -> Iterator[T]:
    for number, item in enumerate(items):
        report(title, number / len(items))
        yield item


def _batches(order: list[str], lengths: dict[str, int]) -> list[list[str]]:
    """Neighbours in an order from short to long, as many as make about `_TOKENS` tokens with their padding."""
    batches: list[list[str]] = [[]]
    for text in order:
        if batches[-1] and lengths[text] * (len(batches[-1]) + 1) > _TOKENS:
            batches.append([])
        batches[-1].append(text)
    return batches


def _float(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array)).float()


def _key(texts: list[str], llm: LanguageModel, reading: ReadingConfig) -> str:
    content = json.dumps([texts, llm.identity(), reading.model_dump()], sort_keys=True, default=str)
    return "terms-" + hashlib.sha256(content.encode()).hexdigest()[:16]


def _write(texts: list[str], llm: LanguageModel, reading: ReadingConfig, folder: Path, report: Progress) -> None:
    """Reads the captions in order of length, so that little is padded, and writes the index at the end."""
    lengths = {text: int(tokenize(llm, [text], reading).kept.sum()) for text in texts}
    order = sorted(texts, key=lambda text: (lengths[text], text))
    ends = np.cumsum([lengths[text] for text in order]).tolist()
    places = {text: (end - lengths[text], end) for text, end in zip(order, ends, strict=True)}
    with (
        _growing(folder / "start.npy", (ends[-1], llm.width)) as start,
        _growing(folder / "terms.npy", (ends[-1], llm.block_count, llm.width)) as terms,
    ):
        for batch in _tracked(_batches(order, lengths), "Reading captions", report):
            tokens = tokenize(llm, batch, reading)
            begin, stack = read_stack(llm, tokens, reading)
            mask = tokens.kept.cpu()
            start.write(begin.cpu()[mask].half().numpy().tobytes())
            terms.write(stack.cpu()[:, mask].transpose(0, 1).half().contiguous().numpy().tobytes())
    with written_whole(folder / "index.json") as draft:
        draft.write_text(json.dumps({"captions": places}))


@contextmanager
def _growing(path: Path, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """A float16 array file to which rows are written in order; written and not mapped, so that a full disk is told."""
    with written_whole(path) as draft, draft.open("wb") as file:
        header = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        yield file
