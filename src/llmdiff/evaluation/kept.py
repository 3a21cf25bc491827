"""Scores of an evaluation, kept on disk as they come, so that one that was interrupted goes on where it was."""

import json
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmdiff.files import open_regular
from llmdiff.hashing import json_hash

_LARGEST = 100_000_000  # bytes of a file


class KeptScores:
    """The scores of one evaluation, by model and number of the picture.

    A line of the file is one score and a checksum; a line that is damaged or cut off counts as none. Where nothing can
    be written nothing is kept, and the evaluation goes on all the same.

    Args:
        folder: that of all such files; None keeps nothing.
        of: all that the scores depend on, which gives the file its name.
    """

    def __init__(self, folder: Path | None, of: Mapping[str, Any]) -> None:
        self._file = None if folder is None else folder / f"{json_hash(of)[:32]}.scores"
        self._scores: dict[tuple[str, int], list[Any]] = {}
        if self._file is not None:
            with suppress(OSError), open_regular(self._file, size=_LARGEST) as file:
                self._scores = {key: score for line in file for key, score in _parsed(line)}

    def of_model(self, model: str) -> list[list[Any]]:
        """The scores of a model, from its first picture to the last before one without a score."""
        found: list[list[Any]] = []
        while (score := self._scores.get((model, len(found)))) is not None:
            found.append(score)
        return found

    def add(self, model: str, first: int, scores: Sequence[Sequence[Any]]) -> None:
        """Keeps scores, each a list of plain values, of pictures from a number on."""
        if self._file is None:
            return
        lines = "".join(_line(model, first + number, score) for number, score in enumerate(scores))
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(lines)

    def forget(self) -> None:
        """Removes the file: the evaluation has come to its end."""
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)


def _line(model: str, number: int, score: Sequence[Any]) -> str:
    """On a line of its own, whatever stands before it."""
    text = json.dumps([model, number, list(score)])
    return f"\n{zlib.crc32(text.encode()):08x} {text}\n"


def _parsed(line: bytes) -> list[tuple[tuple[str, int], list[Any]]]:
    checksum, _, text = line.strip().partition(b" ")
    if checksum != f"{zlib.crc32(text):08x}".encode():
        return []
    model, number, score = json.loads(text)
    return [((model, number), score)]
