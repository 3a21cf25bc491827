"""Imports that are put off until something asks for what they bring, while other code is imported that names them.

Three ways, by how a library names another at the head of a module. Whatever none of them foresees is imported there
and then, as without them: they save time, and decide nothing.
"""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_LOCK = threading.RLock()


class Deferred:
    """A name of a module that is not imported yet, for ``from module import name``.

    Nothing is an instance of it, since nobody can have made one. To call it, to ask it for something or to derive a
    class from it imports the module. Once the module is imported, by whomever, the modules that hold a `Deferred` of it
    hold the real thing in its place.

    Example:
        >>> Deferred("fractions", "Fraction")(1, 2)
        Fraction(1, 2)
    """

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def real(self) -> Any:
        """What it is a name of."""
        _remove_placeholders()
        return getattr(import_module(self._module), self._name)

    def __instancecheck__(self, instance: object) -> bool:
        return is_imported(self._module) and isinstance(instance, self.real())

    def __subclasscheck__(self, subclass: type) -> bool:
        return is_imported(self._module) and issubclass(subclass, self.real())

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.real()(*args, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # which inspection asks of everything
            raise AttributeError(name)
        return getattr(self.real(), name)

    def __contains__(self, item: object) -> bool:
        return item in self.real()

    def __getitem__(self, key: Any) -> Any:
        return self.real()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.real())

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self.real(),)

    def __or__(self, other: Any) -> Any:  # in annotations, which nobody evaluates again
        return Any

    __ror__ = __or__


class _Placeholder(ModuleType):
    """In the place of a module while others are imported that take names from it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _remove_placeholders()
        return getattr(import_module(self.__name__), name)


@contextmanager
def placeholders(given: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Within this context, modules that are imported get names of others without these being imported.

    Args:
        given: of each module that is put off, the names that it gives and what for. Where a name that is not among them
            is asked for, all modules are imported for real from then on.
    """
    _install()
    put_off = {name: names for name, names in given.items() if name not in sys.modules}
    for name, names in sorted(put_off.items()):  # parents first
        module = _Placeholder(name)
        module.__path__ = []
        module.__spec__ = ModuleSpec(name, None, is_package=True)
        module.__dict__.update(names)
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent in put_off:
            sys.modules[parent].__dict__[child] = module
    try:
        yield
    finally:
        _remove_placeholders()
        for name in put_off:
            after_import(name, _settle)


def _remove_placeholders() -> None:
    for name in [name for name, module in sys.modules.items() if type(module) is _Placeholder]:
        del sys.modules[name]


def is_imported(module: str) -> bool:
    """Whether a module is imported, and no placeholder in its place."""
    return type(sys.modules.get(module, None)) not in (type(None), _Placeholder)


def _settle(module: ModuleType) -> None:
    """Puts the real things in the place of the `Deferred` names of a module that has been imported."""
    for holder in list(sys.modules.values()):
        for name, value in list(getattr(holder, "__dict__", {}).items()):
            if type(value) is Deferred and value._module == module.__name__ and value._name in vars(module):
                setattr(holder, name, value.real())


class _LatePackage(ModuleType):
    """A package whose ``__init__`` runs when it is first asked for a name; its modules can be imported before that."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        with _LOCK:
            if "_late_loader" in self.__dict__:
                self.__dict__.pop("_late_loader").exec_module(self)
        now = sys.modules[self.__name__]  # which may be another one: packages put lazy ones of their own in their place
        if now is self and name not in self.__dict__:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(now, name)


class _LateLoader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        module.__class__ = _LatePackage
        module.__dict__["_late_loader"] = self._loader


class _WatchedLoader(Loader):
    def __init__(self, loader: Loader, actions: Sequence[Callable[[ModuleType], object]]) -> None:
        self._loader, self._actions = loader, actions

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        for act in self._actions:
            act(module)


class _ReadyLoader(Loader):
    """Of a module that has been imported while it was looked for."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


class _Finder(MetaPathFinder):
    """Finds what Python would find, and exchanges the loader of some modules.

    Attributes:
        late: packages whose ``__init__`` is to run later.
        actions: what is to be done once a module is imported.
    """

    def __init__(self) -> None:
        self.late: set[str] = set()
        self.actions: dict[str, list[Callable[[ModuleType], object]]] = {}

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        parent = name.rpartition(".")[0]
        if type(sys.modules.get(parent)) is _Placeholder:  # and this module of it was not foreseen
            _remove_placeholders()
            path = import_module(parent).__path__
            if name in sys.modules:
                return ModuleSpec(name, _ReadyLoader(sys.modules[name]))
        elif name not in self.late and name not in self.actions:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        if name in self.late:
            spec.loader = _LateLoader(spec.loader)
        if name in self.actions:
            spec.loader = _WatchedLoader(spec.loader, self.actions[name])
        return spec


_FINDER = _Finder()


def late_packages(names: Iterable[str]) -> None:
    """Has the ``__init__`` of packages that only imports their modules run when something is asked of it."""
    _install()
    _FINDER.late.update(name for name in names if name not in sys.modules)


def after_import(name: str, act: Callable[[ModuleType], object]) -> None:
    """Has something done with a module once it is imported."""
    _install()
    _FINDER.actions.setdefault(name, []).append(act)


def _install() -> None:
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
