"""The queue: what waits is drawn in order, together where that may be, and given up once nobody waits for it."""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from llmdiff.errors import LLMDiffError
from llmdiff.generation import PictureSettings, Renderer
from server.running import PATH, TWO_STEPS, Running, config_for, picture, running
from tiny_base import Places

CANCELLED = 'llmdiff_pictures_total{outcome="cancelled"}'
DRAWN = 'llmdiff_pictures_total{outcome="drawn"}'
LONG = TWO_STEPS | {"num_inference_steps": 999}


@pytest.fixture
def small(renderer: Renderer, places: Places) -> Iterator[Running]:
    """A server in which four pictures wait, and up to three are drawn in a call."""
    with running(renderer, config_for(places, queue=4, batch_size=3, max_steps=999)) as one:
        yield one


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def leaving(server: Running, **body: Any) -> Iterator[None]:
    """A client that sends a request, and is gone at the end."""
    with (
        httpx.Client(base_url=server.address) as client,
        socket.create_connection((client.base_url.host, client.base_url.port or 0)) as connection,
    ):
        request = client.build_request("POST", PATH, json=body)
        lines = [f"POST {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items()), "", ""]
        connection.sendall("\r\n".join(lines).encode() + request.content)
        yield


def drawing(server: Running) -> int:
    return len(server.worker._drawing)


def end_of_what_is_drawn(server: Running) -> None:
    for order in server.worker._drawing:
        order.cancel()


def waiting(server: Running) -> float:
    return server.metric("llmdiff_queue_pictures")


def alone(renderer: Renderer, seed: int, steps: int = 2) -> np.ndarray:
    settings = PictureSettings(prompt="a red ball", steps=steps, guidance=5, scale=1, seed=seed, width=16, height=16)
    return np.asarray(renderer.draw(settings), int)


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_drawn_ends_when_its_client_leaves(small: Running, stream: bool) -> None:
    with leaving(small, **LONG, stream=stream, n=2):
        until(lambda: drawing(small) == 2)
    begun = time.monotonic()
    assert small.post(**TWO_STEPS).status_code == 200
    assert time.monotonic() - begun < 3  # and not the rest of two thousand steps
    assert small.metric(CANCELLED) == 2


def test_what_waits_is_forgotten_when_its_client_leaves(small: Running) -> None:
    with ThreadPoolExecutor(1) as pool, leaving(small, **LONG):
        until(lambda: drawing(small) == 1)
        with leaving(small, **TWO_STEPS, n=4):
            until(lambda: waiting(small) == 4)
        until(lambda: waiting(small) == 0)
        answer = pool.submit(small.post, **TWO_STEPS, n=4)  # there is room again
        until(lambda: waiting(small) == 4)
    assert answer.result().status_code == 200
    assert small.metric(CANCELLED) == 5


def test_who_comes_when_the_queue_is_full_is_told_when_to_come_again(small: Running) -> None:
    with leaving(small, **LONG):
        until(lambda: drawing(small) == 1)
        with leaving(small, **TWO_STEPS, n=3):
            until(lambda: waiting(small) == 3)
            refused = small.post(**TWO_STEPS, n=2)
            assert refused.status_code == 429
            assert refused.json()["error"]["code"] == "queue_full"
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            assert waiting(small) == 3  # none of its two is in it
    until(lambda: waiting(small) == 0)
    assert small.post(**TWO_STEPS, n=2).status_code == 200


def test_waiting_pictures_of_one_kind_share_a_call(small: Running, renderer: Renderer) -> None:
    kinds = [{}, {"num_inference_steps": 3}, {}, {}]
    with leaving(small, **LONG), ThreadPoolExecutor(4) as pool:
        until(lambda: drawing(small) == 1)
        answers = []
        for seed, kind in enumerate(kinds):
            answers.append(pool.submit(small.post, **TWO_STEPS | {"seed": seed} | kind))
            until(lambda seed=seed: waiting(small) == seed + 1)  # type: ignore[misc]
        end_of_what_is_drawn(small)
        results = [answer.result() for answer in answers]
    for seed, (kind, answer) in enumerate(zip(kinds, results, strict=True)):
        pixels = np.asarray(picture(answer.json()["data"][0]["b64_json"]), int)
        assert np.abs(pixels - alone(renderer, seed, kind.get("num_inference_steps", 2))).max() <= 1
    assert small.metric("llmdiff_call_pictures_count") == 3
    assert small.metric('llmdiff_call_pictures_bucket{le="1.0"}') == 2


def test_who_stays_gets_a_picture_that_another_of_the_call_left(small: Running, renderer: Renderer) -> None:
    body = TWO_STEPS | {"num_inference_steps": 20}
    with leaving(small, **LONG), ThreadPoolExecutor(1) as pool:
        until(lambda: drawing(small) == 1)
        with leaving(small, **body):
            until(lambda: waiting(small) == 1)
            stays = pool.submit(small.post, **body | {"seed": 1})
            until(lambda: waiting(small) == 2)
            end_of_what_is_drawn(small)
            until(lambda: drawing(small) == 2)
        pixels = np.asarray(picture(stays.result().json()["data"][0]["b64_json"]), int)
    assert np.abs(pixels - alone(renderer, 1, 20)).max() <= 1


def test_nobody_is_told_of_a_prompt_that_shared_the_call(small: Running) -> None:
    prompts = ["word " * 3000, "a red ball"]
    with leaving(small, **LONG), ThreadPoolExecutor(2) as pool:
        until(lambda: drawing(small) == 1)
        answers = [pool.submit(small.post, **TWO_STEPS | {"prompt": prompt}) for prompt in prompts]
        until(lambda: waiting(small) == 2)
        end_of_what_is_drawn(small)
        words = [answer.result().json()["warnings"] for answer in answers]
        assert "256 of the prompt's" in words[0][-1]
        assert words[1] == []
    assert small.metric("llmdiff_call_pictures_sum") == 3


def test_of_a_call_that_fails_each_is_drawn_alone(
    small: Running, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Renderer.draw_batch

    def at_fault(self: Renderer, pictures: Sequence[PictureSettings], *others: Any) -> list[Image.Image]:
        if any(one.seed == 8 for one in pictures):
            raise LLMDiffError("There is not enough memory for it: ask for a smaller --size.")
        return whole(self, pictures, *others)

    monkeypatch.setattr(Renderer, "draw_batch", at_fault)
    answer = small.post(**TWO_STEPS, n=2)  # 7 and 8
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "There is not enough memory for it: ask for a smaller size."
    events = small.post(**TWO_STEPS, n=2, stream=True).text.split("\n\n")
    assert [event.partition("\n")[0] for event in events] == ["event: image_generation.completed", "event: error", ""]


def test_a_server_that_fails_again_and_again_says_so(small: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> list[Image.Image]:
        raise RuntimeError("a secret of the machine")

    with monkeypatch.context() as patch:
        patch.setattr(Renderer, "draw_batch", broken)
        for _ in range(3):
            assert small.get("/health").status_code == 200
            answer = small.post(**TWO_STEPS)
            assert answer.status_code == 500
            assert "secret" not in answer.text
            until(lambda: drawing(small) == 0)
        assert small.get("/health").status_code == 503
    assert small.post(**TWO_STEPS).status_code == 200
    until(lambda: small.get("/health").status_code == 200)
    assert small.metric('llmdiff_pictures_total{outcome="failed"}') == 3


def test_a_server_that_is_closed_gives_up_what_it_draws(renderer: Renderer, places: Places) -> None:
    with running(renderer, config_for(places, max_steps=999, grace=10)) as server, ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(server.post, **LONG) for _ in range(2)]
        until(lambda: drawing(server) == 1 and waiting(server) == 1)
        begun = time.monotonic()
        server.worker.close()
        assert {answer.result().status_code for answer in answers} == {503}
        assert time.monotonic() - begun < 3
        assert server.post(**TWO_STEPS).status_code == 503
        assert server.get("/health").status_code == 503
