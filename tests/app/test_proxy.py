"""The app with a proxy: a visitor may have prompts rewritten, by what the app was started with."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from app.conftest import Served, Visitor, serving, visit
from app.test_studio import VALUES, run
from llmdiff.app import AppSettings, ui_app
from llmdiff.app.studio import Studio
from llmdiff.errors import LLMDiffError
from llmdiff.generation import generate, read_png
from llmdiff.proxy import ProxyConfig
from proxy.loopback import Loopback, fails, loopback


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    with pytest.MonkeyPatch.context() as patch, loopback() as here:
        patch.setenv("LLMDIFF_HOME", str(tmp_path_factory.mktemp("home")))
        yield here


@pytest.fixture(scope="module")
def settings(app_settings: AppSettings, endpoint: Loopback, tmp_path_factory: pytest.TempPathFactory) -> AppSettings:
    proxy = ProxyConfig(url=endpoint.url, model="qwen3-32b")
    return replace(app_settings, proxy=proxy, out=tmp_path_factory.mktemp("proxied") / "out")


@pytest.fixture(scope="module")
def studio(settings: AppSettings) -> Studio:
    return Studio(settings)


def test_a_picture_is_drawn_from_the_rewriting_where_that_is_asked_for(studio: Studio) -> None:
    request = studio.request(["a red ball"], VALUES | {"rewrite": True, "compare": True})
    pair = run(lambda job: studio.draw(job, request))
    assert pair.rewritten == ("a red ball number 0",)
    assert read_png(pair.adapted)[1].pictures[0] == generate(request)[0].metadata
    plain = run(lambda job: studio.draw(job, studio.request(["a red ball"], VALUES | {"rewrite": False})))
    assert plain.rewritten == ()
    assert read_png(plain.adapted)[1].pictures[0].picture.rewriting is None


def test_sweeps_and_reasons_are_of_the_rewriting_too(studio: Studio, endpoint: Loopback) -> None:
    request = studio.request(["a blue box"], VALUES | {"rewrite": True})
    run(lambda job: studio.sweep_scales(job, request, [0.0]))
    run(lambda job: studio.sweep_adapters(job, request))
    explanation: Any = run(lambda job: studio.why(job, request, {}))
    assert explanation.settings.prompt == "a blue box number 0"
    assert [one["messages"][-1]["content"] for one in endpoint.asked].count("a blue box") == 1


def test_what_the_proxy_fails_in_is_shown_and_asked_again(
    studio: Studio, endpoint: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = studio.request(["a house"], VALUES | {"rewrite": True})
    with monkeypatch.context() as patch:
        patch.setattr(endpoint, "reply", fails(401))
        pair = run(lambda job: studio.draw(job, request))
    assert pair.rewritten == ()
    assert pair.words == ("The proxy 'qwen3-32b' does not accept the key (HTTP 401): the prompt is drawn as it is.",)
    assert run(lambda job: studio.draw(job, request)).rewritten == ("a house number 0",)


def test_weights_of_words_and_a_rewriting_exclude_each_other(studio: Studio) -> None:
    with pytest.raises(LLMDiffError, match="turn off one of the two"):
        studio.request(["a"], VALUES | {"rewrite": True, "prompt_weights": True})


def test_an_app_without_a_proxy_asks_none(app_settings: AppSettings, studio: Studio) -> None:
    plain = Studio(app_settings, studio.renderer)
    assert plain.request(["a"], VALUES | {"rewrite": True, "prompt_weights": True}).proxy is None


@pytest.fixture
def proxied(browser: Browser, settings: AppSettings, studio: Studio) -> Iterator[Visitor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", "")  # to be as before once this second app of the process has set it
        app = ui_app(settings, renderer=studio.renderer)
        with serving(app) as address:
            yield from visit(browser, Served(address, settings))


@pytest.mark.slow
def test_the_page_has_a_box_for_it_and_shows_what_is_drawn(proxied: Visitor) -> None:
    proxied.page.get_by_text("More settings").click()
    proxied.page.get_by_label("Have qwen3-32b rewrite the prompt").check()
    proxied.page.locator("#prompt textarea").fill("a red <b>cup</b>")
    assert "Done" in proxied.order("draw", "status")
    expect(proxied.page.locator("#rewritten")).to_contain_text("a red <b>cup</b> number 0")
    proxied.page.get_by_label("Have qwen3-32b rewrite the prompt").uncheck()
    assert "Done" in proxied.order("draw", "status")
    expect(proxied.page.locator("#rewritten")).to_have_text("")


@pytest.mark.slow
def test_a_page_without_a_proxy_has_none(visitor: Visitor, tmp_path: Path) -> None:
    visitor.page.get_by_text("More settings").click()
    expect(visitor.page.locator("#compare")).to_be_visible()
    assert visitor.page.get_by_text("rewrite the prompt").count() == 0
