"""A comparison of two conditions on tiny models, for tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmdiff.comparison import ComparisonConfig, compare
from tiny_base import Places

Make = Callable[..., ComparisonConfig]


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever devices there are: accelerate cannot change its mind within one process."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def settings(folder: Path, places: Places, **changes: Any) -> dict[str, Any]:
    recipe = {
        "base": str(places.base),
        "llm": str(places.llm),
        "mode": "replace",
        "data": {"kind": "scenes", "captions": 4, "pictures": 1},
        "objective": {"distil": 100},
        "precision": "float32",
        "loop": {"steps": 3, "batch_size": 2, "log_every": 1, "save_every": 1, "warmup": 0, "ema": 0},
    }
    return {
        "folder": folder,
        "recipe": recipe,
        "seeds": [0, 1],
        "reference": "llmdiff",
        "conditions": {"llmdiff": {}, "last": {"about": "the last one", "changes": {"reading.extraction": "last"}}},
        "claims": [{"say": "Scores are better", "better": "llmdiff", "than": "last"}],
        "screen": {"scenes": 2, "timesteps": [700]},
    } | changes


@pytest.fixture
def make(tmp_path: Path, places: Places) -> Make:
    """Makes such a comparison; the keywords are keys of it."""
    return lambda **changes: ComparisonConfig.make(**settings(tmp_path / "compare", places, **changes))


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory, places: Places) -> ComparisonConfig:
    """A comparison that has been run. Do not change it: the session shares it."""
    config = ComparisonConfig.make(**settings(tmp_path_factory.mktemp("done"), places))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        assert compare(config) == {}
    return config
