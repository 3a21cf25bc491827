"""A processor that counts what a GPU would have to be waited for."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_READS = ("aten._local_scalar_dense", "aten.nonzero", "aten.equal", "aten.masked_select", "aten.unique")
_INDEXING = ("aten.index.", "aten.index_put", "aten._unsafe_index")
_TO_HOST = ("cpu", "tolist", "numpy", "__array__")


class DeviceReads(TorchDispatchMode):
    """Within it, tensors count as a device's if they are marked, or made of one that is.

    Args:
        tensors: the device's, weights for instance.

    Attributes:
        found: what has read a value of the device's so far.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        self.found: list[str] = []
        self._storages: dict[int, Any] = {}  # held, so that none takes the place of another
        for tensor in tensors:
            self.mark(tensor)

    def mark(self, tensor: Tensor) -> Tensor:
        """The same tensor, which is the device's from here on."""
        storage = tensor.untyped_storage()
        self._storages[storage._cdata] = storage
        return tensor

    def has(self, tensor: object) -> bool:
        """Whether a tensor is the device's."""
        return isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata in self._storages

    def watch_host(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Has the ways to the host that torch does not dispatch be counted too."""
        for name in _TO_HOST:
            stock = getattr(Tensor, name)

            def read(tensor: Tensor, *args: Any, _stock: Any = stock, _name: str = name, **kwargs: Any) -> Any:
                if self.has(tensor):
                    self.found.append(_name)
                return _stock(tensor, *args, **kwargs)

            monkeypatch.setattr(Tensor, name, read)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        ours = any(self.has(one) for one in given)
        if ours and _reads(str(func), given):
            self.found.append(str(func))
        result = func(*args, **(kwargs or {}))
        if ours:
            for one in tree_leaves(result):
                if isinstance(one, Tensor):
                    self.mark(one)
        return result


def _reads(name: str, given: list[Tensor]) -> bool:
    """Whether an operator has to know values, not only shapes: one of a mask, of how many are true in it."""
    return name.startswith(_READS) or (name.startswith(_INDEXING) and any(one.dtype == torch.bool for one in given[1:]))
