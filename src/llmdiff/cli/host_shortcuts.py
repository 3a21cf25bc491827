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

_QUESTIONS = {
    "accelerate.utils.other": {"is_compiled_module": "torch._dynamo", "has_compiled_regions": "torch._dynamo"},
    "diffusers.utils.torch_utils": {"is_compiled_module": "torch._dynamo"},
    "transformers.distributed.utils": {"is_dtensor": "torch.distributed.tensor"},
}
"""Functions that ask whether an object is of a class, by their module, and the module of that class: as long as that is
not imported, nothing is."""
_WRAPPERS = ("peft", "torch._dynamo")
"""Modules whose classes diffusers takes off a model, where it has one of them around it."""

_read_distributions = importlib.metadata.packages_distributions


def take_shortcuts() -> None:
    """Puts the shorter ways in place, of modules that are not imported yet as soon as they are."""
    for module, questions in _QUESTIONS.items():
        after_import(module, partial(_answer, questions))
    after_import("diffusers.pipelines.pipeline_loading_utils", _unwrap_what_is_wrapped)
    _draw_nothing_for_meta_tensors()
    _pass_conditions_that_hold()


def _answer(questions: Mapping[str, str], module: ModuleType) -> None:
    for name, needed in questions.items():
        if hasattr(module, name):
            setattr(module, name, _answered(getattr(module, name), needed))


def _answered(ask: Callable[[Any], bool], needed: str) -> Callable[[Any], bool]:
    @wraps(ask)
    def answered(one: Any) -> bool:
        return is_imported(needed) and ask(one)

    return answered


def _unwrap_what_is_wrapped(module: Any) -> None:
    unwrap = module._unwrap_model

    @wraps(unwrap)
    def unwrapped(model: Any) -> Any:
        return unwrap(model) if any(map(is_imported, _WRAPPERS)) else model

    module._unwrap_model = unwrapped


def _draw_nothing_for_meta_tensors() -> None:
    """Leaves tensors alone that have no numbers, for which torch would import torch._dynamo to draw none."""
    from torch.nn import init

    draw = init.normal_

    @wraps(draw)
    def normal_(tensor: Any, *args: Any, **options: Any) -> Any:
        return tensor if tensor.is_meta else draw(tensor, *args, **options)

    init.normal_ = normal_


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
