"""The LLM's block terms of the captions: kept on disk, or read when they are asked for.

What training needs of the LLM is the start and one term for each learned weight (docs/method.md section 2). The terms
of all blocks are T times as large as a last layer. An extraction whose weights are fixed needs only their sum, which is
one term; and blocks in a group that share a weight need only the sum of theirs.

Letters in shapes: B captions, S tokens, D LLM width, T blocks, G terms that are kept, N tokens of several captions.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor

from llmdiff.errors import LLMDiffError
from llmdiff.files import readable
from llmdiff.language import ExtractionConfig, LanguageModel, condense, extract_stack, term_count, tokenize
from llmdiff.precompute.keys import terms_folder
from llmdiff.precompute.store import Chunk, Store, check_room
from llmdiff.progress import Progress

_TOKENS = 1024  # read by the LLM at once: enough for its products to be worth the way of its weights from memory
_CHUNK = 2**27  # bytes of a file, about
_START, _TERMS = "start", "terms"
_BYTES = 2  # of a number

Batch = tuple[Tensor, Tensor, Tensor]


class Terms(Protocol):
    """The LLM's block terms of captions."""

    def batch(self, captions: Sequence[str], as_kept: bool = False) -> Batch:
        """Start (B, S, D), stack (G, B, S, D) and mask (B, S) of captions, with zeros at padding.

        Args:
            captions: B of them.
            as_kept: whether they may be in the dtype that they are kept in, which is less to move; else in float32.
        """
        ...


class LiveTerms:
    """Terms that the LLM is asked for in every step, for data whose terms no disk holds.

    Args:
        llm: the LLM.
        reading: how it is read.
    """

    def __init__(self, llm: LanguageModel, reading: ExtractionConfig) -> None:
        self.llm, self.reading = llm, reading
        self.count = term_count(reading, llm.block_count)

    def batch(self, captions: Sequence[str], as_kept: bool = False) -> Batch:
        """Start (B, S, D), stack (G, B, S, D) and mask (B, S) of captions, float32, with zeros at padding."""
        tokens = tokenize(self.llm, list(captions), self.reading)
        start, stack = extract_stack(self.llm, tokens, self.reading)
        return start, condense(stack, self.reading, self.count), tokens.kept


class BlockTerms:
    """Terms on disk in float16 and without padding, of every different caption once; the empty one is one of them."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    def of(
        cls,
        captions: Iterable[str],
        llm: LanguageModel,
        reading: ExtractionConfig,
        parent: Path,
        report: Progress,
        groups: int | None = None,
        check: bool = False,
    ) -> Self:
        """The terms of all captions, of which those are read now that no folder of `parent` holds yet.

        Args:
            captions: any number of times each.
            llm: the LLM.
            reading: how it is read.
            parent: of the folders of all LLMs and readings.
            report: called with the progress.
            groups: into how many groups of neighbours the blocks are summed; None keeps them apart.
            check: whether everything that is kept is hashed first.

        Raises:
            LLMDiffError: The files cannot be written, or there is no room for them.
        """
        count = term_count(reading, llm.block_count, groups)
        store = Store(parent / terms_folder(llm, reading, count))
        if check:
            store.check()
        missing = sorted(store.missing(captions))
        if missing:
            lengths = _lengths(missing, llm, reading)
            needed = term_bytes(sum(lengths.values()), count, llm.width)
            check_room(store.folder, needed, "LLM's terms of the captions")
            chunks = _split(missing, lengths, _CHUNK // term_bytes(1, count, llm.width))
            title = f"Reading captions, {readable(needed)}"
            compute = _reader(llm, reading, count, lengths)
            store.fill(chunks, compute, lambda done: report(title, done / len(chunks)))
        return cls(store)

    def batch(self, captions: Sequence[str], as_kept: bool = False) -> Batch:
        """Start (B, S, D), stack (G, B, S, D) and mask (B, S) of captions, with zeros at padding; see `Terms`.

        Raises:
            LLMDiffError: They are not what was written.
        """
        rows = [self.store.get(text) for text in captions]
        lengths = torch.tensor([len(one[_START]) for one in rows])
        dtype = torch.float16 if as_kept else torch.float32
        start, terms = (_padded([one[name] for one in rows], dtype) for name in (_START, _TERMS))
        return start, terms.permute(2, 0, 1, 3), torch.arange(start.shape[1]) < lengths[:, None]


def term_bytes(tokens: int, count: int, width: int) -> int:
    """The bytes that start and `count` terms of so many tokens take on disk."""
    return tokens * (count + 1) * width * _BYTES


def _padded(rows: list[Tensor], dtype: torch.dtype) -> Tensor:
    """Rows (S_i, ...) as one tensor (B, S, ...)."""
    padded = torch.empty(len(rows), max(map(len, rows)), *rows[0].shape[1:], dtype=dtype)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
        place[len(row) :] = 0
    return padded


def _lengths(texts: list[str], llm: LanguageModel, reading: ExtractionConfig, at_once: int = 256) -> dict[str, int]:
    """The number of tokens of each caption that are kept."""
    counts: list[int] = []
    for i in range(0, len(texts), at_once):
        counts += tokenize(llm, texts[i : i + at_once], reading).kept.sum(1).tolist()
    return dict(zip(texts, counts, strict=True))


def _split(texts: list[str], lengths: dict[str, int], tokens: int) -> list[list[str]]:
    """Captions from short to long, so that little is padded, in lists of about so many tokens.

    The list is cut alike whichever of its first parts are there already: so an interrupted reading goes on with the
    files that it would have written, and processes that read at the same time share the work.
    """
    parts: list[list[str]] = [[]]
    room = tokens
    for text in sorted(texts, key=lambda text: (lengths[text], text)):
        if parts[-1] and lengths[text] > room:
            parts.append([])
            room = tokens
        parts[-1].append(text)
        room -= lengths[text]
    return parts


def _batches(texts: Sequence[str], lengths: dict[str, int]) -> list[list[str]]:
    """Neighbours in an order from short to long, as many as make about `_TOKENS` tokens with their padding."""
    batches: list[list[str]] = [[]]
    for text in texts:
        if batches[-1] and lengths[text] * (len(batches[-1]) + 1) > _TOKENS:
            batches.append([])
        batches[-1].append(text)
    return batches


def _reader(
    llm: LanguageModel, reading: ExtractionConfig, count: int, lengths: dict[str, int]
) -> Callable[[Sequence[str]], Chunk]:
    """From captions to their start (N, D) and terms (N, G, D)."""

    def read(texts: Sequence[str]) -> Chunk:
        starts, terms = [], []
        for batch in _batches(texts, lengths):
            tokens = tokenize(llm, batch, reading)
            start, stack = extract_stack(llm, tokens, reading)
            mask = tokens.kept
            starts.append(_half(start[mask], llm))
            terms.append(_half(condense(stack, reading, count)[:, mask].transpose(0, 1), llm))
        return Chunk({_START: torch.cat(starts), _TERMS: torch.cat(terms)}, [lengths[text] for text in texts])

    return read


def _half(values: Tensor, llm: LanguageModel) -> Tensor:
    """The same in float16 on the CPU; raises LLMDiffError if one is too large for it."""
    half = values.half().cpu()
    if not half.isfinite().all():
        raise LLMDiffError(f"Terms of {llm.name} are too large for float16: set reading.normalise to rms.")
    return half
