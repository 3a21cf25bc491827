"""Models no larger than their weight files: what a configuration declares is held to what the files' headers say.

diffusers and transformers build a model by its `config.json` before they read a weight, so a file of some bytes may ask
for terabytes, or for a million blocks. Within `held_to`, a model that is being built is looked at tensor by tensor.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as hooks

from llmdiff.errors import LLMDiffError
from llmdiff.headers import Header

_TIMES = 2  # weights that are tied stand in a file once
_PACKED = 32  # weights in a number of a file, of those that are stored in few bits
_MORE_TENSORS, _MORE_NUMBERS = 1000, 10_000_000  # of parts that files may lack, a head for instance
_MORE_IN_BUFFERS = 2**28  # which are made anew, and no file has
_MOST = {
    re.compile(r"(^|_)(layers?|depths?)(_|$)"): 10_000,  # the deepest models have some hundreds
    re.compile(r"(^|_)(sample|image|pos_embed_max)_size$"): 2**14,  # latents or pixels of a side, with positions each
}
"""The largest numbers in configurations, by their names, of what is made before a weight: lists and positions."""


@dataclass(frozen=True)
class Held:
    """What weight files hold.

    Attributes:
        tensors: their count.
        numbers: in all of them.
    """

    tensors: int
    numbers: int

    @classmethod
    def by(cls, headers: Iterable[Header]) -> "Held":
        """Adds up the headers of all files of a model."""
        shapes = [shape for header in headers for shape in header.shapes.values()]
        return cls(len(shapes), sum(map(prod, shapes)))


def check_config(what: str, config: Any) -> None:
    """Raises LLMDiffError if a configuration asks for lists or positions that no model has, whatever its weights are.

    Args:
        what: the model, at the beginning of the error.
        config: what stands in its file.
    """
    waiting = [("", config)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [(key, inner) for inner in value]
        elif isinstance(value, int | float) and any(value > most and at.search(key) for at, most in _MOST.items()):
            raise _refusal(what, f"{key} is {value:,}")


@contextmanager
def held_to(what: str, held: Callable[[], Held | None], *, packed: bool = False) -> Iterator[None]:
    """Within this context, a model that this thread builds may have no more than its weight files.

    Args:
        what: the model, at the beginning of the error.
        held: gives what its files hold, asked for when the first tensor is made; None where that is not known.
        packed: whether a number in a file may be several weights.

    Raises:
        LLMDiffError: it would have more, or more than there is memory for.
    """
    watch = _Watch(what, held, packed)
    registered = (
        hooks.register_module_parameter_registration_hook(watch.parameter),
        hooks.register_module_buffer_registration_hook(watch.buffer),
    )
    try:
        yield
    except (MemoryError, OverflowError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not re.search(r"alloc|overflow", str(error)):
            raise
        raise watch.refused("more than there is memory for") from error
    finally:
        for handle in registered:
            handle.remove()


class _Watch:
    """Counts what a thread registers in modules; what takes the place of a tensor is not counted again."""

    def __init__(self, what: str, held: Callable[[], Held | None], packed: bool) -> None:
        self._what, self._held, self._times = what, held, _PACKED if packed else _TIMES
        self._thread = threading.get_ident()
        self._most: Held | None = None
        self._asked = False
        self._parameters: dict[tuple[int, str], int] = {}
        self._buffers: dict[tuple[int, str], int] = {}
        self._numbers = self._in_buffers = 0

    def parameter(self, module: nn.Module, name: str, parameter: Tensor | None) -> None:
        if parameter is None or (most := self._limit()) is None:
            return
        self._numbers += _added(self._parameters, (id(module), name), parameter)
        if len(self._parameters) > self._times * most.tensors + _MORE_TENSORS:
            raise self.refused(f"its layers have more than the {most.tensors:,} tensors of its weight files")
        if self._numbers > self._times * most.numbers + _MORE_NUMBERS:
            shape = " x ".join(map(str, parameter.shape))
            raise self.refused(f"a {name} is {shape}, and its weight files hold {most.numbers:,} numbers in all")

    def buffer(self, module: nn.Module, name: str, buffer: Tensor | None) -> None:
        if buffer is None or (most := self._limit()) is None:
            return
        self._in_buffers += _added(self._buffers, (id(module), name), buffer)
        if self._in_buffers > most.numbers + _MORE_IN_BUFFERS:
            raise self.refused(f"its {name} has {buffer.numel():,} numbers")

    def refused(self, why: str) -> LLMDiffError:
        return _refusal(self._what, why)

    def _limit(self) -> Held | None:
        if threading.get_ident() != self._thread:
            return None
        if not self._asked:
            self._asked, self._most = True, self._held()
        return self._most


def _refusal(what: str, why: str) -> LLMDiffError:
    return LLMDiffError(
        f"{what} declares a larger model than its weight files hold ({why}): its config is damaged or of another "
        "model, so fetch it again."
    )


def _added(counted: dict[tuple[int, str], int], key: tuple[int, str], tensor: Tensor) -> int:
    more = tensor.numel() - counted.get(key, 0)
    counted[key] = tensor.numel()
    return more
