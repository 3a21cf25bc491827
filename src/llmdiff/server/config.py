"""What a server draws with, and how much anybody may ask of it."""

import math
from typing import Any, Self

from pydantic import ConfigDict, Field, SecretStr

from llmdiff.errors import LLMDiffError
from llmdiff.generation.record import Models
from llmdiff.proxy import ProxyConfig
from llmdiff.settings import Settings
from llmdiff.validation_errors import valid

_ROOM = 4  # times the base model's own pixels that a picture may have where nothing else is said [choice]


class ServerConfig(Settings):
    """The settings of a server.

    Attributes:
        models: What it draws with; a request cannot change them.
        device: None takes the fastest one here.
        model_name: What clients call it, in ``model`` and in ``GET /v1/models``.
        api_key: What clients send as ``Authorization: Bearer ...``; None lets everybody in.
        steps, guidance, scale: Of pictures whose request does not say.
        max_n: Pictures of one request.
        max_steps: Denoising steps of a picture; with 1000, some schedulers of 1000 steps leave their own table.
        max_pixels: Width times height; None takes four times those that the base model was trained for.
        max_prompt: Characters of a prompt, and of a negative prompt.
        max_body: Bytes of a request.
        queue: Pictures that wait; a request that would make them more is turned away (429).
        batch_size: Waiting pictures of one kind that are drawn in one call. With 1 each is what ``llmdiff generate``
            draws, bit for bit; more are faster and change last bits.
        timeout: Seconds from a request to its last picture.
        client_timeout: Seconds that a client has to send its headers, its body, and to take each part of an answer.
        connections: Open at once.
        grace: Seconds that requests have to be done when the server is told to end.
        proxy: Rewrites the prompt of every request; a request cannot name one.

    Example:
        >>> ServerConfig(models=Models(base="embedded", adapter="embedded")).batch_size
        1
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: Models
    device: str | None = None
    model_name: str = Field(default="llmdiff", min_length=1, max_length=200)
    api_key: SecretStr | None = Field(default=None, min_length=1)
    steps: int = Field(default=30, ge=1, le=999)
    guidance: float = Field(default=5.0, ge=0, le=100, allow_inf_nan=False)
    scale: float = Field(default=1.0, ge=-10, le=10, allow_inf_nan=False)
    max_n: int = Field(default=10, ge=1, le=1000)
    max_steps: int = Field(default=100, ge=1, le=999)
    max_pixels: int | None = Field(default=None, ge=64, le=8192**2)
    max_prompt: int = Field(default=32_000, ge=1, le=1_000_000)
    max_body: int = Field(default=2**20, ge=1024, le=2**26)
    queue: int = Field(default=64, ge=1, le=100_000)
    batch_size: int = Field(default=1, ge=1, le=1024)
    timeout: float = Field(default=300, gt=0, le=24 * 3600)
    client_timeout: float = Field(default=20, gt=0, le=3600)
    connections: int = Field(default=256, ge=1, le=100_000)
    grace: int = Field(default=30, ge=0, le=3600)
    proxy: ProxyConfig | None = None

    @classmethod
    def make(cls, **settings: Any) -> Self:
        """As the constructor.

        Raises:
            LLMDiffError: A setting will not do.
        """
        with valid("The server"):
            config = cls(**settings)
        if config.steps > config.max_steps:
            raise LLMDiffError(f"Pictures have {config.steps} steps, but {config.max_steps} are the most: change one.")
        return config

    def most_pixels(self, default_size: tuple[int, int]) -> int:
        """Width times height of the largest picture, for a base model of this default size."""
        return self.max_pixels or _ROOM * math.prod(default_size)
