"""Several sources of captioned pictures as one."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain

from torch import Tensor

from llmdiff.data.captioned import Captioned, Size, SizeConditioning


class Mixed:
    """The pictures of several sources one after the other, `Captioned`; each keeps its source's weight."""

    def __init__(self, sources: Sequence[Captioned]) -> None:
        self._sources = sources
        self._ends = list(accumulate(len(source) for source in sources))
        self.captions = list(chain.from_iterable(source.captions for source in sources))
        self.teacher_captions = list(chain.from_iterable(source.teacher_captions for source in sources))
        self.weights = list(chain.from_iterable(source.weights for source in sources))
        self.skipped = list(chain.from_iterable(source.skipped for source in sources))

    def __len__(self) -> int:
        return self._ends[-1]

    def size(self, index: int) -> Size:
        source, own = self._at(index)
        return source.size(own)

    def size_conditioning(self, index: int) -> SizeConditioning:
        source, own = self._at(index)
        return source.size_conditioning(own)

    def identity(self, index: int) -> str:
        source, own = self._at(index)
        return source.identity(own)

    def pixels(self, index: int) -> Tensor:
        source, own = self._at(index)
        return source.pixels(own)

    def _at(self, index: int) -> tuple[Captioned, int]:
        """The source that has a picture, and the picture's number there."""
        place = bisect_right(self._ends, index)
        source = self._sources[place]
        return source, index - self._ends[place] + len(source)
