"""Functions of torch, diffusers and transformers that import much to find out little, with shorter ways to the same.

Each gives what the original gives, and asks it wherever the answer is not plain.
"""

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial, wraps
from types import ModuleType
from typing import Any

from llmdiff.cli.deferred_imports import after_import, is_imported

_DYNAMO = "torch._dynamo"
_CLASSES = {"is_compiled_module": _DYNAMO, "has_compiled_regions": _DYNAMO}
_QUESTIONS = {
    "accelerate.utils.other": _CLASSES,
    "diffusers.utils.torch_utils": _CLASSES,
    "transformers.distributed.utils": {"is_dtensor": "torch.distributed.tensor"},
}
"""Functions that ask whether an object is of a class, by their module, and the module of that class: as long as that is
not imported, nothing is."""
_ACTIONS = {"diffusers.utils.peft_utils": {"scale_lora_layers": "peft", "unscale_lora_layers": "peft"}}
"""Functions that do something with the parts of a model that are of a class, likewise: in every step, of parts that no
model has."""
_WRAPPERS = ("peft", _DYNAMO)
"""Modules whose classes diffusers takes off a model, where it has one of them around it."""

_read_distributions = importlib.metadata.packages_distributions


def take_shortcuts() -> None:
    """Puts the shorter ways in place, of modules that are not imported yet as soon as they are."""
    for otherwise, functions in ((False, _QUESTIONS), (None, _ACTIONS)):
        for module, of in functions.items():
            after_import(module, partial(_shorten, of, otherwise))
    for module, name, make in _WAYS:
        after_import(module, partial(_exchange, name=name, make=make))


def _shorten(functions: Mapping[str, str], otherwise: bool | None, module: ModuleType) -> None:
    for name, needed in functions.items():
        _exchange(module, name, partial(_short, needed, otherwise))


def _exchange(module: ModuleType, name: str, make: Callable[[Any], Any]) -> None:
    """Puts what is made of a function in its place, where a module has it: versions differ."""
    if hasattr(module, name):
        setattr(module, name, make(getattr(module, name)))


def _short(needed: str, otherwise: bool | None, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def short(*args: Any, **options: Any) -> Any:
        return function(*args, **options) if is_imported(needed) else otherwise

    return short


def _unwrap_what_is_wrapped(unwrap: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @wraps(unwrap)
    def unwrapped(model: Any) -> Any:
        return unwrap(model) if any(map(is_imported, _WRAPPERS)) else model

    return unwrapped


def _disable_late(disable: Callable[..., Any]) -> Callable[..., Any]:
    """Has torch call what it keeps from its compiler without importing that, as long as nothing has been compiled."""

    def disable_late(function: Any = None, recursive: bool = True) -> Any:
        if function is None:
            return partial(disable_late, recursive=recursive)
        disabled = disable(function, recursive)

        @wraps(function)
        def late(*args: Any, **options: Any) -> Any:
            return (disabled if is_imported(_DYNAMO) else function)(*args, **options)

        return late

    return disable_late


def _pass_what_holds(check: Callable[..., None]) -> Callable[..., None]:
    """Asks no symbols, for which torch would import sympy, whether True is true."""

    @wraps(check)
    def passed(error_type: Any, cond: Any, message: Any) -> None:
        if cond is not True:
            check(error_type, cond, message)

    return passed


def _draw_nothing_on_meta(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Draws no random numbers for weights without memory, for which torch would import its reference in Python."""

    @wraps(draw)
    def drawn(tensor: Any, *args: Any, **options: Any) -> Any:
        return tensor if tensor.is_meta else draw(tensor, *args, **options)

    return drawn


def _order_plainly(order: Callable[..., Any]) -> Callable[..., Any]:
    """Says of one contiguous tensor that its dimensions lie in their order, without symbols, which import sympy.

    One of four dimensions may be in channels-last order as well.
    """
    import torch

    @wraps(order)
    def ordered(*tensors: Any, **options: Any) -> Any:
        plain = len(tensors) == 1 and type(tensors[0]) in (torch.Tensor, torch.nn.Parameter)
        if plain and tensors[0].layout == torch.strided and tensors[0].ndim != 4 and tensors[0].is_contiguous():
            return list(range(tensors[0].ndim)), False
        return order(*tensors, **options)

    return ordered


_WAYS: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("diffusers.pipelines.pipeline_loading_utils", "_unwrap_model", _unwrap_what_is_wrapped),
    ("torch", "_check_with", _pass_what_holds),
    ("torch._compile", "_disable_dynamo", _disable_late),
    ("torch.nn.init", "normal_", _draw_nothing_on_meta),
    ("torch._prims_common", "compute_elementwise_output_logical_to_physical_perm", _order_plainly),
)


class _Distributions(Mapping[str, list[str]]):
    """Which distribution a package is of, read from all that are installed when somebody asks."""

    @cached_property
    def _found(self) -> Mapping[str, list[str]]:
        return _read_distributions()

    def __getitem__(self, name: str) -> list[str]:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


@contextmanager
def distributions_read_late() -> Iterator[None]:
    """Within this context, modules that are imported read what is installed when they need it."""
    importlib.metadata.packages_distributions = _Distributions
    try:
        yield
    finally:
        importlib.metadata.packages_distributions = _read_distributions
