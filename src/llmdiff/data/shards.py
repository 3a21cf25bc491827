"""WebDataset shards: tar files in which members of one name belong together, `1.jpg` and `1.txt` say."""

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from llmdiff.content import Source, stamp
from llmdiff.data.captions import entry_of
from llmdiff.data.config import CaptionPer
from llmdiff.data.errors import Kind, PassedOver, PictureError
from llmdiff.data.samples import Sample, samples_of
from llmdiff.data.store import SUFFIXES, Entry, entry
from llmdiff.data.tar import FAULTS, Member, members_of, opened
from llmdiff.data.tree import special_kind
from llmdiff.errors import LLMDiffError
from llmdiff.files import is_there, why_not

_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
_MOST_NAMES = 1_000_000  # that the ranges of a pattern spell out


class Shards:
    """The pictures of tar files, found once and then read where they lie, in any order.

    The captions of `1.jpg` are in `1.txt` or `1.caption`, one a line, or in `1.json` under "text" or "caption".

    Args:
        pattern: a tar file, a folder of them, or a pattern with *, ? and {0000..0099}.
        caption_per: what is one caption, a line of a text or all of it.

    Raises:
        LLMDiffError: There is no such file, or there are no pictures.
    """

    def __init__(self, pattern: str, caption_per: CaptionPer = "line") -> None:
        self._caption_per = caption_per
        self._pictures: list[Member] = []
        self.entries: list[Entry] = []
        self.passed_over: list[PassedOver] = []
        for name, shards in _shards(pattern).items():
            for shard in shards:
                self._read(shard)
            if not shards:
                self.passed_over.append(PassedOver(name, Kind.ABSENT))
        if os.path.isdir(pattern):  # noqa: PTH112 - never raises
            self.passed_over += _beside_shards(Path(pattern))
        if not self.entries:
            raise LLMDiffError(f"The shards {pattern} have no pictures ({', '.join(sorted(SUFFIXES))}).")

    def open(self, index: int) -> BinaryIO:
        return opened(self._pictures[index])

    def source(self, index: int) -> Source:
        picture = self._pictures[index]
        place = f"{picture.shard.absolute()} {picture.begin} {picture.size}"
        return Source(place, stamp(picture.shard), lambda: self.open(index))

    def _read(self, shard: Path) -> None:
        """Adds the pictures of a shard, up to where it is damaged."""
        members: list[Member] = []
        fault = None
        try:
            for member in members_of(shard):
                members.append(member)  # one by one: those before the damage are kept
        except FAULTS as error:
            fault = _fault(shard, error)
        for one in samples_of(members):
            if isinstance(one, PassedOver):
                self.passed_over.append(one)
            else:
                self._add(one.picture, self._entry(one))
        if fault:
            self._add(Member(shard, 0, 0, "", False), Entry(str(shard), fault=fault))

    def _add(self, picture: Member, found: Entry) -> None:
        self._pictures.append(picture)
        self.entries.append(found)

    def _entry(self, sample: Sample) -> Entry:
        picture, captions = sample
        name = f"{picture.shard}: {picture.name}"
        if captions is None:
            return entry(name, None, str(picture.shard))
        return entry_of(name, lambda: opened(captions), f"{captions.shard}: {captions.name}", self._caption_per)


def _fault(shard: Path, error: Exception) -> PictureError:
    if isinstance(error, PermissionError):
        return PictureError(Kind.PERMISSION, f"The shard {shard} cannot be read (no permission); allow it.")
    why = why_not(error) if isinstance(error, OSError) else " ".join(str(error).split()) or type(error).__name__
    return PictureError(
        Kind.SHARD, f"The shard {shard} cannot be read ({why[:200]}); it must be a whole tar file, uncompressed."
    )


def _shards(pattern: str) -> dict[str, list[Path]]:
    """The tar files that a pattern names, in the order of their names, for each name that its ranges spell out."""
    place = Path(pattern)
    if is_there(place):
        matches = {pattern: [one for one in _listed(place) if _is_shard(one)] if place.is_dir() else [place]}
    else:
        matches = {one: _matches(one) for one in _spelled_out(pattern)}
    if not any(matches.values()):
        _listed(place.parent)
        raise LLMDiffError(f"No shard matches {pattern}: give a tar file, a folder of them, or a pattern in data.path.")
    return matches


def _is_shard(file: Path) -> bool:
    return file.suffix == ".tar" and special_kind(file.name) is None


def _matches(name: str) -> list[Path]:
    """The files of a name with * and ?, or of one that is as it stands."""
    return [Path(name)] if os.path.lexists(name) else [Path(one) for one in sorted(glob.glob(name))]  # noqa: PTH207 - of any root


def _listed(folder: Path) -> list[Path]:
    """All that is in a folder, where it is one and may be looked into."""
    try:
        return sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise LLMDiffError(f"The folder {folder} cannot be read ({why_not(error)}); allow it.") from error


def _spelled_out(pattern: str) -> list[str]:
    """All names of a pattern with number ranges: {08..10} is 08, 09, 10."""
    names = [pattern]
    while names and (found := _RANGE.search(names[0])):
        first, last = found.groups()
        numbers = range(int(first), int(last) + 1)
        if len(names) * len(numbers) > _MOST_NAMES:
            raise LLMDiffError(f"The pattern {pattern} in data.path stands for more than {_MOST_NAMES:,} shards.")
        spelled = [f"{number:0{len(first)}d}" for number in numbers]
        names = [name.replace(found[0], number, 1) for name in names for number in spelled]
    return names


def _beside_shards(folder: Path) -> Iterator[PassedOver]:
    for path in _listed(folder):
        if not _is_shard(path):
            kind = special_kind(path.name) or (Kind.FOLDER if path.is_dir() else Kind.UNKNOWN)
            yield PassedOver(str(path), kind)
