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
    after_import("diffusers.pipelines.pipeline_loading_utils", _unwrap_what_is_wrapped)
    after_import("torch._compile", _disable_late)
    _pass_conditions_that_hold()


def _shorten(functions: Mapping[str, str], otherwise: bool | None, module: ModuleType) -> None:
    for name, needed in functions.items():
        if hasattr(module, name):
            setattr(module, name, _short(getattr(module, name), needed, otherwise))


def _short(function: Callable[..., Any], needed: str, otherwise: bool | None) -> Callable[..., Any]:
    @wraps(function)
    def short(*args: Any, **options: Any) -> Any:
        return function(*args, **options) if is_imported(needed) else otherwise

    return short


def _unwrap_what_is_wrapped(module: Any) -> None:
    unwrap = module._unwrap_model

    @wraps(unwrap)
    def unwrapped(model: Any) -> Any:
        return unwrap(model) if any(map(is_imported, _WRAPPERS)) else model

    module._unwrap_model = unwrapped


def _disable_late(module: Any) -> None:
    """Has torch call what it keeps from its compiler without importing that, as long as nothing has been compiled."""
    disable = module._disable_dynamo

    def disable_late(function: Any = None, recursive: bool = True) -> Any:
        if function is None:
            return partial(disable_late, recursive=recursive)
        disabled = disable(function, recursive)

        @wraps(function)
        def late(*args: Any, **options: Any) -> Any:
            return (disabled if is_imported(_DYNAMO) else function)(*args, **options)

        return late

    module._disable_dynamo = disable_late


def _pass_conditions_that_hold() -> None:
    """Asks no symbols, for which torch would import sympy, whether True is true."""
    import torch

    check = torch._check_with

    @wraps(check)
    def check_with(error_type: Any, cond: Any, message: Any) -> None:
        if cond is not True:
            check(error_type, cond, message)

    torch._check_with = check_with


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
