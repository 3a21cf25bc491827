"""A chat endpoint on loopback that answers as a test wants it to, rightly or in every wrong way."""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    """A whole answer."""
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def completion(content: Any, finish_reason: str = "stop", **message: Any) -> bytes:
    """The body of an answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}}
    return json.dumps({"choices": [choice | {"finish_reason": finish_reason}]}).encode()


def says(content: Any, finish_reason: str = "stop", **message: Any) -> Reply:
    """Answers with a text."""
    return lambda handler, question: send(handler, 200, completion(content, finish_reason, **message))


def fails(status: int, body: bytes = b"{}", **headers: str) -> Reply:
    """Answers with a status."""
    return lambda handler, question: send(handler, status, body, **headers)


def echoes(handler: BaseHTTPRequestHandler, question: dict[str, Any]) -> None:
    """Answers with the prompt, the number of the answer, and a mark."""
    prompt = question["messages"][-1]["content"]
    send(handler, 200, completion(f"{prompt} number {question.get('seed')}"))


def drips(handler: BaseHTTPRequestHandler, question: dict[str, Any]) -> None:
    """Sends a byte of its headers now and then, for ever."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    with suppress(OSError):
        for _ in range(200):
            handler.wfile.write(b"a")
            time.sleep(0.05)


def floods(handler: BaseHTTPRequestHandler, question: dict[str, Any]) -> None:
    """Sends blanks without end."""
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        for _ in range(2000):
            handler.wfile.write(b" " * 2**16)


def hangs_up(handler: BaseHTTPRequestHandler, question: dict[str, Any]) -> None:
    """Promises more than it sends."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices"')


@dataclass
class Loopback:
    """The endpoint; `reply` may be changed between questions.

    Attributes:
        url: of its API.
        asked: the questions that came.
        headers: those of each.
    """

    url: str
    reply: Reply = echoes
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list, repr=False)


@contextmanager
def loopback(tls: ssl.SSLContext | None = None) -> Iterator[Loopback]:
    """Serves on a free port of this machine, with TLS if a context is given."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            here.asked.append(question)
            here.headers.append({name.lower(): value for name, value in self.headers.items()})
            here.reply(self, question)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    here = Loopback(f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}/v1")
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()
