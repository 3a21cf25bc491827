"""The structure of the package: its imports, its proportions, its words.

Imports are read from the source, so that no order of importing can hide a circle. ``from package import name`` counts
as an import of the module ``package.name`` where there is one, and of ``package`` elsewhere. What stands under
``TYPE_CHECKING`` is never run and does not count.
"""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import llmdiff

ROOT = Path(llmdiff.__file__).parent
OLD_WORDS = re.compile(r"(?:^|_)(?:asleep|told|heard)(?:_|$)|stand_?in|StandIn|^_?bind$")
DEFERRED = ("llmdiff.embedded.llm", "llmdiff.language.gguf")
"""The one import that goes up, when a language model that was fetched as GGUF is converted, once."""
Graph = dict[str, set[str]]


def name_of(path: Path) -> str:
    parts = ("llmdiff", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(part for part in parts if part != "__init__")


SOURCES = {name_of(path): path.read_text(encoding="utf-8") for path in sorted(ROOT.rglob("*.py"))}
PACKAGES = {name for name in SOURCES if (ROOT / name.removeprefix("llmdiff.") / "__init__.py").is_file()}


def is_for_types_alone(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(tree: ast.AST, *, in_functions: bool) -> Iterator[ast.AST]:
    """The imports that are run when a module is imported or, if asked for, when a function of it is called."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if not is_for_types_alone(node) and (in_functions or not is_function):
            yield from statements(node, in_functions=in_functions)


def imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute here"
        for alias in node.names:
            module = f"{node.module}.{alias.name}"
            yield module if module in SOURCES else str(node.module)


def imports(*, in_functions: bool = False) -> Graph:
    """Modules of llmdiff by the modules that import them."""
    graph: Graph = {}
    for name, source in SOURCES.items():
        nodes = statements(ast.parse(source), in_functions=in_functions)
        graph[name] = {found for node in nodes for found in imported(node) if found in SOURCES and found != name}
    return graph


def between_packages(modules: Graph) -> Graph:
    """The same of packages. A module that is in none, such as `llmdiff.errors`, stands for itself."""

    def home(name: str) -> str:
        parent = ".".join(name.split(".")[:2])
        return parent if parent in PACKAGES else name

    graph: Graph = {}
    for name, found in modules.items():
        graph.setdefault(home(name), set()).update(home(one) for one in found if home(one) != home(name))
    return graph


def circle_in(graph: Graph) -> list[str]:
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_is_imported_by_what_it_imports() -> None:
    assert circle_in(imports()) == []


def test_no_package_depends_on_what_depends_on_it() -> None:
    assert circle_in(between_packages(imports())) == []


def test_nor_do_imports_within_functions_make_a_circle_of_packages() -> None:
    modules = imports(in_functions=True)
    importer, module = DEFERRED
    modules[importer].remove(module)
    assert circle_in(between_packages(modules)) == []


def test_packages_depend_on_those_that_the_architecture_names_above_them() -> None:
    text = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = text.partition("## Dependencies")[2].partition("## ")[0]
    lines = [line.split() for line in block.splitlines() if line.startswith("    ")]
    rank = {f"llmdiff.{name}": number for number, names in enumerate(lines) for name in names}
    assert rank.keys() == PACKAGES - {"llmdiff"}
    for package, found in between_packages(imports()).items():
        for other in found & rank.keys():
            assert package not in rank or rank[other] < rank[package], (package, other)


def test_a_circle_would_be_found() -> None:
    graph = between_packages(imports())
    assert graph["llmdiff.training"] >= {"llmdiff.adapter", "llmdiff.language"}
    graph["llmdiff.language"].add("llmdiff.training")
    assert set(circle_in(graph)) >= {"llmdiff.training", "llmdiff.language"}


def test_no_package_holds_more_than_a_quarter_of_the_code() -> None:
    lines: dict[str, int] = {}
    for name, source in SOURCES.items():
        package = name.split(".")[1] if name.count(".") else ""
        lines[package] = lines.get(package, 0) + len(source.splitlines())
    assert {package for package, count in lines.items() if count > sum(lines.values()) / 4} == set()


def identifiers(tree: ast.AST) -> Iterator[str]:
    """Every name that a module gives to something, or asks something for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).rpartition(".")[2]


def test_names_are_the_words_of_the_field() -> None:
    found = {f"{name}: {one}" for name in SOURCES for one in identifiers(ast.parse(SOURCES[name]))}
    assert sorted(one for one in found if OLD_WORDS.search(one.rpartition(" ")[2])) == []
