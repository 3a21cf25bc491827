"""What an adapter records about itself: mode, reading, LLM and the base model whose layers it fits."""

import json
import warnings
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmdiff.adapter.refiner import RefinerConfig
from llmdiff.errors import LLMDiffError
from llmdiff.language import ExtractionConfig

Mode = Literal["augment", "replace"]


def library_version() -> str:
    """The version of llmdiff that is running."""
    from llmdiff import __version__  # at call time: the package's __init__ may import this module

    return __version__


class LayerShape(BaseModel):
    """What a branch must know of the cross-attention layer that it joins.

    Attributes:
        query: Q, the width of the image features that the layer takes and gives.
        inner: width of queries, keys and values over all heads.
        heads: number of attention heads; divides ``inner``.
        context: C, the width of the text features that the layer takes.
        bias: whether the layer's query projection has a bias.
        normalise_query: whether the branch must LayerNorm the image features because the denoiser does not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    query: int = Field(ge=1)
    inner: int = Field(ge=1)
    heads: int = Field(ge=1)
    context: int = Field(ge=1)
    bias: bool = False
    normalise_query: bool = False


class BaseDescription(BaseModel):
    """The image model that an adapter was made for.

    Attributes:
        denoiser: class name of its U-Net or transformer.
        name: where the pipeline came from (a Hub id or a folder's name), if known.
        layers: the cross-attention layers by module path.
        text_width: W, the width of the text features that it is given, which it may project before its layers get
            them; that of the layers if None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    denoiser: str
    name: str | None = None
    layers: dict[str, LayerShape] = Field(min_length=1)
    text_width: int | None = Field(None, ge=1)

    @property
    def context_width(self) -> int:
        """W, the width of the text features that the denoiser is given."""
        return self.text_width or next(iter(self.layers.values())).context


class AdapterConfig(BaseModel):
    """Everything besides the weights that an adapter needs: saved as ``config.json`` beside them.

    Attributes:
        mode: ``augment`` keeps the original text encoder, ``replace`` does without it (method.md section 3).
        reading: how prompts are read.
        llm: identity of the LLM it was made for: name, revision, width, blocks, dtype, fingerprint.
        base: the image model that it was made for.
        refiner: size of the blocks in which the encoding's tokens read each other; None for none, as in the paper.
        pooled_width: P, width of the pooled text vector that it makes, None if it makes none.
        version: the version of llmdiff that wrote it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode = "augment"
    reading: ExtractionConfig = Field(default_factory=ExtractionConfig)
    llm: dict[str, Any]
    base: BaseDescription
    refiner: RefinerConfig | None = None
    pooled_width: int | None = None
    version: str = Field(default_factory=library_version)

    @classmethod
    def from_json(cls, text: str) -> "AdapterConfig":
        """Reads what ``model_dump_json`` wrote, also by a newer version: unknown keys are dropped with a warning.

        Raises:
            LLMDiffError: if the text is no adapter configuration.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise LLMDiffError(f"The adapter's config.json is not valid JSON ({error}): fetch it again.") from error
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            _drop_unknown_keys(data, error)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise LLMDiffError(f"The adapter's config.json is not usable: {_first_problem(error)}.") from error


def _drop_unknown_keys(data: Any, error: ValidationError) -> None:
    """Removes from ``data`` the keys that the models do not know, and says so."""
    unknown = [problem["loc"] for problem in error.errors() if problem["type"] == "extra_forbidden"]
    for *parents, key in unknown:
        owner = data
        for parent in parents:
            owner = owner[parent]
        del owner[key]
    if unknown:
        names = ", ".join(".".join(map(str, location)) for location in unknown)
        message = f"This adapter's config.json has keys that llmdiff {library_version()} does not know, and ignores"
        warnings.warn(f"{message}: {names}. Upgrade llmdiff-adapter to use them.", stacklevel=3)


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(map(str, problem["loc"])) or "the whole"
    return f"{where}: {problem['msg']}"
