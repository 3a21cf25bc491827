"""WebDataset shards: tar files in which members of one name belong together, `1.jpg` and `1.txt` say."""

import glob
import json
import re
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from llmdiff.content import Source, stamp
from llmdiff.data.errors import Kind, PictureError
from llmdiff.data.store import SUFFIXES, Entry, entry, lines_of
from llmdiff.errors import LLMDiffError

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_JSON_KEYS = ("text", "caption")
_LONGEST_TEXT = 10_000_000  # bytes: no caption is


class _Member(NamedTuple):
    shard: Path
    begin: int
    size: int


class Shards:
    """The pictures of tar files, found once and then read where they lie, in any order.

    The captions of `1.jpg` are in `1.txt`, one a line, or in `1.json` under "text" or "caption".

    Args:
        pattern: a tar file, a folder of them, or a pattern with *, ? and {0000..0099}.

    Raises:
        LLMDiffError: There is no such file, or there are no pictures.
    """

    def __init__(self, pattern: str) -> None:
        self._pictures: list[_Member] = []
        self.entries: list[Entry] = []
        for shard in _shards(pattern):
            self._read(shard)
        if not self.entries:
            raise LLMDiffError(f"The shards {pattern} have no pictures ({', '.join(sorted(SUFFIXES))}).")

    def open(self, index: int) -> BinaryIO:
        return BytesIO(_content(self._pictures[index]))

    def source(self, index: int) -> Source:
        shard, begin, size = self._pictures[index]
        return Source(f"{shard.absolute()} {begin} {size}", stamp(shard), lambda: self.open(index))

    def _read(self, shard: Path) -> None:
        """Adds the pictures of a shard, up to where it is damaged."""
        try:
            for members in _samples(shard):
                self._take(shard, members)
        except (OSError, tarfile.TarError) as error:
            sentence = f"The shard {shard} cannot be read ({error}); it must be a whole tar file, uncompressed."
            self._pictures.append(_Member(shard, 0, 0))
            self.entries.append(Entry(str(shard), fault=PictureError(Kind.SHARD, sentence)))

    def _take(self, shard: Path, members: dict[str, tarfile.TarInfo]) -> None:
        """Adds the picture of a sample, if it has one."""
        picture = next((member for suffix, member in members.items() if suffix in SUFFIXES), None)
        if picture is None:
            return
        self._pictures.append(_member(shard, picture))
        self.entries.append(_entry(shard, picture.name, members))


def _shards(pattern: str) -> list[Path]:
    """The tar files that a pattern names, in the order of their names."""
    place = Path(pattern)
    if place.is_dir():
        found = sorted(place.glob("*.tar"))
    elif place.is_file():
        found = [place]
    else:
        found = [Path(name) for one in _spelled_out(pattern) for name in sorted(glob.glob(one))]  # noqa: PTH207 - of any root
    if not found:
        raise LLMDiffError(f"No shard matches {pattern}: give a tar file, a folder of them, or a pattern in data.path.")
    return found


def _spelled_out(pattern: str) -> Iterator[str]:
    """All names of a pattern with number ranges: {08..10} is 08, 09, 10."""
    found = _RANGE.search(pattern)
    if found is None:
        yield pattern
        return
    first, last = found.groups()
    for number in range(int(first), int(last) + 1):
        yield from _spelled_out(f"{pattern[: found.start()]}{number:0{len(first)}d}{pattern[found.end() :]}")


def _samples(shard: Path) -> Iterator[dict[str, tarfile.TarInfo]]:
    """Members that belong together, which stand one after the other, by their suffixes."""
    with tarfile.open(shard, "r:") as file:
        name, members = "", dict[str, tarfile.TarInfo]()
        for member in file:
            base, suffix = _split(member.name)
            if base != name and members:
                yield members
                members = {}
            name = base
            if member.isfile():
                members[suffix] = member
        if members:
            yield members
        _check_end(file)


def _check_end(file: tarfile.TarFile) -> None:
    """Raises ReadError unless what follows the last member is nothing: to tarfile damage is the end, too."""
    with Path(str(file.name)).open("rb") as raw:
        raw.seek(file.offset)
        if raw.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError("damaged or cut off")


def _split(name: str) -> tuple[str, str]:
    """The part that members of one sample share, up to the first dot of the file's name, and the suffix."""
    folder, slash, file = name.rpartition("/")
    base, dot, suffix = file.partition(".")
    return folder + slash + base, (dot + suffix).lower()


def _member(shard: Path, member: tarfile.TarInfo) -> _Member:
    return _Member(shard, member.offset_data, member.size)


def _content(member: _Member) -> bytes:
    with member.shard.open("rb") as file:
        file.seek(member.begin)
        return file.read(member.size)


def _entry(shard: Path, picture: str, members: dict[str, tarfile.TarInfo]) -> Entry:
    """The captions from the text file, else from the JSON."""
    name = f"{shard}: {picture}"
    source = members.get(".txt") or members.get(".json")
    if source is None:
        return entry(name, None, str(shard))
    try:
        text = _content(_member(shard, source))[:_LONGEST_TEXT].decode("utf-8-sig")
        texts = lines_of(text) if source is members.get(".txt") else _from_json(text)
    except (ValueError, RecursionError) as error:
        sentence = f"{shard}: the caption {source.name} cannot be read ({error}); mend it or remove its picture."
        return Entry(name, fault=PictureError(Kind.ROW, sentence))
    return entry(name, texts, str(shard))


def _from_json(text: str) -> object:
    row = json.loads(text)
    return next((row[key] for key in _JSON_KEYS if key in row), None) if isinstance(row, dict) else None
