"""Which endpoint is asked to rewrite prompts, and how. Its key is in the environment and in nothing that is kept."""

import os
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    field_validator,
    model_validator,
)

from llmdiff.errors import LLMDiffError
from llmdiff.loopback import is_loopback
from llmdiff.proxy.instruction import LONGEST, default_instruction
from llmdiff.proxy.rewriting import MOST
from llmdiff.settings import Settings
from llmdiff.validation_errors import valid

KEY = "OPENAI_API_KEY"
"""The environment variable of the key where no other is named."""
_COMPLETIONS = "/chat/completions"


class ProxyConfig(Settings):
    """An OpenAI-compatible chat endpoint that rewrites prompts, see docs/proxy.md.

    Attributes:
        url: of the API, ``https://api.openai.com/v1`` say.
        model: its name at the endpoint.
        instruction: what it is told to do with a prompt.
        rewritings: how many answers are asked for.
        average: whether a picture is drawn from all of them at once, by the mean of their predictions; else picture n
            of a prompt is drawn from answer n mod `rewritings`.
        temperature: of its sampling; None: 0 for one answer, 1 for several.
        timeout: seconds for an answer, from asking to its last byte.
        key_env: the environment variable of the key. By default ``OPENAI_API_KEY``, which is sent by https or to this
            machine alone; one that is named here is sent to `url` whatever that is.

    Raises:
        LLMDiffError: a value will not do.

    Example:
        >>> ProxyConfig(url="http://localhost:8000/v1", model="qwen3-32b").rewritings
        1
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    model: str = Field(min_length=1, max_length=200)
    instruction: str = Field(default_factory=default_instruction, min_length=1, max_length=LONGEST)
    rewritings: int = Field(default=1, ge=1, le=MOST)
    average: bool = False
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    timeout: float = Field(default=60.0, gt=0, le=3600, allow_inf_nan=False)
    key_env: str | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _one_sentence(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        with valid("The settings of the proxy"):
            return handler(data)

    @field_validator("url")
    @classmethod
    def _is_of_an_api(cls, url: str) -> str:
        parts = _split(url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable():
            raise LLMDiffError("The URL of the proxy is not of the form https://host/v1.")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise LLMDiffError(
                "The URL of the proxy may hold no user, password, query or fragment: put its key into the environment "
                f"variable {KEY}, or into the one that --proxy-key-env names."
            )
        return url.rstrip("/")

    @property
    def is_here(self) -> bool:
        """Whether the endpoint is on this machine."""
        return is_loopback(urlsplit(self.url).hostname or "")

    @property
    def completions(self) -> str:
        """The URL that is asked."""
        return self.url if self.url.endswith(_COMPLETIONS) else self.url + _COMPLETIONS

    def temperature_of_answers(self) -> float:
        """The temperature that is asked for."""
        return self.temperature if self.temperature is not None else float(self.rewritings > 1)

    def key(self) -> SecretStr | None:
        """The key in the environment, if it may be sent there.

        Raises:
            LLMDiffError: the variable that `key_env` names is not set, or holds what cannot be a key.
        """
        if self.key_env is None and not (self.url.startswith("https:") or self.is_here):
            return None
        value = os.environ.get(self.key_env or KEY, "").strip()
        if not value:
            if self.key_env is None:
                return None
            raise LLMDiffError(f"The environment variable {self.key_env}, which is to hold the proxy's key, is empty.")
        if not value.isascii() or not value.isprintable() or " " in value:
            raise LLMDiffError(f"The environment variable {self.key_env or KEY} holds what cannot be a key.")
        return SecretStr(value)


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # which is looked at when it is asked for
    except ValueError:
        return None
    return parts
