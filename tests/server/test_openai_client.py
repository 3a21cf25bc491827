"""The official client, as it is installed."""

import asyncio
from collections.abc import Iterator

import numpy as np
import openai
import pytest

from llmdiff.generation import PictureSettings, Renderer
from server.running import Running, config_for, picture, running
from tiny_base import Places

KEY = "a-key-of-ours"
EXTRA = {"num_inference_steps": 8, "guidance_scale": 4, "negative_prompt": "blue", "seed": 3, "scale": 0.7}


@pytest.fixture(scope="module")
def guarded(renderer: Renderer, places: Places) -> Iterator[Running]:
    """A server that asks for a key."""
    with running(renderer, config_for(places, api_key=KEY, model_name="some/model", queue=4)) as one:
        yield one


@pytest.fixture(scope="module")
def client(guarded: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{guarded.address}/v1", api_key=KEY, max_retries=0)


def expected(renderer: Renderer, seed: int = 3) -> np.ndarray:
    settings = PictureSettings(
        prompt="a red ball", negative="blue", steps=8, guidance=4, scale=0.7, seed=seed, width=16, height=16
    )
    return np.asarray(renderer.draw(settings))


def test_it_generates(client: openai.OpenAI, renderer: Renderer) -> None:
    answer = client.images.generate(
        prompt="a red ball", model="some/model", n=2, size="16x16", quality="high", output_format="png",
        background="auto", moderation="low", user="somebody", response_format="b64_json", extra_body=EXTRA,
    )  # fmt: skip
    assert answer.data is not None
    for number, one in enumerate(answer.data):
        assert np.array_equal(picture(str(one.b64_json)), expected(renderer, 3 + number))
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0


def test_it_generates_asynchronously(guarded: Running, renderer: Renderer) -> None:
    async def draw() -> list[np.ndarray]:
        async with openai.AsyncOpenAI(base_url=f"{guarded.address}/v1", api_key=KEY) as client:
            tasks = [
                client.images.generate(prompt="a red ball", extra_body=EXTRA | {"seed": seed}) for seed in range(3)
            ]
            answers = await asyncio.gather(*tasks)
        return [np.asarray(picture(answer.data[0].b64_json)) for answer in answers]

    for seed, pixels in enumerate(asyncio.run(draw())):
        assert np.array_equal(pixels, expected(renderer, seed))


def test_it_streams_pictures_that_come_nearer(client: openai.OpenAI, renderer: Renderer) -> None:
    events = list(
        client.images.generate(prompt="a red ball", stream=True, partial_images=3, extra_body=EXTRA)
    )  # fmt: skip
    kinds = ["image_generation.partial_image"] * 3 + ["image_generation.completed"]
    assert [event.type for event in events] == kinds
    assert [getattr(event, "partial_image_index", None) for event in events] == [0, 1, 2, None]
    assert {(event.size, event.output_format, event.background) for event in events} == {("16x16", "png", "opaque")}
    pixels = [np.asarray(picture(event.b64_json), int) for event in events]
    assert np.array_equal(pixels[-1], expected(renderer))
    distances = [np.abs(one - pixels[-1]).mean() for one in pixels]
    assert distances[0] > distances[1] > distances[2] > distances[3] == 0


def test_a_stream_may_be_of_several_pictures(client: openai.OpenAI, renderer: Renderer) -> None:
    stream = client.images.generate(prompt="a red ball", stream=True, partial_images=1, n=2, extra_body=EXTRA)
    events = list(stream)
    assert [event.type.rpartition(".")[2] for event in events] == ["partial_image", "completed"] * 2
    for number, event in enumerate(events[1::2]):
        assert np.array_equal(picture(event.b64_json), expected(renderer, 3 + number))


def test_it_streams_asynchronously(guarded: Running, renderer: Renderer) -> None:
    async def draw() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{guarded.address}/v1", api_key=KEY) as client:
            stream = await client.images.generate(prompt="a red ball", stream=True, extra_body=EXTRA)
            return [event.b64_json async for event in stream]

    (only,) = asyncio.run(draw())
    assert np.array_equal(picture(only), expected(renderer))


def test_it_lists_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["some/model"]
    assert client.models.retrieve("some/model").id == "some/model"
    with pytest.raises(openai.NotFoundError, match="There is no such model"):
        client.models.retrieve("other")


@pytest.mark.parametrize(
    ("change", "error", "param"),
    [
        ({"n": 10**6}, openai.BadRequestError, "n"),
        ({"n": 11}, openai.BadRequestError, "n"),
        ({"size": "1024x1023"}, openai.BadRequestError, "size"),
        ({"size": "8192x8192"}, openai.BadRequestError, "size"),
        ({"model": "gpt-image-2"}, openai.NotFoundError, "model"),
        ({"background": "transparent"}, openai.BadRequestError, "background"),
        ({"output_format": "svg"}, openai.BadRequestError, "output_format"),
        ({"response_format": "url"}, openai.BadRequestError, "response_format"),
        ({"prompt": "x" * 32_001}, openai.BadRequestError, "prompt"),
        ({"extra_body": {"num_inference_steps": 101}}, openai.BadRequestError, "num_inference_steps"),
        ({"extra_body": {"base": "/etc"}}, openai.BadRequestError, "base"),
        ({"n": 5}, openai.RateLimitError, None),
    ],
)
def test_its_exceptions_say_what_is_wrong(
    client: openai.OpenAI, change: dict, error: type[openai.APIStatusError], param: str | None
) -> None:
    with pytest.raises(error) as raised:
        client.images.generate(**{"prompt": "a red ball"} | change)
    assert raised.value.param == param
    assert raised.value.message
    if error is openai.RateLimitError:
        assert int(raised.value.response.headers["retry-after"]) >= 1


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", f"Bearer {KEY}x", f"Basic {KEY}", "Bearer ключ"])
def test_another_key_is_refused(guarded: Running, given: str) -> None:
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/images/generations"), ("GET", "/v1/")):
        answer = guarded.http.request(method, path, headers={"Authorization": given.encode()})
        assert answer.status_code == 401
        assert answer.json()["error"]["type"] == "authentication_error"
        assert KEY not in answer.text + str(answer.headers)
    assert guarded.get("/health").status_code == 200


def test_the_key_is_in_no_text_about_the_server(places: Places) -> None:
    config = config_for(places, api_key=KEY)
    assert KEY not in f"{config!r}{config}{config.model_dump()}{config.model_dump_json()}"
