"""What stands before the application, with clients that a real connection makes hard to get."""

import asyncio
import socket
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.types import Message, Receive, Scope, Send

from llmdiff.server.guard import Guard
from server.running import Running

SCOPE: dict[str, Any] = {"type": "http", "path": "/v1/models", "headers": []}


async def answering(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": (await receive())["body"]})


def guard(app: Any, statuses: list[int]) -> Guard:
    return Guard(app, key=None, max_body=100, patience=0.1, count=statuses.append)


def received(*messages: Message) -> Receive:
    left = list(messages)

    async def receive() -> Message:
        if not left:
            await asyncio.sleep(60)
        return left.pop(0)

    return receive


def body(content: bytes, more: bool) -> Message:
    return {"type": "http.request", "body": content, "more_body": more}


async def sent_by(app: Guard, receive: Receive) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app(SCOPE, receive, send)
    return sent


def test_a_body_in_pieces_arrives_whole() -> None:
    statuses: list[int] = []
    sent = asyncio.run(sent_by(guard(answering, statuses), received(body(b"a", True), body(b"b", False))))
    assert sent[-1]["body"] == b"ab"
    assert statuses == [200]


@pytest.mark.parametrize(
    ("messages", "status"),
    [([body(b"a", True)], 408), ([body(b"a" * 60, True), body(b"a" * 60, False)], 413)],
    ids=["too slow", "too large"],
)
def test_the_application_does_not_see_a_body_that_is_refused(messages: list[Message], status: int) -> None:
    statuses: list[int] = []
    sent = asyncio.run(sent_by(guard(None, statuses), received(*messages)))
    assert [sent[0]["status"], statuses] == [status, [status]]


def test_nor_one_whose_client_has_gone() -> None:
    gone: Message = {"type": "http.disconnect"}
    assert asyncio.run(sent_by(guard(None, []), received(body(b"a", True), gone))) == []


def test_an_answer_that_is_not_taken_is_given_up() -> None:
    async def never(message: Message) -> None:
        await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        asyncio.run(guard(answering, [])(SCOPE, received(body(b"", False)), never))


def test_a_client_that_does_not_read_is_left(server: Running) -> None:
    address = urlsplit(server.address)
    asked, answered = 5000, 0
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect((str(address.hostname), int(address.port or 0)))
        client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * asked)
        time.sleep(3)  # the server's patience is one second
        with suppress(ConnectionError):
            while part := client.recv(2**16):
                answered += part.count(b"HTTP/1.1 200")
    assert answered < asked
    assert server.get("/health").status_code == 200
