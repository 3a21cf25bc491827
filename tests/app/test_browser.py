"""The app in a real browser, with tiny models that draw in a moment."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from app.conftest import Served, Visitor
from app.test_runs import ROWS, write_run
from llmdiff.generation import GenerationRequest, generate, read_png

PHONE = (390, 844)
IMAGES = "#base-picture img, #adapted-picture img"


def draw(visitor: Visitor, prompt: str, steps: int = 3) -> str:
    """Fills the form, draws, and gives what is said at the end."""
    visitor.page.locator("#prompt textarea").fill(prompt)
    set_steps(visitor, steps)
    return visitor.order("draw", "status")


def set_steps(visitor: Visitor, steps: int) -> None:
    if visitor.page.locator("#steps input[type=number]").is_hidden():
        visitor.page.get_by_text("More settings").click()
        visitor.page.wait_for_selector("#steps input[type=number]")
    visitor.set_slider("steps", steps)


def download(visitor: Visitor, name: str, folder: Path) -> Path:
    visitor.page.hover(f"#{name}")
    with visitor.page.expect_download() as started:
        visitor.page.locator(f"#{name} [aria-label='Download'], #{name} a[download]").first.click()
    path = folder / f"{name}.png"
    started.value.save_as(path)
    return path


def test_from_a_prompt_to_two_pictures_and_their_files(visitor: Visitor, served: Served, tmp_path: Path) -> None:
    counts = visitor.page.locator("#prompt-counts")
    visitor.page.locator("#prompt textarea").fill("a red ball")
    expect(counts).to_contain_text("10 / 256 tokens")
    visitor.page.locator("#prompt textarea").fill("<b>word</b> " * 60)
    expect(counts.locator("mark").first).to_be_visible()
    assert "Done" in draw(visitor, "a red ball")
    expect(visitor.page.locator(IMAGES)).to_have_count(2)
    image, document = read_png(download(visitor, "adapted-picture", tmp_path))
    settings = document.pictures[0].picture
    assert (settings.prompt, settings.steps, settings.seed) == ("a red ball", 3, 7)
    models = {"base": served.settings.base, "adapter": served.settings.adapters[0], "llm": served.settings.llm}
    [expected] = generate(GenerationRequest(prompts=["a red ball"], steps=3, seed=7, **models))
    assert np.array_equal(np.asarray(image), np.asarray(expected.image))
    assert "empty" in draw(visitor, "   ")


@pytest.mark.slow
def test_a_reload_keeps_the_form_and_goes_on(visitor: Visitor) -> None:
    draw(visitor, "a blue box", steps=4)
    visitor.page.reload()
    visitor.page.wait_for_selector("#draw")
    expect(visitor.page.locator("#prompt textarea")).to_have_value("a blue box")
    assert "Done" in draw(visitor, "a blue ball")


@pytest.mark.slow
def test_stop_ends_at_the_next_step(visitor: Visitor) -> None:
    visitor.page.locator("#prompt textarea").fill("a red ball")
    set_steps(visitor, 200)
    visitor.begin("draw", "status")
    visitor.page.click("#stop:enabled")
    begun = time.monotonic()
    assert "Stopped" in visitor.settle("status")
    assert time.monotonic() - begun < 3
    assert "Done" in draw(visitor, "a red ball")


@pytest.mark.slow
def test_two_visitors_wait_for_each_other_and_get_their_own(
    visitor: Visitor, second_visitor: Visitor, tmp_path: Path
) -> None:
    for one, prompt in ((visitor, "a red ball"), (second_visitor, "a blue house")):
        one.page.locator("#prompt textarea").fill(prompt)
        set_steps(one, 200)
    visitor.page.click("#draw")
    visitor.page.wait_for_selector("#status :text('%')")
    second_visitor.page.click("#draw")
    expect(second_visitor.page.locator("#status")).to_contain_text("1 order before yours")
    assert "Done" in visitor.settle("status")
    assert "Done" in second_visitor.settle("status")
    for number, (one, prompt) in enumerate(((visitor, "a red ball"), (second_visitor, "a blue house"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        found = read_png(download(one, "adapted-picture", folder))[1].pictures[0].picture
        assert (found.prompt, found.steps) == (prompt, 200)


@pytest.mark.slow
def test_who_leaves_stops_their_order(visitor: Visitor, second_visitor: Visitor) -> None:
    set_steps(visitor, 200)
    visitor.page.click("#draw")
    visitor.page.wait_for_selector("#status :text('%')")
    visitor.page.close()
    assert "Done" in draw(second_visitor, "a blue house")


@pytest.mark.slow
def test_a_sheet_of_scales_and_one_of_prompts(visitor: Visitor, tmp_path: Path) -> None:
    set_steps(visitor, 2)
    visitor.open("Sweep")
    expect(visitor.page.locator("#sweep-order")).to_contain_text("2 steps")
    visitor.page.locator("#sweep-scales textarea, #sweep-scales input").first.fill("0, 1")
    visitor.set_slider("sweep-seeds", 2)
    assert "4 pictures" in visitor.order("sweep-draw", "sweep-status")
    with Image.open(download(visitor, "sheet", tmp_path)) as sheet:
        assert sheet.width > 2 * 192
    visitor.page.get_by_text("Adapter × prompt").click()
    visitor.page.locator("#sweep-prompts textarea").fill("a ball\n\na house\na box\n")
    assert "6 pictures" in visitor.order("sweep-draw", "sweep-status")
    visitor.page.get_by_text("Scale × seed").click()
    visitor.page.locator("#sweep-scales textarea, #sweep-scales input").first.fill("zero")
    assert "Scales are numbers" in visitor.order("sweep-draw", "sweep-status")


@pytest.mark.slow
def test_why_shows_each_word(visitor: Visitor) -> None:
    visitor.page.locator("#prompt textarea").fill("a red <i>ball</i> ${1+1} {{2+2}}")
    set_steps(visitor, 2)
    visitor.open("Why")
    expect(visitor.page.locator("#why-order")).to_contain_text("a red <i>ball</i> ${1+1} {{2+2}}")
    visitor.page.locator("#exchange textarea, #exchange input").first.fill("red=<b>blue</b>")
    assert "9 words" in visitor.order("why-ask", "why-status")
    words = visitor.page.locator("#why-words .ld-word")
    assert [words.nth(n).locator("h4").inner_text() for n in range(words.count())] == [
        "a",
        "red",
        "i",
        "ball",
        "i",
        "1",
        "1",
        "2",
        "2",
    ]
    assert visitor.page.locator("#why-words figure").count() == 9 * 3
    expect(visitor.page.locator("#why-moved")).to_contain_text("red → <b>blue</b>")
    expect(visitor.page.locator("#why-blocks canvas, #why-blocks svg").first).to_be_visible()


@pytest.mark.slow
def test_two_runs_beside_each_other_grow(visitor: Visitor, served: Served) -> None:
    root = served.settings.runs
    write_run(root / "first")
    samples = write_run(root / "second", [{"step": 1, "loss": 0.9}]) / "samples"
    samples.mkdir(exist_ok=True)
    Image.new("RGB", (64, 64), "red").save(samples / "000001.png")
    visitor.page.reload()
    visitor.page.wait_for_selector("#draw")
    visitor.open("Runs")
    for name, run in (("run-first", "first"), ("run-second", "second")):
        visitor.page.locator(f"#{name} input").click()
        visitor.page.locator(f"#{name} input").fill(run)
        visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("#run-state-1")).to_contain_text("0.2000")
    expect(visitor.page.locator("#run-levels-1")).to_contain_text("-66.7%")
    expect(visitor.page.locator("#run-sheets-2 img").first).to_be_visible()
    expect(visitor.page.locator("#run-loss canvas, #run-loss svg").first).to_be_visible()
    with (root / "first" / "log.jsonl").open("a") as log:
        log.write(json.dumps({"step": 50, "loss": 0.125}) + "\n")
    expect(visitor.page.locator("#run-state-1")).to_contain_text("0.1250", timeout=20_000)
    assert ROWS[-1]["step"] == 40


@pytest.mark.slow
def test_a_png_is_read_back_into_the_form(visitor: Visitor, png: Path, tmp_path: Path) -> None:
    visitor.open("Gallery")
    visitor.upload("upload", png)
    expect(visitor.page.locator("#gallery-status")).to_contain_text("models that drew it are here")
    expect(visitor.page.locator("#gallery-facts")).to_contain_text("a blue house")
    visitor.page.click("#use")
    expect(visitor.page.locator("#prompt textarea")).to_have_value("a blue house")
    visitor.page.wait_for_selector("#draw:visible")
    assert "seed 99" in visitor.order("draw", "status")
    again = read_png(download(visitor, "adapted-picture", tmp_path))[0]
    assert np.array_equal(np.asarray(again), np.asarray(read_png(png)[0]))
    for name, content in (("plain.png", None), ("damaged.png", b"\x89PNG no")):
        bad = tmp_path / name
        Image.new("RGB", (8, 8)).save(bad) if content is None else bad.write_bytes(content)
        visitor.open("Gallery")
        visitor.upload("upload", bad)
        expect(visitor.page.locator("#gallery-status")).to_contain_text(re.compile("does not say|not a picture"))
        assert "/tmp" not in visitor.page.locator("#gallery-status").inner_text()


@pytest.mark.slow
def test_the_gallery_shows_what_was_drawn(visitor: Visitor) -> None:
    draw(visitor, "the box on the house")
    visitor.open("Gallery")
    visitor.page.locator("#gallery button img").first.click()
    expect(visitor.page.locator("#gallery-facts")).to_contain_text("the box on the house")


@pytest.mark.slow
@pytest.mark.parametrize("visitor", [PHONE], indirect=True)
def test_nothing_is_wider_than_a_phone(visitor: Visitor) -> None:
    draw(visitor, "a red ball on the house and the box and the ball and the blue word", steps=2)
    for tab in ("Draw", "Sweep", "Why", "Runs", "Gallery"):
        visitor.open(tab)
        if tab == "Why":
            visitor.order("why-ask", "why-status")
        visitor.page.wait_for_timeout(300)
        assert visitor.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), tab
