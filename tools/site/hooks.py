"""Hooks of the documentation site (mkdocs): what it takes from the code, and pages that come and go."""

import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_FURTHER = "Further"


class _OnlyOfOthers(logging.Filter):
    """Leaves out warnings about docstrings whose text names a parameter of pydantic's or of a `**options`."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "No type or annotation for" not in record.getMessage()


def on_config(config: Any) -> Any:
    """Leave out of the navigation what is not there, and put at its end what nobody has named."""
    for name in ("griffe", "mkdocs.plugins.griffe", "mkdocs.plugins.mkdocstrings"):
        logging.getLogger(name).addFilter(_OnlyOfOthers())
    docs = Path(config.docs_dir)
    nav = [entry for entry in map(lambda one: _there(one, docs), config.nav) if entry]
    named = set(_files(nav))
    rest = sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
    rest = [path for path in rest if path not in named and not path.startswith("results/")]
    config.nav = nav + ([{_FURTHER: rest}] if rest else [])
    return config


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fill in what is generated from the code: `<!-- generated: NAME -->`."""
    return re.sub(r"<!-- generated: (\w+) -->", lambda match: _generated(match[1]), markdown)


def _generated(name: str) -> str:
    places = [str(_HERE), str(_HERE.parents[1] / "src")]
    sys.path[:0] = places
    try:
        import generated
    finally:
        del sys.path[: len(places)]
    return str(getattr(generated, name)())


def _there(entry: Any, docs: Path) -> Any:
    """An entry of the navigation without the pages that are not there; None if nothing is left of it."""
    if isinstance(entry, str):
        return entry if (docs / entry).is_file() else None
    ((title, content),) = entry.items()
    if isinstance(content, str):
        return entry if (docs / content).is_file() else None
    left = [one for one in (_there(one, docs) for one in content) if one]
    return {title: left} if left else None


def _files(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            (content,) = entry.values()
            yield from [content] if isinstance(content, str) else _files(content)
