"""Asking a chat endpoint: bounded in time and size, and with a key that goes to the endpoint alone."""

import asyncio
import ssl
from collections.abc import Generator
from typing import Any

import httpx2 as httpx
from pydantic import SecretStr

from llmdiff.files import readable
from llmdiff.proxy.answer import NoAnswerError, text_of
from llmdiff.proxy.config import ProxyConfig

LARGEST = 2**20
"""Bytes of an answer at most."""
_MOST_TOKENS = 2048  # of an answer: reasoning models think before they answer
_NOT_KNOWN = (400, 422)  # what servers say to a field that they do not take
_LASTING = (401, 402, 403, 404, 405)


class _Bearer(httpx.Auth):
    """Puts the key on a request when that is sent, and shows it to nobody."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        yield request


class Endpoint:
    """A chat endpoint while it is being asked; an asynchronous context manager.

    Redirects are not followed: they would take prompt and key to where nobody has sent them.

    Args:
        config: which, and how it is asked.

    Raises:
        LLMDiffError: its key will not do.
    """

    def __init__(self, config: ProxyConfig) -> None:
        self._config = config
        self._key = config.key()
        self._client = httpx.AsyncClient(
            auth=_Bearer(self._key) if self._key else None,
            follow_redirects=False,
            headers={"Accept-Encoding": "identity"},
            timeout=config.timeout,
            trust_env=not config.is_here,  # what is meant for this machine goes through no proxy of the network
            verify=True if config.url.startswith("https:") else _no_peers(),
        )

    async def __aenter__(self) -> "Endpoint":
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._client.__aexit__(*error)

    async def ask(self, prompt: str, number: int) -> str:
        """Returns answer `number` (from 0) to a prompt, as `text_of` gives it.

        Servers differ in the fields that they take. One that refuses those of sampling, or a system message, is asked
        again in the plainest form that there is.

        Raises:
            NoAnswerError: there is no usable answer.
        """
        try:
            async with asyncio.timeout(self._config.timeout):
                status, body = await self._post(self._question(prompt, number))
                if status in _NOT_KNOWN:
                    status, body = await self._post(self._plain_question(prompt))
        except (TimeoutError, httpx.TimeoutException):
            raise NoAnswerError(f"gave no answer within {self._config.timeout:g} s") from None
        except httpx.ConnectError as error:
            distrusted = "certificate" in str(error).lower()
            what = "has a certificate that is not trusted" if distrusted else "cannot be reached"
            raise NoAnswerError(what, lasting=True) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
            raise NoAnswerError(f"broke off ({type(error).__name__})") from None
        if status != 200:
            raise NoAnswerError(_about(status), lasting=status in _LASTING)
        text = text_of(body)
        if self._key and self._key.get_secret_value() in text:
            raise NoAnswerError("gave an answer with the key in it")
        return text

    async def _post(self, question: dict[str, Any]) -> tuple[int, bytes]:
        async with self._client.stream("POST", self._config.completions, json=question) as response:
            if response.status_code != 200:
                return response.status_code, b""
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise NoAnswerError("gave a compressed answer, which was not asked for")
            body = bytearray()
            async for part in response.aiter_raw():
                body += part
                if len(body) > LARGEST:
                    raise NoAnswerError(f"gave an answer of more than {readable(LARGEST)}")
        return 200, bytes(body)

    def _question(self, prompt: str, number: int) -> dict[str, Any]:
        messages = [{"role": "system", "content": self._config.instruction}, {"role": "user", "content": prompt}]
        return {
            "model": self._config.model,
            "messages": messages,
            "temperature": self._config.temperature_of_answers(),
            "seed": number,
            "max_tokens": _MOST_TOKENS,
        }

    def _plain_question(self, prompt: str) -> dict[str, Any]:
        content = f"{self._config.instruction}\n\nThe user's prompt:\n{prompt}"
        return {"model": self._config.model, "messages": [{"role": "user", "content": content}]}


def _no_peers() -> ssl.SSLContext:
    """Trusts nobody, for URLs without TLS: reading the system's certificates takes a tenth of a second."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _about(status: int) -> str:
    if status in (401, 403):
        return f"does not accept the key (HTTP {status})"
    if 300 <= status < 400:
        return f"sends elsewhere (HTTP {status}), where it is not followed"
    return f"answered with HTTP {status}"
