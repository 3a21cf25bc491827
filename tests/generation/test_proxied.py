"""Pictures of rewritten prompts: what they record, how they are drawn again, and files of prompts."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from llmdiff.cli import main
from llmdiff.errors import LLMDiffError
from llmdiff.generation import GenerationRequest, generate, read_png, regenerate, write_png
from llmdiff.generation.png import prompt_in
from llmdiff.proxy import ProxyConfig
from proxy.loopback import Loopback, fails, loopback, says
from tiny_base import Places

PROMPT = "what a striker kicks"


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    monkeypatch.setenv("LLMDIFF_HOME", str(tmp_path / "home"))
    with loopback() as here:
        yield here


def request(places: Places, endpoint: Loopback, **proxy: object) -> GenerationRequest:
    config = ProxyConfig(url=endpoint.url, model="oracle", **proxy)  # type: ignore[arg-type]
    models = {"base": str(places.base), "adapter": str(places.adapter)}
    return GenerationRequest(prompts=[PROMPT], seed=3, steps=2, num=2, proxy=config, **models)  # type: ignore[arg-type]


def test_a_picture_says_all_of_its_rewriting_and_is_drawn_again_without_the_endpoint(
    places: Places, endpoint: Loopback, tmp_path: Path
) -> None:
    endpoint.reply = says("a red ball")
    picture = generate(request(places, endpoint, instruction="Resolve it."))[0]
    path = tmp_path / "picture.png"
    write_png(path, picture.image, picture.document())
    settings = read_png(path)[1].pictures[0].picture
    assert settings.prompt == PROMPT
    assert settings.rewriting is not None
    assert settings.rewriting.model_dump() == {
        "model": "oracle",
        "instruction": "Resolve it.",
        "texts": ("a red ball",),
    }
    assert endpoint.url.encode() not in path.read_bytes()
    with Image.open(path) as file:
        parameters = file.info["parameters"]
        assert prompt_in(path, dict(file.info)) == PROMPT
    assert parameters.startswith("a red ball\n")
    assert f"LLMDiff prompt: {PROMPT}, LLMDiff proxy: oracle" in parameters
    asked = len(endpoint.asked)
    endpoint.reply = fails(500)
    assert regenerate(path, base=str(places.base), adapter=str(places.adapter)).identical
    assert len(endpoint.asked) == asked


@pytest.mark.slow
def test_averaged_pictures_are_drawn_again_too(places: Places, endpoint: Loopback, tmp_path: Path) -> None:
    picture, second = generate(request(places, endpoint, rewritings=3, average=True))
    assert picture.metadata.picture.texts == tuple(f"{PROMPT} number {n}" for n in range(3))
    assert second.metadata.picture.texts == picture.metadata.picture.texts
    path = tmp_path / "picture.png"
    write_png(path, picture.image, picture.document())
    assert regenerate(path, base=str(places.base), adapter=str(places.adapter)).identical


def test_pictures_of_several_rewritings_take_turns(places: Places, endpoint: Loopback) -> None:
    pictures = generate(request(places, endpoint, rewritings=2))
    assert [one.metadata.picture.texts for one in pictures] == [(f"{PROMPT} number 0",), (f"{PROMPT} number 1",)]


def test_without_an_answer_the_picture_is_that_of_the_prompt(places: Places, endpoint: Loopback) -> None:
    endpoint.reply = fails(503)
    with pytest.warns(UserWarning, match="HTTP 503: the prompt is drawn as it is"):
        picture = generate(request(places, endpoint))[0]
    plain = generate(request(places, endpoint).model_copy(update={"proxy": None}))[0]
    assert picture.image == plain.image
    assert picture.metadata == plain.metadata


def test_weights_of_words_and_a_proxy_do_not_go_together(endpoint: Loopback) -> None:
    with pytest.raises(LLMDiffError, match="no weights of words"):
        GenerationRequest(prompts=["a"], proxy=ProxyConfig(url=endpoint.url, model="m"), prompt_weights=True)


def test_a_file_of_prompts_is_rewritten_and_gone_on_with(places: Places, endpoint: Loopback, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("one\ntwo\n")
    out = tmp_path / "out"
    call = [
        "generate", "--prompts", str(tmp_path / "prompts.txt"), "--out", str(out), "--steps", "1",
        "--base", str(places.base), "--adapter", str(places.adapter),
    ]  # fmt: skip
    proxy = ["--proxy", endpoint.url, "--proxy-model", "oracle"]
    assert main([*call, *proxy]) == 0
    texts = {path.name: read_png(path)[1].pictures[0].picture.texts for path in out.iterdir()}
    assert texts == {"1-one-s0.png": ("one number 0",), "2-two-s0.png": ("two number 0",)}
    (out / "2-two-s0.png").unlink()
    assert main([*call, *proxy]) == 0
    assert len(list(out.iterdir())) == 2
    assert main(call) == 1  # those that are there were drawn from other texts
    assert main([*call, *proxy[:3], "another"]) == 1


def test_options_of_a_proxy_need_one(endpoint: Loopback, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    instruction = tmp_path / "instruction.txt"
    for arguments, sentence in (
        (["--proxy-model", "m"], "give its URL"),
        (["--rewritings", "2"], "give its URL"),
        (["--proxy", endpoint.url], "--proxy-model"),
        (["--proxy", "localhost:8000", "--proxy-model", "m"], "https://host/v1"),
        (["--proxy", endpoint.url, "--proxy-model", "m", "--proxy-instruction", str(instruction)], "cannot be read"),
        (["--proxy", endpoint.url, "--proxy-model", "m", "--rewritings", "99"], "rewritings"),
        (["--proxy", endpoint.url, "--proxy-model", "m", "--proxy-key-env", "NOT_SET_AT_ALL"], "NOT_SET_AT_ALL"),
    ):
        assert main(["generate", "a ball", *arguments, "--out", str(tmp_path / "out")]) == 1
        assert sentence in capfd.readouterr().err
    assert endpoint.asked == []


def test_a_forged_record_may_not_ask_for_more_than_the_file_has(
    places: Places, endpoint: Loopback, tmp_path: Path
) -> None:
    picture = generate(request(places, endpoint))[0]
    path = tmp_path / "forged.png"
    document = json.loads(picture.document().model_dump_json())
    document["pictures"][0]["picture"] |= {"width": 2048, "height": 2048}
    document["pictures"][0]["picture"]["rewriting"]["texts"] = ["a"] * 16
    from llmdiff.generation import Document

    write_png(path, picture.image, Document.model_validate(document))
    with pytest.raises(LLMDiffError, match="changed since"):
        regenerate(path, base=str(places.base), adapter=str(places.adapter))
