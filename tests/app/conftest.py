"""A real app of tiny models on loopback, and a browser."""

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect, sync_playwright

from llmdiff.app import AppSettings, ui_app
from tiny_base import Places

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@dataclass(frozen=True)
class Served:
    """An app that is being served: its address and its settings."""

    address: str
    settings: AppSettings


@pytest.fixture(scope="session")
def app_settings(places: Places, tmp_path_factory: pytest.TempPathFactory) -> AppSettings:
    folder = tmp_path_factory.mktemp("app")
    return AppSettings(
        str(places.base), None, (str(places.adapter),), str(places.llm), folder / "out", folder / "runs", "cpu"
    )


@pytest.fixture(scope="session")
def application(app_settings: AppSettings) -> FastAPI:
    return ui_app(app_settings)


@pytest.fixture(scope="session")
def served(application: FastAPI, app_settings: AppSettings) -> Iterator[Served]:
    with serving(application) as address:
        yield Served(address, app_settings)


class serving:  # noqa: N801 - used as a function
    """Within this context an application is served on a free port of loopback."""

    def __init__(self, app: FastAPI) -> None:
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> str:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}/"

    def __exit__(self, *error: object) -> None:
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture(scope="module")  # while it runs, no other event loop can be begun in its thread
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium is installed (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass(frozen=True)
class Visitor:
    """Somebody at the page, with a browser of their own.

    Attributes:
        page: that they see.
        away: addresses that the page has asked for and that are not the app's.
    """

    page: Page
    away: list[str]

    def open(self, tab: str) -> None:
        self.page.get_by_role("tab", name=tab, exact=True).click()

    def order(self, button: str, status: str) -> str:
        """Presses a button, waits until its order has ended, and gives what is said of it."""
        self.begin(button, status)
        return self.settle(status)

    def begin(self, button: str, status: str) -> None:
        """Presses a button, with a mark on what was said before."""
        self.page.evaluate(f"document.querySelector('#{status} .ld-status')?.setAttribute('data-before', '')")
        self.page.click(f"#{button}:enabled")

    def settle(self, status: str) -> str:
        """Waits until an order has ended, and gives what is said of it."""
        ends = (".ld-done", ".ld-problem", ".ld-stopped")
        self.page.wait_for_selector(", ".join(f"#{status} {end}:not([data-before])" for end in ends))
        return self.page.locator(f"#{status}").inner_text()

    def upload(self, button: str, file: Path) -> None:
        """Gives a file to a button."""
        with self.page.expect_file_chooser() as chooser:
            self.page.click(f"#{button}")
        chooser.value.set_files(file)

    def set_slider(self, name: str, value: float) -> None:
        """Sets a slider by its number, again if it was only just put on the page and did not take it."""
        box, slider = (self.page.locator(f"#{name} input[type={kind}]") for kind in ("number", "range"))
        for _ in range(20):
            box.fill(str(value))
            box.blur()
            self.page.wait_for_timeout(200)
            if slider.input_value() == str(value):
                return
        expect(slider).to_have_value(str(value))


@pytest.fixture
def visitor(browser: Browser, served: Served, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    yield from visit(browser, served, *getattr(request, "param", (1280, 860)))


@pytest.fixture
def second_visitor(browser: Browser, served: Served) -> Iterator[Visitor]:
    yield from visit(browser, served)


def visit(browser: Browser, served: Served, width: int = 1280, height: int = 860) -> Iterator[Visitor]:
    context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
    page = context.new_page()
    errors: list[str] = []
    visitor = Visitor(page, [])
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda one: errors.append(one.text) if one.type == "error" else None)  # what rules forbid too
    page.on("request", lambda one: None if is_ours(one.url, served.address) else visitor.away.append(one.url))
    page.goto(served.address)
    page.wait_for_selector("#draw")
    yield visitor
    context.close()
    assert errors == []
    assert visitor.away == []


def is_ours(address: str, app: str) -> bool:
    return address.startswith((app, "data:", "blob:"))


@pytest.fixture
def png(served: Served, tmp_path: Path) -> Path:
    """A PNG that was drawn elsewhere, by the same models."""
    from llmdiff.generation import GenerationRequest, generate, write_png

    settings = served.settings
    order = {"base": settings.base, "adapter": settings.adapters[0], "llm": settings.llm, "steps": 3, "scale": 0.7}
    [picture] = generate(GenerationRequest(prompts=["a blue house"], seed=99, **order))
    write_png(tmp_path / "from-elsewhere.png", picture.image, picture.document())
    return tmp_path / "from-elsewhere.png"
