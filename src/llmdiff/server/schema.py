"""The bodies of requests and answers: those of OpenAI's images API, the names that open servers add, and ours."""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from llmdiff.settings import Settings

_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_STEPS_OF_QUALITY = {"low": 0.5, "medium": 1.0, "standard": 1.0, "auto": 1.0, "high": 2.0, "hd": 2.0, "xhigh": 3.0}
Format = Literal["png", "jpeg", "webp"]
_NUMBERS = ("n", "output_compression", "partial_images", "seed", "num_inference_steps", "guidance_scale", "scale")
Quality = Literal["low", "medium", "high", "xhigh", "max", "auto", "standard", "hd"]


class ImageRequest(Settings):
    """The body of ``POST /v1/images/generations``. What is null is as if it were not there.

    Attributes:
        prompt: What the pictures should show.
        model: The server's name for what it draws with.
        n: How many; picture k has ``seed`` + k.
        size: ``WIDTHxHEIGHT``, multiples of 8, or ``auto``, the base model's own.
        quality: The number of steps, in those of the server: half of them (low), as many (medium, standard, auto),
            twice (high, hd), three times (xhigh), or as many as it allows (max).
        output_format: Of the pictures; PNG carries all that it was drawn with.
        output_compression: Quality of JPEG and WebP, in percent.
        response_format: Pictures come in the answer; the server keeps none and has no URLs for them.
        stream: Whether pictures come as server-sent events.
        partial_images: Pictures of latents that are sent before the last, of a stream.
        background: Pictures have one.
        negative_prompt: What they should not show.
        seed: Of the first one's noise; random if it is not there.
        num_inference_steps: Denoising steps, in the place of ``quality``.
        guidance_scale: Of classifier-free guidance; 1 turns it off.
        scale: Strength of the adapter; 0 is the base model.
        prompt_weights: Whether ``(word:1.3)`` is a weight and not text.
        moderation, style, user, safety_identifier: Taken, and of no effect.
    """

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(min_length=1, pattern=r"\S")
    model: str | None = Field(default=None, max_length=200)
    n: int | None = Field(default=None, ge=1, le=1000)
    size: str | None = Field(default=None, max_length=20, json_schema_extra={"pattern": "^(auto|[0-9]+x[0-9]+)$"})
    quality: Quality | None = None
    output_format: Format | None = None
    output_compression: int | None = Field(default=None, ge=0, le=100)
    response_format: Literal["b64_json"] | None = None
    stream: bool | None = Field(default=None, strict=True)
    partial_images: int | None = Field(default=None, ge=0, le=3)
    background: Literal["opaque", "auto"] | None = None
    negative_prompt: str | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**53 - 1000)
    num_inference_steps: int | None = Field(default=None, ge=1, le=1000)
    guidance_scale: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    scale: float | None = Field(default=None, ge=-10, le=10, allow_inf_nan=False)
    prompt_weights: bool | None = Field(default=None, strict=True)
    moderation: Literal["auto", "low"] | None = None
    style: Literal["vivid", "natural"] | None = None
    user: str | None = Field(default=None, max_length=1000)
    safety_identifier: str | None = Field(default=None, max_length=1000)

    @field_validator(*_NUMBERS, mode="before")
    @classmethod
    def _is_number(cls, value: Any) -> Any:
        if isinstance(value, str):  # which would be taken for what it looks like
            raise ValueError("it is not a number")
        return value

    @field_validator("prompt", "negative_prompt")
    @classmethod
    def _is_text(cls, text: str | None) -> str | None:
        if text is not None and re.search("[\ud800-\udfff]", text):
            raise ValueError("it is not valid text")
        return text

    @field_validator("size")
    @classmethod
    def _is_size(cls, size: str | None) -> str | None:
        if size in (None, "auto"):
            return size
        match = _SIZE.fullmatch(str(size))
        if match is None or any(side % 8 or not 8 <= side <= 8192 for side in map(int, match.groups())):
            raise ValueError("a size is WIDTHxHEIGHT, both multiples of 8 up to 8192, or auto")
        return size

    def size_or(self, default: tuple[int, int]) -> tuple[int, int]:
        """Width and height in pixels."""
        match = _SIZE.fullmatch(self.size or "")
        return (int(match[1]), int(match[2])) if match else default

    def steps_or(self, default: int, most: int) -> int:
        """Denoising steps, by number or by quality; more than `most` only where the number says so."""
        if self.num_inference_steps is not None:
            return self.num_inference_steps
        if self.quality == "max":
            return most
        return min(most, max(1, round(default * _STEPS_OF_QUALITY[self.quality or "auto"])))


class _Tokens(BaseModel):
    text_tokens: int
    image_tokens: int = 0


class Usage(BaseModel):
    """Tokens of the prompt, as the LLM counts them (without an adapter, the base model's own tokenizer), times n.

    Pictures are not made of tokens.
    """

    input_tokens: int
    input_tokens_details: _Tokens
    output_tokens: int = 0
    total_tokens: int

    @classmethod
    def of(cls, tokens: int) -> "Usage":
        """That of so many tokens of text."""
        return cls(input_tokens=tokens, input_tokens_details=_Tokens(text_tokens=tokens), total_tokens=tokens)


class ImageData(BaseModel):
    """A picture, the seed that draws it again, and what a proxy has made of the prompt, if it has."""

    b64_json: str
    seed: int
    revised_prompt: str | None = None


class ImagesResponse(BaseModel):
    """The answer to a request without ``stream``.

    Attributes:
        warnings: What the models say of it in words, such as that they cut the prompt.
    """

    created: int
    data: list[ImageData]
    background: Literal["opaque"] = "opaque"
    output_format: Format
    quality: Quality
    size: str
    usage: Usage
    warnings: list[str] = []


class ModelCard(BaseModel):
    """A model that the server draws with."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "llmdiff"


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Health(BaseModel):
    """Whether pictures are drawn."""

    status: Literal["ok", "failing"]


class ErrorDetail(BaseModel):
    """What is wrong, in a sentence, and with which key of the request."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of every answer that is none."""

    error: ErrorDetail


def event(kind: str, content: dict[str, Any]) -> dict[str, Any]:
    """The data of a server-sent event of OpenAI's images API."""
    return {"type": f"image_generation.{kind}", "background": "opaque"} | content
