"""Pictures over HTTP are those of the command line."""

import base64
from pathlib import Path

import numpy as np
import pytest

from llmdiff.generation import GenerationRequest, PictureSettings, Renderer, draw_listed, listed, read_png
from server.running import TWO_STEPS, Running, picture
from tiny_base import Places


def from_command_line(places: Places, folder: Path, prompt: str, seed: int, **options: object) -> bytes:
    """The file that `llmdiff generate` writes."""
    models = {"base": str(places.base), "adapter": str(places.adapter)}
    request = GenerationRequest.model_validate(models | {"prompts": [prompt], "seed": seed, "device": "cpu"} | options)
    (path,) = draw_listed(listed({1: request}, folder))
    return path.read_bytes()


def test_a_picture_is_the_file_that_the_command_line_writes(server: Running, places: Places, tmp_path: Path) -> None:
    answer = server.post(
        prompt="a red ball", negative_prompt="blue", seed=7, n=2, num_inference_steps=3, guidance_scale=3, scale=0.5
    ).json()
    options = {"negative": "blue", "steps": 3, "guidance": 3.0, "scale": 0.5}
    for number, one in enumerate(answer["data"]):
        expected = from_command_line(places, tmp_path, "a red ball", 7 + number, **options)
        assert base64.b64decode(one["b64_json"]) == expected
        assert one["seed"] == 7 + number
    assert answer["size"] == "16x16"
    assert answer["usage"]["input_tokens"] == answer["usage"]["input_tokens_details"]["text_tokens"] > 0


def test_what_is_not_said_is_the_servers(server: Running, tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(base64.b64decode(server.post(prompt="a box").json()["data"][0]["b64_json"]))
    settings = read_png(tmp_path / "one.png")[1].pictures[0].picture
    assert (settings.steps, settings.guidance, settings.scale, settings.width) == (4, 5.0, 1.0, 16)


@pytest.mark.parametrize(
    ("quality", "steps"), [("low", 2), ("medium", 4), ("auto", 4), ("high", 8), ("hd", 8), ("xhigh", 12), ("max", 100)]
)
def test_quality_is_a_number_of_steps(quality: str, steps: int) -> None:
    from llmdiff.server.schema import ImageRequest

    assert ImageRequest(prompt="a box", quality=quality).steps_or(4, 100) == steps  # type: ignore[arg-type]
    assert ImageRequest(prompt="a box", quality=quality).steps_or(4, 6) <= 6  # type: ignore[arg-type]


@pytest.mark.parametrize(("output_format", "quality"), [("jpeg", None), ("jpeg", 10), ("webp", 100)])
def test_other_formats_show_the_same_picture(
    server: Running, renderer: Renderer, output_format: str, quality: int | None
) -> None:
    body = TWO_STEPS | {"output_format": output_format, "output_compression": quality, "size": "32x16"}
    answer = server.post(**body).json()
    image = picture(answer["data"][0]["b64_json"])
    assert (image.format, image.size, answer["output_format"]) == (output_format.upper(), (32, 16), output_format)
    png = picture(server.post(**TWO_STEPS, size="32x16").json()["data"][0]["b64_json"])
    difference = np.abs(np.asarray(image.convert("RGB"), int) - np.asarray(png, int)).mean()
    assert difference < (40 if quality == 10 else 20)
    assert b"Steps: 2" in image.getexif().get_ifd(0x8769)[0x9286].decode("utf-16-be", "ignore").encode()


def test_a_prompt_that_is_cut_is_told_with_each_of_its_pictures(server: Running) -> None:
    for _ in range(2):
        answer = server.post(**TWO_STEPS | {"prompt": "word " * 3000}).json()
        base, llm = answer["warnings"]
        assert base.startswith("The base model's text encoder reads 16 of")
        assert llm == "The LLM reads 256 of the prompt's 15000 tokens: its first 256 characters."
        assert answer["usage"]["input_tokens"] == 15000
    assert server.post(**TWO_STEPS).json()["warnings"] == []


def test_models_and_health(server: Running) -> None:
    models = server.get("/v1/models").json()["data"]
    assert [one["id"] for one in models] == ["llmdiff"]
    assert server.get("/v1/models/llmdiff").json() == models[0]
    assert server.get("/v1/models/../etc/passwd").status_code == 404
    assert server.get("/health").json() == {"status": "ok"}


def test_counters_tell_what_was_drawn(server: Running) -> None:
    drawn = server.metric('llmdiff_pictures_total{outcome="drawn"}')
    turned_away = server.metric('llmdiff_requests_total{status="400"}') if server.post(prompt="") else 0
    server.post(**TWO_STEPS, n=3)
    server.post(**TWO_STEPS, n=0)
    assert server.metric('llmdiff_pictures_total{outcome="drawn"}') == drawn + 3
    assert server.metric('llmdiff_requests_total{status="400"}') == turned_away + 1
    assert server.metric("llmdiff_queue_pictures") == 0
    assert server.metric("process_resident_memory_bytes") > 0


def test_a_request_that_the_model_cannot_draw_is_the_clients_fault(server: Running, renderer: Renderer) -> None:
    for size in ("8x8", "8x24", "24x8"):
        answer = server.post(**TWO_STEPS, size=size)
        assert answer.status_code in (200, 400), answer.text
    assert server.post(**TWO_STEPS).status_code == 200


def test_a_drawn_picture_does_not_change_the_next(server: Running, renderer: Renderer) -> None:
    first = server.post(**TWO_STEPS).json()["data"]
    server.post(**TWO_STEPS | {"scale": -3, "guidance_scale": 1, "prompt_weights": True, "prompt": "(red:1.5) ball"})
    assert server.post(**TWO_STEPS).json()["data"] == first
    settings = PictureSettings(prompt="a red ball", steps=2, guidance=5, scale=1, seed=7, width=16, height=16)
    assert np.array_equal(picture(server.post(**TWO_STEPS).json()["data"][0]["b64_json"]), renderer.draw(settings))
