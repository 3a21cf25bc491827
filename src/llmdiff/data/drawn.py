"""What drawn scenes have in common as training data, whatever is drawn."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType

from torch import Tensor

from llmdiff.data.captioned import Size, SizeConditioning
from llmdiff.data.config import DrawnData
from llmdiff.hashing import text_hash
from llmdiff.scenes.facts import Fact


@dataclass(frozen=True)
class Written:
    """A caption, what it states, and the same in words that the base model knows."""

    text: str
    facts: tuple[Fact, ...]
    plain: str


class Drawn(ABC):
    """Drawn scenes; everything about sample n is a function of (seed, n).

    Caption k belongs to samples k, k + captions, k + 2 · captions …, whose pictures differ in what it leaves open.

    Args:
        data: captions, pictures of each, seed.
        written: the captions.
        side: of the pictures, in pixels.
        code: a hash of the code that draws them.
    """

    def __init__(self, data: DrawnData, written: Iterable[Written], side: int, code: str) -> None:
        self._drawn, self._code, self._size = data, code, (side, side)
        captions = list(written)
        self._facts = [one.facts for one in captions]
        self.captions: Sequence[tuple[str, ...]] = [(one.text,) for one in captions] * data.pictures
        self.teacher_captions: Sequence[tuple[str, ...]] = [(one.plain,) for one in captions] * data.pictures
        self.weights: Sequence[float] = [data.weight] * len(self.captions)
        self.skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.captions)

    def size(self, index: int) -> Size:
        return self._size

    def size_conditioning(self, index: int) -> SizeConditioning:
        return SizeConditioning(self._size, (0, 0), self._size)

    def facts(self, index: int) -> tuple[Fact, ...]:
        """What picture number `index` shows, as its caption states it."""
        return self._facts[index % self._drawn.captions]

    @abstractmethod
    def pixels(self, index: int) -> Tensor:
        """Picture number `index`: float (3, side, side) in -1..1."""

    def identity(self, index: int) -> str:
        """The facts that are drawn, and a hash of the code that draws them."""
        return f"{self._code} {self._drawn.seed} {index} {self.facts(index)}"


def code_hash(*modules: ModuleType) -> str:
    """A hash of the source of modules."""
    return text_hash("".join(inspect.getsource(module) for module in modules))[:16]
