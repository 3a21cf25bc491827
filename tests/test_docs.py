"""What the documents name is there: files, links, keys of recipes, names of the library."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from llmdiff.training import Recipe

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "llmdiff"
NAMES = (
    "architecture", "beside", "benchmarks", "comfyui", "data", "drawing", "evaluation", "how-it-works", "index",
    "limits", "llms", "memory", "method", "performance", "proxy", "server", "study", "training",
)  # fmt: skip
WITHOUT_FILES = ("beside", "data", "drawing", "how-it-works", "index", "limits", "llms", "memory", "proxy")
"""Pages that name no file of the project, and tell of those of a reader."""
OF_OTHERS = "## Prompt suites"
"""Where the files of other projects begin that a page names."""
DOCUMENTS = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in NAMES)]
SECTIONS = ("reading", "objective", "loop", "cache")


def code_in(text: str) -> list[str]:
    """What stands between backticks, without blocks of code."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


@pytest.fixture(params=DOCUMENTS, ids=lambda path: path.name)
def document(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_files_that_are_named_exist(document: Path) -> None:
    if document.stem in WITHOUT_FILES:
        return
    ours = document.read_text().partition(OF_OTHERS)[0]
    named = [code for code in code_in(ours) if re.fullmatch(r"[\w./-]+(?:\.(?:py|json|md)|/)", code)]
    assert named
    modules = {path.name for path in SOURCE.rglob("*.py")}
    missing = [one for one in named if not ((SOURCE / one).exists() or (ROOT / one).exists() or one in modules)]
    assert missing == []


def test_links_within_the_project_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([\w-]+))?\)", document.read_text())
    assert targets
    for path, anchor in targets:
        target = document.parent / path if path else document
        assert target.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in slugs, anchor


def field_at(model: Any, path: str) -> bool:
    """True if a model of pydantic has a field at a dotted path."""
    name, _, rest = path.partition(".")
    if not (isinstance(model, type) and issubclass(model, BaseModel) and name in model.model_fields):
        return False
    return not rest or field_at(model.model_fields[name].annotation, rest)


def test_keys_of_recipes_are_keys(document: Path) -> None:
    pattern = rf"({'|'.join(SECTIONS)})\.(\w+)(?:[:=].*)?"
    keys = [
        match[1] + "." + match[2] for code in code_in(document.read_text()) if (match := re.fullmatch(pattern, code))
    ]
    assert [key for key in keys if not field_at(Recipe, key)] == []


def test_every_switch_of_the_method_is_named() -> None:
    text = (ROOT / "docs" / "method.md").read_text()
    for section in ("reading", "objective"):
        fields = Recipe.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
        assert [name for name in fields if f"`{section}.{name}" not in text] == []


def test_the_sections_that_docstrings_cite_are_there() -> None:
    headings = re.findall(r"^## (\d+)\.", (ROOT / "docs" / "method.md").read_text(), re.MULTILINE)
    cited = {
        number
        for path in SOURCE.rglob("*.py")
        for sections in re.findall(r"method\.md\s+sections? (\d+(?: and \d+)?)", path.read_text())
        for number in re.findall(r"\d+", sections)
    }
    assert {"1", "2", "3", "4"} <= cited <= set(headings)


def test_names_of_the_library_are_in_it() -> None:
    source = "\n".join(path.read_text() for path in SOURCE.rglob("*.py"))
    defined = set(re.findall(r"^\s*(?:class|def) (\w+)", source, re.MULTILINE))
    defined |= set(re.findall(r"^\s*(?:self\.)?(\w+)(?:: | = )", source, re.MULTILINE))
    for name in ("architecture.md", "method.md"):
        code = code_in((ROOT / "docs" / name).read_text())
        classes = {one for text in code for one in re.findall(r"\b(?:[A-Z][a-z]+|LLM)[A-Z]\w+(?:\.\w+)?", text)}
        parts = {part for one in classes for part in one.split(".")}
        assert parts - defined == set()
