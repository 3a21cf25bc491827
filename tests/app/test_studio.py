"""What the page asks of the models, without the page."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.app import AppSettings, parts
from llmdiff.app.jobs import Job
from llmdiff.app.pictures import for_page, newest_pictures, thumbnail
from llmdiff.app.reading import Reader
from llmdiff.app.settings import MOST_PICTURES, MOST_STEPS
from llmdiff.app.studio import Studio, labels_of
from llmdiff.app.tab_sweep import scales_in
from llmdiff.app.tab_why import replacements_in
from llmdiff.errors import LLMDiffError
from llmdiff.generation import GenerationRequest, generate, load_pipeline, read_png
from llmdiff.language import LanguageModel
from tiny_base import Places

VALUES = {"steps": 2, "seed": 5, "guidance": 3.0}


@pytest.fixture(scope="module")
def second_adapter(places: Places, tiny_llm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other") / "fox"
    LLMDiffAdapter.create(load_pipeline(places.base), tiny_llm, mode="replace", seed=3).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def studio(app_settings: AppSettings, second_adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Studio:
    out = tmp_path_factory.mktemp("studio") / "out"
    return Studio(replace(app_settings, adapters=(*app_settings.adapters, str(second_adapter)), out=out))


def run(work: Callable[[Job], Any]) -> Any:
    job = Job(work, "me")
    job.run()
    if job.error is not None:
        raise job.error
    return job.result


def same(one: Image.Image, other: Image.Image) -> bool:
    return np.array_equal(np.asarray(one.convert("RGB")), np.asarray(other.convert("RGB")))


def test_pictures_are_those_of_the_command_line(studio: Studio) -> None:
    request = studio.request(["a red ball"], VALUES | {"compare": True, "scale": 0.5})
    pair = run(lambda job: studio.draw(job, request))
    [expected] = generate(request)
    assert expected.base is not None
    assert pair.base is not None
    for path, picture in ((pair.adapted, expected), (pair.base, expected.base)):
        image, document = read_png(path)
        assert same(image, picture.image)
        assert document.pictures[0] == picture.metadata
    assert read_png(pair.adapted.with_name(f"{pair.adapted.stem}-compare.png"))[1].kind == "comparison"
    again = run(lambda job: studio.draw(job, request))
    assert again.adapted != pair.adapted
    assert again.adapted.read_bytes() == pair.adapted.read_bytes()


def test_a_sheet_of_scales_begins_with_the_base_model(studio: Studio) -> None:
    request = studio.request(["a red ball"], VALUES | {"num": 2})
    seen: list[float] = []
    job = Job(lambda job: studio.sweep_scales(job, request, [0.0, 1.0]), "me")
    report = job.report
    job.report = lambda stage, share: (seen.append(share), report(stage, share))[1]  # type: ignore[method-assign]
    job.run()
    sheet = job.result
    pair = run(lambda job: studio.draw(job, studio.request(["a red ball"], VALUES | {"compare": True})))
    assert same(sheet.images[0][0], Image.open(pair.base))  # in augment mode scale 0 is the base model, bit for bit
    assert same(sheet.images[0][1], Image.open(pair.adapted))
    assert (sheet.columns, sheet.rows) == (["scale 0", "scale 1"], ["seed 5", "seed 6"])
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert sheet.image().width > sheet.images[0][0].width * 2


def test_a_sheet_of_adapters_has_each_ones_own_pictures(studio: Studio, second_adapter: Path) -> None:
    request = studio.request(["a red ball", "the house"], VALUES)
    sheet = run(lambda job: studio.sweep_adapters(job, request))
    assert len(sheet.columns) == 3
    for row, prompt in zip(sheet.images, sheet.rows, strict=True):
        base, *adapted = row
        for image, adapter in zip([base, *adapted], ["none", *studio.adapters], strict=True):
            order = {"base": studio.settings.base, "adapter": adapter, "prompts": [prompt], **VALUES}
            [expected] = generate(
                GenerationRequest(**order | ({} if adapter == "none" else {"llm": studio.settings.llm}))
            )
            assert same(image, expected.image)


def test_an_llm_that_two_adapters_read_is_loaded_once(studio: Studio) -> None:
    llms = {id(renderer.adapter.llm) for renderer in studio._renderers.values() if renderer.adapter}
    assert len(llms) == 1


def test_what_the_form_may_ask_for_is_bounded(studio: Studio) -> None:
    assert studio.request(["a cup"], VALUES | {"size": "32x32"}).size == (32, 32)
    for values, problem in (
        ({"steps": MOST_STEPS + 1}, "steps"),
        ({"size": "64x64"}, "too large"),
        ({"size": "17x17"}, "multiples of 8"),
        ({"adapter": "/etc"}, "no such adapter"),
        ({"scale": 99}, "scale"),
        ({"num": 0}, "num"),
    ):
        with pytest.raises(LLMDiffError, match=problem):
            studio.request(["a cup"], VALUES | values)
    with pytest.raises(LLMDiffError, match=f"1 to {MOST_PICTURES}"):
        run(lambda job: studio.sweep_scales(job, studio.request(["a"], {"num": 10}), [n / 10 for n in range(10)]))


def test_why_has_a_map_for_each_word(studio: Studio) -> None:
    found = run(lambda job: studio.why(job, studio.request(["a red ball"], VALUES), {"red": "blue"}))
    assert found.adapted.adapter.shape[0] == 3
    assert found.exchanges.replacements == ("", "blue", "")


def test_tokens_are_counted_for_both_readers_and_cuts_are_marked(studio: Studio) -> None:
    reader = Reader(studio.renderer)
    found = reader.read("a red ball")
    assert found is not None
    assert found.llm is not None
    assert found.base is not None
    assert (found.llm.count, found.base.count, found.base.limit) == (10, 3, 16)
    long = reader.read("<b>word</b> " * 60)
    assert long is not None
    html = parts.counts(long)
    assert "<b>word" not in html
    assert html.count("✂") == 2
    assert html.count("&lt;b&gt;word&lt;/b&gt;") > 2
    assert reader.read("a (ball:1.2)", prompt_weights=True) == reader.read("a ball")


def test_labels_do_not_tell_where_adapters_lie() -> None:
    labels = labels_of(["/home/me/secret/a/adapter", "/home/me/other/a/adapter", "me/fox", "embedded"])
    assert list(labels) == ["a/adapter", "a/adapter (2)", "me/fox", "embedded"]


@pytest.mark.parametrize("text", ["", "a", "1, x", "nan", "11", "1e999"])
def test_scales_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(LLMDiffError, match=r"[Ss]cales"):
        scales_in(text)


def test_lists_of_the_form_are_read() -> None:
    assert scales_in(" 0; .5,1\n1 ") == [0, 0.5, 1]
    assert replacements_in("red = dark green , ball=") == {"red": "dark green", "ball": ""}
    with pytest.raises(LLMDiffError, match="word=other"):
        replacements_in("red")


def test_the_page_gets_copies_with_all_that_a_png_carries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, studio: Studio
) -> None:
    pair = run(lambda job: studio.draw(job, studio.request(["a red ball"], VALUES)))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "page"))
    copy = for_page(pair.adapted)
    assert copy.is_relative_to(tmp_path / "page")
    assert copy.name == pair.adapted.name
    assert copy.read_bytes() == pair.adapted.read_bytes()
    assert thumbnail(pair.adapted, 8) != copy
    assert newest_pictures(studio.settings.out)[0] == pair.adapted
    assert newest_pictures(tmp_path / "none") == []
