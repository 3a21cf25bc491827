"""The page in a real browser: served on loopback, and as a file of its own."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from llmdiff.study import Study, collect_answers, export_page, study_report
from llmdiff.study.votes import Votes
from study.pictures import make_study

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed (Debian: apt install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


DESKTOP, PHONE = (1280, 800), (390, 844)


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return make_study(tmp_path, "red", "blue", count=2, trials=2, checks=0.0)


def begin(page: Page, address: str) -> None:
    """Opens a study and waits for its first pair."""
    page.goto(address)
    page.click("#start")
    page.wait_for_selector("#questions button:enabled")


def answer_all(page: Page, key: str | None = None) -> int:
    """Answers until the end, by keys or by buttons; gives the number of pairs seen."""
    seen = 0
    while page.locator("#end").is_hidden():
        page.wait_for_selector("#questions button:enabled, #end:not([hidden])")
        if page.locator("#end").is_visible():
            break
        trial = page.locator("body").get_attribute("data-trial")
        if key:
            page.keyboard.press(key)
            page.keyboard.press("ArrowUp")
        else:
            page.click('[data-question="follows"][data-answer="left"]')
            page.click('[data-question="better"][data-answer="neither"]')
        seen += 1
        page.wait_for_selector(f'body:not([data-trial="{trial}"])')
    return seen


@pytest.mark.parametrize("page", [DESKTOP], indirect=True)
def test_votes_by_keyboard_survive_a_reload(study: Study, page: Page, address: str) -> None:
    begin(page, address)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#number")).to_have_text(re.compile("^2 "))
    page.reload()
    expect(page.locator("#number")).to_have_text(re.compile("^2 "))
    seen = answer_all(page, "ArrowDown")
    expect(page.locator("#thanks")).to_have_text("All of your answers are saved.")
    votes = Votes(study)
    found = votes.all()
    votes.close()
    assert len({vote.rater for vote in found}) == 1
    assert len(found) == 2 * (seen + 1)
    assert {(vote.question, vote.answer) for vote in found[2:]} == {("follows", "neither"), ("better", "equal")}


@pytest.mark.parametrize("page", [PHONE], indirect=True)
def test_the_second_click_of_a_double_click_is_no_vote_on_the_next_pair(study: Study, page: Page, address: str) -> None:
    begin(page, address)
    page.dblclick('[data-question="follows"][data-answer="left"]')
    page.dblclick('[data-question="better"][data-answer="left"]')
    expect(page.locator("#number")).to_have_text(re.compile("^2 "))
    page.wait_for_selector("#questions button:enabled")
    assert page.locator('#questions [aria-pressed="true"]').count() == 0
    votes = Votes(study)
    assert len(votes.all()) == 2
    votes.close()


@pytest.mark.parametrize("page", [PHONE], indirect=True)
def test_an_answer_can_be_changed(study: Study, page: Page, address: str) -> None:
    begin(page, address)
    page.keyboard.press("1")
    page.keyboard.press("1")
    expect(page.locator("#number")).to_have_text(re.compile("^2 "))
    page.click("#back")
    page.wait_for_selector("#questions button:enabled")
    page.click('[data-question="follows"][data-answer="right"]')
    page.click("#forward")
    answer_all(page)
    votes = Votes(study)
    first = {vote.question: vote.answer for vote in votes.all()[:2]}
    votes.close()
    assert first == {"follows": "right", "better": "left"}


@pytest.mark.parametrize("page", [DESKTOP, PHONE], indirect=True)
def test_everything_is_in_sight_without_scrolling(page: Page, address: str) -> None:
    begin(page, address)
    height = page.viewport_size["height"]
    for part in ("#left", "#right", '[data-question="better"][data-answer="neither"]'):
        box = page.locator(part).bounding_box()
        assert box["width"] > 60
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= height
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("page", [DESKTOP], indirect=True)
def test_a_page_of_its_own_gives_a_file_of_answers(page: Page, tmp_path: Path) -> None:
    study = make_study(tmp_path, "red", "blue", count=2, trials=2)
    export_page(study, tmp_path / "page.html")
    page.goto((tmp_path / "page.html").as_uri())
    page.click("#start")
    page.wait_for_selector("#questions button:enabled")
    page.keyboard.press("ArrowLeft")
    with page.expect_download() as download:
        page.click("#stop")
    download.value.save_as(tmp_path / "so-far.json")
    assert collect_answers(study, [tmp_path / "so-far.json"]) == 1
    seen = answer_all(page)
    with page.expect_download() as download:
        page.click("#save")
    file = tmp_path / "answers.json"
    download.value.save_as(file)
    content = json.loads(file.read_text())
    assert len(content["trials"]) == seen == 2 + 1 + 5
    assert {trial["flipped"] for trial in content["trials"]} == {True, False}
    assert collect_answers(study, [file]) == 1
    assert len(study_report(study).raters) == 1
