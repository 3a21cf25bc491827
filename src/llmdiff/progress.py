"""Progress of long work: one kind of callback for all of llmdiff."""

from collections.abc import Callable

Progress = Callable[[str, float], None]
"""Called with what is being done and the finished share of the whole, 0 … 1."""


def silent(stage: str, share: float) -> None:
    """Reports to nobody."""
