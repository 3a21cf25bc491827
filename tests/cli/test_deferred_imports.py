"""Imports that are put off give what is asked of them, whoever asks, and whether that was foreseen or not."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from llmdiff.cli import deferred_imports
from llmdiff.cli.deferred_imports import Deferred, after_import, is_imported, late_packages, placeholders

HEAVY = """
class Thing:
    kind = "real"

class Other(Thing):
    pass

def make(number):
    return [Thing()] * number

STYLES = {"one": 1}
"""
USER = """
from heavy import Thing, make
import heavy.part as part

def is_thing(value: Thing | None) -> bool:
    return isinstance(value, Thing)
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A heavy package with two modules, and a module that uses it; what is put off is as it was afterwards."""
    folder = tmp_path / "heavy"
    folder.mkdir()
    (folder / "__init__.py").write_text(HEAVY)
    (folder / "part.py").write_text("VALUE = 7\n")
    (folder / "unforeseen.py").write_text("from heavy import Thing\nVALUE = 8\n")
    (tmp_path / "user.py").write_text(USER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(deferred_imports, "_FINDER", deferred_imports._Finder())
    before = set(sys.modules)
    finders = list(sys.meta_path)
    yield tmp_path
    sys.meta_path[:] = finders
    for name in set(sys.modules) - before:
        del sys.modules[name]


def names(*given: str) -> dict[str, Deferred]:
    return {name: Deferred("heavy", name) for name in given}


def user(*given: str, part: bool = True) -> ModuleType:
    """The module that uses the package, imported while that is put off."""
    put_off = {"heavy": names(*given)} | ({"heavy.part": {}} if part else {})
    with placeholders(put_off):
        return import_module("user")


def test_a_module_is_imported_without_what_it_names(packages: Path) -> None:
    module = user("Thing", "make")
    assert not is_imported("heavy")
    assert not {"heavy", "heavy.part"} & sys.modules.keys()
    assert not module.is_thing(3)
    assert not is_imported("heavy")


def test_what_is_called_is_imported_and_takes_its_place(packages: Path) -> None:
    module = user("Thing", "make")
    [thing] = module.make(1)
    assert is_imported("heavy")
    assert module.is_thing(thing)
    assert module.Thing is sys.modules["heavy"].Thing
    assert module.make is sys.modules["heavy"].make
    assert module.part.VALUE == 7


def test_whoever_imports_it_puts_the_real_things_in_place(packages: Path) -> None:
    module = user("Thing", "make")
    heavy = import_module("heavy")
    assert module.Thing is heavy.Thing
    assert heavy.__spec__ is not None
    assert heavy.__spec__.origin == str(packages / "heavy" / "__init__.py")


def test_a_name_that_was_not_foreseen_is_imported_at_once(packages: Path) -> None:
    module = user("Thing")
    assert is_imported("heavy")
    assert len(module.make(2)) == 2
    assert module.is_thing(module.make(1)[0])


@pytest.mark.parametrize("code", ["import heavy.unforeseen", "from heavy.unforeseen import VALUE"])
def test_a_module_that_was_not_foreseen_is_imported_at_once(packages: Path, code: str) -> None:
    (packages / "other.py").write_text(f"from heavy import Thing\n{code}\n")
    with placeholders({"heavy": names("Thing")}):
        import_module("other")
    assert sys.modules["heavy.unforeseen"].VALUE == 8
    assert sys.modules["heavy.unforeseen"].Thing is sys.modules["heavy"].Thing
    assert sys.modules["heavy"].unforeseen is sys.modules["heavy.unforeseen"]


def test_what_is_imported_already_is_not_put_off(packages: Path) -> None:
    heavy = import_module("heavy")
    assert user("Thing", "make").Thing is heavy.Thing


def test_a_deferred_class_is_as_good_as_the_class(packages: Path) -> None:
    deferred = Deferred("heavy", "Thing")
    assert not isinstance(3, deferred)
    assert not is_imported("heavy")
    assert deferred.kind == "real"
    heavy = import_module("heavy")
    assert isinstance(deferred(), heavy.Thing)
    assert isinstance(heavy.Other(), deferred)
    assert issubclass(heavy.Other, deferred)

    class Derived(deferred):
        pass

    assert Derived.__mro__[1] is heavy.Thing
    styles = Deferred("heavy", "STYLES")
    assert ("one" in styles, list(styles), styles["one"]) == (True, ["one"], 1)


def test_a_missing_name_is_missing(packages: Path) -> None:
    with placeholders({"heavy": {}}), pytest.raises(ImportError, match="nothing"):
        exec("from heavy import nothing")


def test_an_init_that_is_late_runs_when_it_is_asked(packages: Path) -> None:
    late_packages(["heavy"])
    part = import_module("heavy.part")
    heavy = sys.modules["heavy"]
    assert part.VALUE == 7
    assert "Thing" not in vars(heavy)
    assert heavy.part is part
    assert "Thing" not in vars(heavy)
    assert heavy.Thing.kind == "real"
    with pytest.raises(AttributeError, match="nothing"):
        _ = heavy.nothing


def test_a_late_package_may_put_another_module_in_its_place(packages: Path) -> None:
    swap = "import sys, types\nnew = types.ModuleType(__name__)\nnew.Thing = 5\nsys.modules[__name__] = new\n"
    (packages / "heavy" / "__init__.py").write_text(swap)
    late_packages(["heavy"])
    assert import_module("heavy").Thing == 5
    with pytest.raises(AttributeError):
        _ = import_module("heavy").nothing


def test_actions_are_taken_once_and_in_order_after_an_import(packages: Path) -> None:
    seen: list[str] = []
    after_import("heavy", lambda module: seen.append(f"first {module.Thing.kind}"))
    after_import("heavy", lambda module: seen.append("second"))
    assert seen == []
    import_module("heavy")
    import_module("heavy")
    assert seen == ["first real", "second"]
