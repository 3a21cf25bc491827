"""Optional packages: what to install where one is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from llmdiff.errors import LLMDiffError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Within it packages are imported that an extra of this package brings.

    Args:
        name: of the extra.

    Raises:
        LLMDiffError: One of them is not installed.

    Example:
        >>> with extra("plot"):
        ...     import no_such_package
        Traceback (most recent call last):
        llmdiff.errors.LLMDiffError: This needs no_such_package: pip install 'llmdiff-adapter[plot]'.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or "a package more").partition(".")[0]
        raise LLMDiffError(f"This needs {package}: pip install 'llmdiff-adapter[{name}]'.") from error
