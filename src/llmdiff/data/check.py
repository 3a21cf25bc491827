"""A check that reads everything in a recipe's data once: bad pictures, unusual ones, and sizes to train on."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from llmdiff.data.captioned import Captioned, Size
from llmdiff.data.config import Data, DatasetData, DrawnData, FolderData, MixedData, ShardData
from llmdiff.data.cropping import Cropping
from llmdiff.data.decoding import decoded, strips
from llmdiff.data.errors import WHAT_IS_DONE, WHY_PASSED_OVER, Kind, PassedOver, PictureError
from llmdiff.data.factory import captioned, store_of
from llmdiff.data.listing import LISTS, is_list
from llmdiff.data.store import Store, in_threads
from llmdiff.files import is_there
from llmdiff.progress import Progress, silent


@dataclass(frozen=True)
class Finding:
    """Something about one picture or row; what is not bad is trained on."""

    name: str
    kind: str
    bad: bool
    detail: str


@dataclass
class Report:
    """The contents of a data set.

    Attributes:
        pictures: rows, also bad ones.
        captions: of usable pictures.
        sizes: how many usable pictures are trained at each (height, width).
        findings: in the order of the pictures.
        passed_over: what is there and no part of the data.
    """

    pictures: int = 0
    captions: int = 0
    sizes: Counter[Size] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)

    @property
    def bad(self) -> int:
        """The number of pictures or rows that cannot be used."""
        return sum(finding.bad for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        sizes = [{"height": h, "width": w, "pictures": count} for (h, w), count in sorted(self.sizes.items())]
        findings = [asdict(finding) for finding in self.findings]
        counts = {"pictures": self.pictures, "bad": self.bad, "captions": self.captions}
        passed_over = [{"name": name, "kind": kind, "why": WHY_PASSED_OVER[kind]} for name, kind in self.passed_over]
        return counts | {"sizes": sizes, "findings": findings, "passed_over": passed_over}


class _Seen(NamedTuple):
    """The result of decoding a picture: its fault, or the rest."""

    fault: PictureError | None
    notes: tuple[Kind, ...] = ()
    original: Size = (0, 0)
    digest: bytes = b""


def check(data: Data, resolution: int, report: Progress = silent) -> Report:
    """Decodes every picture of all sources.

    Args:
        data: one source, or several.
        resolution: in pixels, of sources that say none.
        report: called with the progress.

    Raises:
        LLMDiffError: A source as a whole cannot be found or read.
    """
    found = Report()
    first: dict[bytes, str] = {}
    for source in data.sources if isinstance(data, MixedData) else [data]:
        if isinstance(source, DrawnData):
            _add_drawn(found, captioned(source, resolution))
        else:
            _add_stored(found, store_of(source, report), Cropping(source, resolution), first, report)
    return found


def data_at(path: str) -> FolderData | DatasetData | ShardData | None:
    """The source at a path, by what is there; None where nothing tells."""
    place = Path(path)
    if place.suffix == ".tar":
        return ShardData(kind="webdataset", path=path)
    if place.suffix == ".parquet":
        return DatasetData(kind="dataset", path=path)
    if not is_there(place) or not place.is_dir():
        return None
    if not any((place / name).exists() and is_list(place / name) for name in LISTS):
        if any(place.glob("*.tar")):
            return ShardData(kind="webdataset", path=path)
        if any(place.rglob("*.parquet")):
            return DatasetData(kind="dataset", path=path)
    return FolderData(kind="folder", path=place)


def needs_resolution(data: Data) -> bool:
    """True if some source leaves the resolution to the base model."""
    sources = data.sources if isinstance(data, MixedData) else [data]
    return any(not isinstance(source, DrawnData) and source.resolution is None for source in sources)


def _add_drawn(found: Report, scenes: Captioned) -> None:
    found.pictures += len(scenes)
    found.captions += len(scenes)
    found.sizes.update(scenes.size(i) for i in range(len(scenes)))


def _add_stored(found: Report, store: Store, cropping: Cropping, first: dict[bytes, str], report: Progress) -> None:
    """Adds a store's pictures; `first` has the name of the first picture of each content."""
    found.passed_over.extend(store.passed_over)
    listed: set[str] = set()
    numbers = range(len(store.entries))
    for number, seen in enumerate(in_threads(partial(_look, store), numbers, "Reading pictures", report)):
        found.pictures += 1
        name = store.entries[number].name
        if seen.fault:
            found.findings.append(Finding(name, seen.fault.kind, True, str(seen.fault)))
            continue
        found.captions += len(store.entries[number].captions)
        found.sizes[cropping.size(seen.original)] += 1
        found.findings.extend(_notes(name, seen, first, name in listed))
        listed.add(name)


def _notes(name: str, seen: _Seen, first: dict[bytes, str], again: bool) -> Iterable[Finding]:
    for kind in seen.notes:
        yield Finding(name, kind, False, WHAT_IS_DONE[kind])
    if (other := first.setdefault(seen.digest, name)) != name or again:
        yield Finding(name, Kind.DUPLICATE, False, f"the same picture as {other}")


def _look(store: Store, number: int) -> _Seen:
    try:
        with decoded(store, number) as picture:
            return _Seen(None, (*store.entries[number].notes, *picture.notes), picture.original, _digest(picture.image))
    except PictureError as fault:
        return _Seen(fault)


def _digest(image: Image.Image) -> bytes:
    """A hash of the pixels, of which a strip at a time is copied."""
    content = hashlib.sha256(repr(image.size).encode())
    for strip in strips(image):
        content.update(image.crop(strip).tobytes())
    return content.digest()
