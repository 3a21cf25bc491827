"""Stored pictures as training reads them: decoded, cut, and without those that cannot be used."""

import warnings
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from llmdiff.content import Source, content_hashes
from llmdiff.data.captioned import Size, SizeConditioning
from llmdiff.data.config import DatasetData, FolderData, ShardData
from llmdiff.data.cropping import Cropping, cut, normalised
from llmdiff.data.decoding import decoded, unreadable, upright_size
from llmdiff.data.errors import Kind, PictureError, kind_of
from llmdiff.data.store import Store, counted, in_threads
from llmdiff.errors import LLMDiffError
from llmdiff.progress import Progress, silent

_AT_ONCE = 512  # pictures that are identified together


class Pictures:
    """The usable pictures of a store, `Captioned`.

    With `skip_bad`, all of them are decoded once at the start, so that what is trained on is known from then on and
    does not depend on where a run was interrupted. Without it a bad picture stops the run when it is read.

    Args:
        store: the encoded pictures.
        data: how they are cut, and how many may be bad.
        resolution: in pixels, where `data` says none.
        report: called with the progress of the first reading.

    Raises:
        PictureError: A row is bad, or a picture's header where buckets need its size.
        LLMDiffError: More are bad than may be, or none is good.
    """

    def __init__(
        self, store: Store, data: FolderData | DatasetData | ShardData, resolution: int, report: Progress
    ) -> None:
        self._store, self._report = store, report
        self._is_identified = False
        self._identified: dict[int, str] = {}  # by which a picture is known from then on
        if store.passed_over:
            said = f"Passed over in {data.path}: {counted(store.passed_over)}; `llmdiff data check` names them."
            warnings.warn(said, stacklevel=2)
        self._cropping = Cropping(data, resolution)
        faults = self._faults(data.skip_bad, report)
        self.skipped = tuple(str(fault) for fault in faults.values())
        self._numbers = [number for number in range(len(store.entries)) if number not in faults]
        self.captions = self.teacher_captions = [store.entries[number].captions for number in self._numbers]
        self.weights = [data.weight] * len(self._numbers)
        self._originals: dict[int, Size] = {}
        if len(self._cropping.sizes) > 1:
            sizes = in_threads(self._read_size, range(len(self)), "Measuring pictures", report)
            self._originals = dict(enumerate(sizes))

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_report": silent}  # what shows progress stays in its own process

    def __len__(self) -> int:
        return len(self._numbers)

    def size(self, index: int) -> Size:
        if len(self._cropping.sizes) == 1:
            return self._cropping.sizes[0]
        return self._cropping.size(self._originals[index])

    def size_conditioning(self, index: int) -> SizeConditioning:
        if index not in self._originals:
            self._originals[index] = self._read_size(index)
        return self._cropping.size_conditioning(self._originals[index])

    def identity(self, index: int) -> str:
        if not self._is_identified:  # many at once, which is quicker
            self._is_identified = True
            for start in range(0, len(self), _AT_ONCE):
                self._report("Identifying pictures", start / len(self))
                self._contents(range(start, min(start + _AT_ONCE, len(self))))
        found = self._contents([index])[0]
        self._identified.setdefault(index, found)
        return f"{found} {self.size(index)}"

    def pixels(self, index: int) -> Tensor:
        if index in self._identified and self._contents([index])[0] != self._identified[index]:
            name = self._store.entries[self._numbers[index]].name
            raise PictureError(Kind.CHANGED, f"The picture {name} has changed since the run began; put it back.")
        with decoded(self._store, self._numbers[index]) as picture:
            return normalised(cut(picture.image, self.size(index)))

    def _contents(self, indices: Sequence[int]) -> list[str]:
        """The hashes of encoded pictures; those that have not changed since they were hashed are not read."""
        numbers = [self._numbers[index] for index in indices]
        found: list[str] = []
        for number, digest in zip(numbers, content_hashes().of(list(map(self._source, numbers))), strict=True):
            if isinstance(digest, OSError):
                raise unreadable(kind_of(digest), self._store.entries[number].name, digest) from digest
            found.append(digest)
        return found

    def _source(self, number: int) -> Source:
        try:
            return self._store.source(number)
        except OSError as error:
            raise unreadable(kind_of(error), self._store.entries[number].name, error) from error

    def _read_size(self, index: int) -> Size:
        return upright_size(self._store, self._numbers[index])

    def _faults(self, allowed: int, report: Progress) -> dict[int, PictureError]:
        """The faults of pictures that are left out, by their numbers."""
        if not allowed:
            for entry in self._store.entries:
                if entry.fault:
                    raise entry.fault
            return {}
        numbers = range(len(self._store.entries))
        found = in_threads(lambda number: _fault(self._store, number), numbers, "Looking for bad pictures", report)
        faults: dict[int, PictureError] = {}
        for number, fault in enumerate(found):
            if fault:
                faults[number] = fault
                warnings.warn(f"Left out: {fault}", stacklevel=2)
            if len(faults) > allowed:
                raise LLMDiffError(
                    f"More than skip_bad = {allowed} pictures are bad, the last one: {str(fault).rstrip('.')}; "
                    "`llmdiff data check` lists them all."
                )
        if len(faults) == len(numbers):
            raise LLMDiffError(f"None of the {len(numbers)} pictures can be used; `llmdiff data check` says why.")
        if faults:
            warnings.warn(f"{len(faults)} of {len(numbers)} pictures are left out, {allowed} may be.", stacklevel=2)
        return faults


def _fault(store: Store, number: int) -> PictureError | None:
    try:
        with decoded(store, number):
            return None
    except PictureError as fault:
        return fault
