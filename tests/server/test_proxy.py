"""A server that has prompts rewritten: by what it was started with, and nothing that a client sends."""

import base64
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from llmdiff.generation import Renderer, read_png
from llmdiff.proxy import ProxyConfig
from proxy.loopback import Loopback, fails, loopback, says
from server.running import TWO_STEPS, Running, config_for, running
from tiny_base import Places

KEY = "sk-of-the-operator"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Loopback]:
    with loopback() as here:
        yield here


@pytest.fixture(scope="module")
def server(
    renderer: Renderer, places: Places, endpoint: Loopback, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A server whose proxy gives two answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMDIFF_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("OF_THE_PROXY", KEY)
        proxy = ProxyConfig(url=endpoint.url, model="qwen3-32b", rewritings=2, key_env="OF_THE_PROXY")
        with running(renderer, config_for(places, proxy=proxy)) as one:
            yield one


def test_pictures_are_of_the_rewritings_which_the_answer_has(
    server: Running, endpoint: Loopback, tmp_path: Path
) -> None:
    with OpenAI(base_url=f"{server.address}/v1", api_key="anything") as client:
        made = client.images.generate(prompt="the animal that barks", n=3, extra_body={"num_inference_steps": 2})
    assert made.data is not None
    answers = [f"the animal that barks number {number}" for number in (0, 1, 0)]
    assert [one.revised_prompt for one in made.data] == answers
    for number, one in enumerate(made.data):
        assert one.b64_json is not None
        (tmp_path / "x.png").write_bytes(base64.b64decode(one.b64_json))
        picture = read_png(tmp_path / "x.png")[1].pictures[0].picture
        assert (picture.prompt, picture.texts) == ("the animal that barks", (answers[number],))
    assert endpoint.headers[-1]["authorization"] == f"Bearer {KEY}"
    before = len(endpoint.asked)
    server.post(**TWO_STEPS | {"prompt": "the animal that barks"})
    assert len(endpoint.asked) == before, "what is known is not asked again"


def test_a_stream_says_what_is_drawn(server: Running) -> None:
    text = server.post(**TWO_STEPS, stream=True).text
    data = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    assert [one["revised_prompt"] for one in data] == ["a red ball number 0"]


@pytest.mark.parametrize("key", ["proxy", "proxy_model", "revised_prompt", "rewritings"])
def test_no_client_names_a_proxy(server: Running, key: str) -> None:
    assert server.post(**TWO_STEPS, **{key: "http://127.0.0.1:9/v1"}).status_code == 400


def test_weights_of_words_are_refused(server: Running) -> None:
    answer = server.post(**TWO_STEPS, prompt_weights=True)
    assert answer.status_code == 400
    assert "rewritten" in answer.json()["error"]["message"]


@pytest.mark.parametrize("reply", [fails(401, KEY.encode()), fails(500), says(f"Bearer {KEY}"), says("")])
def test_what_fails_costs_a_warning_and_shows_no_key(
    server: Running, endpoint: Loopback, reply: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And is asked again by the next request."""
    prompt = f"a blue box {id(reply)}"
    with caplog.at_level(logging.DEBUG), monkeypatch.context() as patch:
        patch.setattr(endpoint, "reply", reply)
        answer = server.post(**TWO_STEPS | {"prompt": prompt})
    assert answer.status_code == 200
    assert answer.json()["data"][0]["revised_prompt"] is None
    assert "the prompt is drawn as it is" in answer.json()["warnings"][0]
    assert KEY not in answer.text + caplog.text
    again = server.post(**TWO_STEPS | {"prompt": prompt}).json()
    assert again["data"][0]["revised_prompt"] == f"{prompt} number 0"
    assert again["warnings"] == []


def test_without_a_proxy_there_is_no_revised_prompt(renderer: Renderer, places: Places) -> None:
    with running(renderer, config_for(places)) as plain:
        assert plain.post(**TWO_STEPS).json()["data"][0]["revised_prompt"] is None
