"""The record that an adapter keeps of itself: mode, reading, LLM and the base model whose layers it fits."""

import warnings
from typing import Any, Literal

import torch
from pydantic import ConfigDict, Field, ValidationError, field_validator

from llmdiff.adapter.refiner import RefinerConfig
from llmdiff.base import BaseDescription
from llmdiff.errors import LLMDiffError
from llmdiff.language import ExtractionConfig
from llmdiff.language.record import RECORDED
from llmdiff.settings import Settings
from llmdiff.structured_text import parse_json
from llmdiff.validation_errors import first_problem

Mode = Literal["augment", "replace"]
_OF_LLM: dict[str, Any] = {
    "name": str, "revision": str | None, "type": str, "width": int, "blocks": int, "dtype": str,
    "quantization": str | None, "fingerprint": str, **dict.fromkeys(RECORDED, str),
}  # fmt: skip


def library_version() -> str:
    """The version of llmdiff that is running."""
    from llmdiff import __version__  # at call time: the package's __init__ may import this module

    return __version__


class LoRAConfig(Settings):
    """A LoRA on the attention projections of the denoiser (Hu et al. 2022, arXiv 2106.09685); α is the rank.

    Attributes:
        rank: r.
        projections: width in and width out of the linear maps that it changes, by module path; where there is none,
            `LLMDiffAdapter.create` takes those of every attention, self-attention too.

    Example:
        >>> LoRAConfig(rank=4).rank
        4
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(8, ge=1)
    projections: dict[str, tuple[int, int]] = Field(default_factory=dict)


class AdapterConfig(Settings):
    """Everything besides the weights that an adapter needs: saved as ``config.json`` beside them.

    Attributes:
        mode: ``augment`` keeps the original text encoder, ``replace`` does without it (docs/method.md section 3).
        reading: how prompts are read.
        llm: the LLM that it was made for: name, revision, width, blocks, dtype, and hashes of its content.
        base: the image model that it was made for.
        refiner: size of the blocks in which the encoding's tokens read each other; None for none, as in the paper.
        lora: of the denoiser's attention, that trains with the adapter; None for none, as in the paper.
        pooled_width: P, width of the pooled text vector that it makes, None if it makes none.
        version: the version of llmdiff that wrote it.

    Example:
        >>> AdapterConfig.from_json(adapter.config.model_dump_json()) == adapter.config
        True
        >>> adapter.config.mode, adapter.config.reading.extraction
        ('augment', 'llmdiff')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode = "augment"
    reading: ExtractionConfig = Field(default_factory=ExtractionConfig)
    llm: dict[str, Any]
    base: BaseDescription
    refiner: RefinerConfig | None = None
    lora: LoRAConfig | None = None
    pooled_width: int | None = None
    version: str = Field(default_factory=library_version)

    @field_validator("llm")
    @classmethod
    def _llm_is_one(cls, llm: dict[str, Any]) -> dict[str, Any]:
        """Refuses what cannot be a language model's identity; keys that are not there are those of older versions."""
        for key, kind in _OF_LLM.items():
            if key in llm and not isinstance(llm[key], kind):
                raise ValueError(f"its {key} is {type(llm[key]).__name__}")
        if isinstance(llm.get("dtype"), str) and not isinstance(getattr(torch, llm["dtype"], None), torch.dtype):
            raise ValueError("its dtype is none of torch")
        return llm

    @classmethod
    def from_json(cls, text: str) -> "AdapterConfig":
        """Reads what ``model_dump_json`` wrote, also by a newer version: unknown keys are dropped with a warning.

        Raises:
            LLMDiffError: if the text is no adapter configuration.
        """
        return cls.from_content(parse_json(text, "The adapter's config.json", "fetch it again"))

    @classmethod
    def from_content(cls, data: Any) -> "AdapterConfig":
        """As `from_json`, of what a text in JSON says.

        Raises:
            LLMDiffError: if it is no adapter configuration.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            _drop_unknown_keys(data, error)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise LLMDiffError(f"The adapter's config.json is not usable: {first_problem(error)}.") from error


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
