"""What stands before the application: who may come in, how much they may send, and how long they may take."""

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmdiff.server.errors import ApiError

_GUARDED = "/v1/"


class Guard:
    """Asks for the key, reads the body of a request up to a limit, and leaves clients that are too slow.

    Args:
        app: The application.
        key: What ``/v1/`` asks for as a bearer token; None asks for nothing.
        max_body: Bytes of a request.
        patience: Seconds for the whole body, and for each part of an answer.
        count: Called with the status of each answer.
    """

    def __init__(
        self, app: ASGIApp, key: SecretStr | None, max_body: int, patience: float, count: Callable[[int], None]
    ) -> None:
        self._app, self._max_body, self._patience, self._count = app, max_body, patience, count
        self._key = None if key is None else _digest(key.get_secret_value().encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = self._patient(self._counting(send))
        try:
            self._admit(scope)
            body = await self._body(scope, receive)
        except ApiError as error:
            response = error.response()
            response.headers["Connection"] = "close"  # what else is sent is not read
            await response(scope, receive, send)
            return
        if body is not None:
            await self._app(scope, _after(body, receive), send)

    def _admit(self, scope: Scope) -> None:
        if self._key is None or not scope["path"].startswith(_GUARDED):
            return
        kind, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        right = hmac.compare_digest(_digest(given.strip().encode("latin-1")), self._key)
        if kind.lower() != "bearer" or not right:
            raise ApiError(401, "The API key is missing or wrong.", "invalid_api_key")

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body; None of a client that has gone."""
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or int(declared) > self._max_body:
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self._patience):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > self._max_body:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError as error:
            raise ApiError(408, f"The body did not come within {self._patience:g} seconds.", "timeout") from error

    def _too_large(self) -> ApiError:
        return ApiError(413, f"The body has more than {self._max_body:,} bytes.", "too_large")

    def _patient(self, send: Send) -> Send:
        async def within_time(message: Message) -> None:
            async with asyncio.timeout(self._patience):
                await send(message)

        return within_time

    def _counting(self, send: Send) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(message["status"])
            await send(message)

        return counted


def _after(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read, and then what comes after it."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    def next_message() -> Awaitable[Message]:
        return _given(first.pop()) if first else receive()

    return next_message


async def _given(message: Message) -> Message:
    return message


def _digest(text: bytes) -> bytes:
    """Of one length for all, so that comparing takes as long for each."""
    return hashlib.sha256(text).digest()
