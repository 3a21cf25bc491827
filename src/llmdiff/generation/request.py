"""A request for pictures, checked before any model is loaded, and the pictures that answer it."""

import re
import secrets
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from pydantic import (
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    field_validator,
    model_validator,
)

from llmdiff.base.locate import locate_base
from llmdiff.errors import LLMDiffError
from llmdiff.generation.record import Models, PictureSettings
from llmdiff.models import EMBEDDED, Quantization
from llmdiff.proxy import ProxyConfig, Rewriting
from llmdiff.settings import Settings
from llmdiff.validation_errors import valid

if TYPE_CHECKING:
    from llmdiff.proxy import Rewriter

_NONE = "none"
_LONGEST = 1_000_000  # characters of a prompt


class GenerationRequest(Settings):
    """An order of pictures: prompts, models and settings. Every mistake in it raises LLMDiffError with one sentence.

    Picture n of every prompt has seed `seed + n`, so that a picture does not depend on the other prompts [choice].

    Example:
        >>> request = GenerationRequest(prompts=["a red cup", "a blue ball"], num=2, seed=7, size="512x512")
        >>> [(picture.prompt, picture.seed) for picture in request.pictures(default_size=(512, 512))]
        [('a red cup', 7), ('a red cup', 8), ('a blue ball', 7), ('a blue ball', 8)]
    """

    model_config = ConfigDict(extra="forbid")

    prompts: list[str]
    negative: str = ""
    steps: int = Field(default=30, ge=1, le=1000)
    guidance: float = Field(default=5.0, ge=0, le=100, allow_inf_nan=False)
    scale: float = Field(default=1.0, ge=-10, le=10, allow_inf_nan=False)
    seed: int = Field(default_factory=lambda: secrets.randbelow(2**32), ge=0, lt=2**53)
    size: tuple[int, int] | None = None  # width, height; None: what the base model was trained for
    num: int = Field(default=1, ge=1, le=10_000)
    base: str = EMBEDDED
    base_config: str | None = None  # of a single-file base: the folder or Hub id of its configs
    adapter: str | None = None  # None: the shipped one, for the embedded base; "none": the base model alone
    llm: str | None = None  # None: the LLM that the adapter was trained with
    quantization: Quantization | None = None  # None: that in which the adapter was trained
    compare: bool = False
    prompt_weights: bool = False  # whether (word:1.3) is a weight and not text
    offload_llm: bool = False  # whether the LLM's memory is given back once it has read the prompts
    device: str | None = None  # None: the fastest one here
    proxy: ProxyConfig | None = None  # has the prompts rewritten before the models read them

    @model_validator(mode="wrap")
    @classmethod
    def _one_sentence(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        with valid("The request"):
            return handler(data)

    @field_validator("prompts")
    @classmethod
    def _prompts_say_something(cls, prompts: list[str]) -> list[str]:
        if not prompts or any(not prompt.strip() for prompt in prompts):
            raise LLMDiffError("The prompt is empty: say in words what the picture should show.")
        return [_valid_text(prompt) for prompt in prompts]

    @field_validator("negative")
    @classmethod
    def _negative_is_text(cls, negative: str) -> str:
        return _valid_text(negative)

    @field_validator("size", mode="before")
    @classmethod
    def _size_in_words(cls, size: Any) -> Any:
        if not isinstance(size, str):
            return size
        match = re.fullmatch(r"\s*(\d{1,5})\s*[xX×]\s*(\d{1,5})\s*", size)
        if match is None:
            raise LLMDiffError(f"The size {size!r} is not of the form WIDTHxHEIGHT, such as 512x512.")
        return int(match[1]), int(match[2])

    @field_validator("size")
    @classmethod
    def _size_fits_latents(cls, size: tuple[int, int] | None) -> tuple[int, int] | None:
        if size is not None and any(side % 8 or not 8 <= side <= 8192 for side in size):
            raise LLMDiffError(
                f"The size {size[0]}x{size[1]} will not do: both sides must be multiples of 8 up to 8192."
            )
        return size

    @model_validator(mode="after")
    def _models_make_sense(self) -> Self:
        if self.adapter is None and self.base != EMBEDDED:
            locate_base(self.base)  # a wrong path first
            raise LLMDiffError(
                f"An adapter belongs to one base model: name the one for {self.base!r} with --adapter, "
                "or draw with the base model alone by --adapter none."
            )
        needing = {"--llm": self.llm, "--quantization": self.quantization, "--compare": self.compare}
        if self.adapter == _NONE and (option := next((name for name, value in needing.items() if value), None)):
            raise LLMDiffError(f"The option {option} needs an adapter, but --adapter is none: drop one of the two.")
        if self.proxy is not None and self.prompt_weights:
            raise LLMDiffError("A proxy's rewriting has no weights of words: drop --prompt-weights or --proxy.")
        return self

    def models(self) -> Models:
        """The models that this request names."""
        adapter = None if self.adapter == _NONE else self.adapter or EMBEDDED
        return Models(
            base=self.base, base_config=self.base_config, adapter=adapter, llm=self.llm, quantization=self.quantization
        )

    def rewritings(self) -> dict[str, Rewriting]:
        """What the proxy makes of the prompts, by prompt; a prompt that it has no answer to is not among them."""
        rewriter = self.rewriter()
        return rewriter.rewrite(self.prompts) if rewriter else {}

    def rewriter(self) -> "Rewriter | None":
        """Asks the proxy of this request; None if it has none.

        Raises:
            LLMDiffError: the key in the environment will not do.
        """
        if self.proxy is None:
            return None
        from llmdiff.proxy import Rewriter

        return Rewriter(self.proxy)

    def pictures(
        self, default_size: tuple[int, int], rewritings: Mapping[str, Rewriting] = MappingProxyType({})
    ) -> list[PictureSettings]:
        """Settings of every picture, prompt by prompt, with `rewritings` in place of prompts."""
        return [
            self.picture(prompt, n, default_size, rewritings.get(prompt))
            for prompt in self.prompts
            for n in range(self.num)
        ]

    def picture(
        self, prompt: str, number: int, default_size: tuple[int, int], rewriting: Rewriting | None = None
    ) -> PictureSettings:
        """Settings of picture `number` of a prompt, counted from 0, perhaps of a rewriting."""
        width, height = self.size or default_size
        common = self.model_dump(include={"negative", "steps", "guidance", "scale", "prompt_weights"})
        if rewriting is not None and self.proxy is not None:
            common["rewriting"] = rewriting.of_picture(number, self.proxy.average)
        return PictureSettings(prompt=prompt, seed=self.seed + number, width=width, height=height, **common)


def _valid_text(text: str) -> str:
    """The text that a command line in another encoding has left as lone surrogates, and no text longer than is kept.

    Raises:
        LLMDiffError: it is not in UTF-8, or longer than a PNG is to hold.
    """
    if len(text) > _LONGEST:
        raise LLMDiffError(f"The prompt has {len(text):,} characters: {_LONGEST:,} are the most.")
    try:
        return text.encode("utf-8", "surrogateescape").decode()
    except UnicodeError as error:
        raise LLMDiffError("The prompt is not valid text: it must be encoded as UTF-8.") from error
