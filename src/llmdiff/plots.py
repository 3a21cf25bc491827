"""Figures of matplotlib, drawn without a screen."""

import io
from importlib import import_module
from typing import TYPE_CHECKING, Any

from llmdiff.errors import LLMDiffError
from llmdiff.extras import extra
from llmdiff.sources import reason

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def check_matplotlib() -> None:
    """Makes sure of it before long work.

    Raises:
        LLMDiffError: matplotlib is not installed, or its settings are wrong.
    """
    with extra("plot"):
        try:
            import_module("matplotlib")
        except ValueError as error:  # of its environment variables and matplotlibrc
            raise LLMDiffError(f"matplotlib cannot be used ({reason(error)}): correct its settings.") from error


def new_figure(width: float, height: float, **options: Any) -> "Figure":
    """An empty figure.

    Args:
        width: in inches.
        height: in inches.
        options: of matplotlib's `Figure`.

    Raises:
        LLMDiffError: matplotlib is not installed.

    Example:
        >>> new_figure(4, 3).get_size_inches().tolist()
        [4.0, 3.0]
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", **options)


def png_of(figure: "Figure") -> bytes:
    """A figure as a PNG.

    Example:
        >>> png_of(new_figure(1, 1))[:4]
        b'\\x89PNG'
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
