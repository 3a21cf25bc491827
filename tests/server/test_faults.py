"""Clients that err, are slow, or mean harm: each gets an answer or is left, and the next is served."""

import contextlib
import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from llmdiff.generation import Renderer
from server.running import PATH, TWO_STEPS, Running, config_for, running
from tiny_base import Places

GOOD = json.dumps(TWO_STEPS).encode()
JSON = {"Content-Type": "application/json"}
LINK_LOCAL = "http://169.254.169.254/latest/meta-data"


def connected(server: Running) -> socket.socket:
    address = urlsplit(server.address)
    return socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=30)


def head(length: int | str, *more: str) -> bytes:
    lines = [f"POST {PATH} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {length}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.fixture(autouse=True)
def _next_request_is_served(server: Running) -> Any:
    yield
    assert server.post(**TWO_STEPS).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b'"a"', b"\xff\xfe", b"{}", b'{"prompt": ""}', b'{"prompt": " \\n"}',
        b'{"prompt": "\\ud800"}', b'{"prompt": "a", "\\ud800": 1}', b'{"prompt": ["a"]}', b'{"prompt": null}',
        b'{"prompt": "a", "n": ' + b"9" * 5000 + b"}", b'{"prompt": "a", "n": 1.5}', b'{"prompt": "a", "n": -1}',
        b'{"prompt": "a", "n": 1000000}', b'{"prompt": "a", "guidance_scale": NaN}',
        b'{"prompt": "a", "scale": 1e999}', b'{"prompt": "a", "seed": -1}', b'{"prompt": "a", "seed": 1e30}',
        b'{"prompt": "a", "size": "0x0"}', b'{"prompt": "a", "size": "-8x8"}', b'{"prompt": "a", "size": "16x16x16"}',
        b'{"prompt": "a", "size": "\xd9\xa1\xd9\xa6x16"}', b'{"prompt": "a", "size": "99999x99999"}',
        b'{"prompt": "a", "size": 16}', b'{"prompt": "a", "partial_images": 4}', b'{"prompt": "a", "stream": "yes!"}',
        b'{"prompt": "a", "image": "data:image/png;base64,AAAA"}', b"[" * 100_000, b'{"prompt": "a"} {}',
        b'{"prompt": "a", "guidance_scale": true}', b'{"prompt": "a", "n": true}', b'{"prompt": "a", "seed": "7"}',
        b'{"prompt": "a", "prompt_weights": "yes"}', b'{"prompt": "a", "stream": 1}',
    ],
)  # fmt: skip
def test_a_body_that_will_not_do_is_400(server: Running, body: bytes) -> None:
    answer = server.http.post(PATH, content=body, headers=JSON)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_a_form_on_another_sites_page_draws_nothing(server: Running, kind: str) -> None:
    answer = server.http.post(PATH, content=GOOD, headers={"Content-Type": kind, "Origin": "http://example.org"})
    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers
    assert server.http.options(PATH, headers={"Origin": "http://example.org"}).status_code == 405


@pytest.mark.parametrize("value", ["../../etc/passwd", "file:///etc/passwd", LINK_LOCAL, "/etc/passwd", "\\\\host\\x"])
def test_no_request_names_a_file_or_an_address(server: Running, value: str) -> None:
    for key in ("base", "adapter", "llm", "base_config", "image", "url", "lora", "device"):
        assert server.post(**TWO_STEPS, **{key: value}).status_code == 400
    assert server.post(**TWO_STEPS, model=value).status_code == 404
    for key in ("size", "output_format", "response_format", "background", "quality"):
        assert server.post(**TWO_STEPS, **{key: value}).status_code == 400
    as_text = server.post(**TWO_STEPS | {"prompt": value, "user": value})
    assert as_text.status_code == 200
    assert server.get(f"/{value}").status_code == 404


@pytest.mark.parametrize("path", ["/", "/docs", "/v1/images/edits", "/v1/../health/x", "/%2e%2e/%2e%2e/etc/passwd"])
def test_what_is_not_there_is_404_in_the_same_form(server: Running, path: str) -> None:
    answer = server.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "Not Found."
    assert server.get(PATH).status_code == 405


def test_a_body_that_is_too_large_is_413_before_it_is_sent(server: Running) -> None:
    with connected(server) as client:
        client.sendall(head(2**21))
        assert b"413" in client.recv(4096).split(b"\r\n")[0]
    with connected(server) as client:
        client.sendall(head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
        for _ in range(17):
            client.sendall(b"10000\r\n" + b" " * 2**16 + b"\r\n")
        assert b"413" in client.recv(4096).split(b"\r\n")[0]
    padded = server.http.post(PATH, content=GOOD + b" " * (2**20 - len(GOOD)), headers=JSON)
    assert padded.status_code == 200


def test_headers_that_do_not_come_close_the_connection(server: Running) -> None:
    begun = time.monotonic()
    with connected(server) as silent, connected(server) as slow:
        slow.sendall(b"POST / HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - begun < 10:  # a header every now and then does not help
                slow.sendall(b"X-A: b\r\n")
                time.sleep(0.2)
        assert 0.5 < time.monotonic() - begun < 8
        assert silent.recv(1) == b""


def test_so_do_those_of_a_second_request(server: Running) -> None:
    with connected(server) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in client.recv(4096)
        client.sendall(b"GET /health HTTP/1.1\r\n")
        begun = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
        assert 0.5 < time.monotonic() - begun < 8


def test_a_body_that_does_not_come_is_408(server: Running) -> None:
    with connected(server) as client:
        client.sendall(head(len(GOOD)) + GOOD[:5])
        begun = time.monotonic()
        assert b"408" in client.recv(4096).split(b"\r\n")[0]
        assert 0.5 < time.monotonic() - begun < 8


def test_many_slow_clients_keep_nobody_out(server: Running) -> None:
    slow = [connected(server) for _ in range(100)]
    for one in slow:
        one.sendall(b"GET /health HT")
    assert server.post(**TWO_STEPS).status_code == 200
    for one in slow:
        one.close()


def test_what_is_no_http_is_refused(server: Running) -> None:
    for noise in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", head("-1"), head("1e3")):
        with connected(server) as client:
            client.sendall(noise + b"\r\n\r\n")
            assert client.recv(4096).split(b"\r\n")[0].endswith(b"400 Bad Request")


def test_a_request_that_takes_too_long_is_given_up(renderer: Renderer, places: Places) -> None:
    with running(renderer, config_for(places, timeout=0.3, max_steps=999)) as server:
        body = TWO_STEPS | {"num_inference_steps": 999}
        answer = server.post(**body)
        assert answer.status_code == 504
        assert answer.headers["x-should-retry"] == "false"
        stream = server.post(**body, stream=True, partial_images=1)
        assert stream.status_code == 200
        assert "event: error" in stream.text
        assert '"code": "timeout"' in stream.text
        assert server.post(**TWO_STEPS | {"num_inference_steps": 1}).status_code == 200
        assert server.metric('llmdiff_pictures_total{outcome="cancelled"}') == 2
