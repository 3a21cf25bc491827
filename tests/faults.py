"""The table of faults in docs/faults.md: how many are tried of each kind, and how many fail.

It is made by the tests marked `fault(kind)`. Each example of a property test counts as a try, any other test as one.
"""

import functools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_TABLE = re.compile(r"\| kind \|.*?(?=\n\n|\n?\Z)", re.DOTALL)


class FaultTable:
    """A plugin that counts, and in the end writes the table into a document, in the place of the one there."""

    def __init__(self, document: Path) -> None:
        self.document = document
        self.tries: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: Any) -> Iterator[None]:
        """Counts the examples of a property test."""
        property_test = getattr(item.obj, "hypothesis", None)
        if property_test is None or not _kinds(item):
            return (yield)
        plain, examples = property_test.inner_test, 0

        @functools.wraps(plain)
        def counted(*arguments: Any, **values: Any) -> Any:
            nonlocal examples
            examples += 1
            return plain(*arguments, **values)

        property_test.inner_test = counted
        try:
            return (yield)
        finally:
            property_test.inner_test = plain
            for kind in _kinds(item):
                self.tries[kind] += max(0, examples - 1)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
        report = yield
        for kind in _kinds(item):
            self.tries[kind] += (report.when == "call" and not report.skipped) or (
                report.when == "setup" and report.failed
            )
            self.failures[kind] += report.failed
        return report

    def pytest_sessionfinish(self) -> None:
        text = self.document.read_text(encoding="utf-8")
        self.document.write_text(_TABLE.sub(lambda _: self.table(), text, count=1), encoding="utf-8")

    def table(self) -> str:
        """The table, in Markdown."""
        rows = [(kind, tries, self.failures[kind]) for kind, tries in sorted(self.tries.items())]
        rows.append(("all", sum(self.tries.values()), sum(self.failures.values())))
        lines = [f"| {kind} | {tries:,} | {failures:,} |" for kind, tries, failures in rows]
        return "\n".join(["| kind | tries | failures |", "| --- | ---: | ---: |", *lines])


def _kinds(item: pytest.Item) -> list[str]:
    return sorted({str(mark.args[0]) for mark in item.iter_markers("fault")})
