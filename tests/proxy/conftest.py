"""Fixtures of the proxy's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.loopback import Loopback, loopback


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """A chat endpoint on loopback, an empty home, and no key in the environment."""
    monkeypatch.setenv("LLMDIFF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with loopback() as here:
        yield here
