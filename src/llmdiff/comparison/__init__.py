"""Comparisons: a grid of recipes that differ in one thing each, trained and scored alike, and a report of them.

The names are imported when they are first used: a process that only reads a study needs none of the models.
"""

from typing import TYPE_CHECKING

from llmdiff import lazy

if TYPE_CHECKING:
    from llmdiff.comparison.config import ComparisonConfig
    from llmdiff.comparison.findings import Findings, read_findings
    from llmdiff.comparison.report import write_report
    from llmdiff.comparison.run import compare

__all__ = ["ComparisonConfig", "Findings", "compare", "read_findings", "write_report"]

__getattr__ = lazy.names(
    __name__,
    {
        "config": ("ComparisonConfig",),
        "findings": ("Findings", "read_findings"),
        "report": ("write_report",),
        "run": ("compare",),
    },
)
