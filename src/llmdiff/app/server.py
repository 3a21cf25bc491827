"""The app as a web application: what leaves this machine, who may come in, and what a page may fetch."""

import os
import re
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from urllib.parse import unquote

from fastapi import FastAPI, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmdiff.app.head import own_head
from llmdiff.app.settings import LARGEST_UPLOAD, AppSettings
from llmdiff.extras import extra
from llmdiff.generation.renderer import Renderer

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
        "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_AWAY = re.compile(r"(file|proxy)=\s*[a-z]+:/", re.IGNORECASE)
"""Paths by which Gradio would lead to, or fetch from, other machines."""


def ui_app(settings: AppSettings, *, password: str | None = None, renderer: Renderer | None = None) -> FastAPI:
    """The web application, its models loaded.

    Nothing is sent to or fetched from anywhere: no usage statistics, no fonts, no scripts; the page's own rules forbid
    browsers to do so too. Files that visitors get or give lie in a folder that is gone when the application ends.

    Args:
        settings: models, folders and bounds.
        password: asked of every visitor; None lets all in who can reach the port.
        renderer: of the first adapter, if it is loaded already.

    Raises:
        LLMDiffError: a model cannot be loaded, or Gradio is not installed.

    Example:
        >>> app = ui_app(AppSettings(base="my-sd", adapters=("my-adapter",), device="cpu"))
        >>> app.title
        'llmdiff'
    """
    uploads = tempfile.TemporaryDirectory(prefix="llmdiff-ui-")
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": uploads.name,
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    with extra("ui"):
        import gradio as gr

    from llmdiff.app.context import Context
    from llmdiff.app.jobs import Worker
    from llmdiff.app.look import css, theme
    from llmdiff.app.page import build_page
    from llmdiff.app.reading import Reader
    from llmdiff.app.studio import Studio

    studio = Studio(settings, renderer)
    worker = Worker()
    page = build_page(Context(studio, worker, Reader(studio.renderer)))
    page.queue(default_concurrency_limit=None)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        worker.close()
        uploads.cleanup()

    app = FastAPI(title="llmdiff", openapi_url=None, lifespan=lifespan)
    app.add_middleware(_Guard)
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        app_kwargs={"openapi_url": None, "docs_url": None, "redoc_url": None},
        auth=None if password is None else _check(password),
        auth_message="Any name, and the password that you were given.",
        max_file_size=LARGEST_UPLOAD,
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        footer_links=[],
        theme=theme(),
        css=css(),
        favicon_path=str(files("llmdiff.app") / "favicon.svg"),
    )


class _Guard:
    """Around the application: our rules on all that it answers, and our head on its pages.

    Not a function for FastAPI's `middleware`, which makes an error of whoever leaves before the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _AWAY.search(unquote(scope["path"])):
            await Response("There is nothing here.", status_code=404)(scope, receive, send)
        else:
            await self._app(scope, receive, _Answer(send).send)


class _Answer:
    """One answer on its way out; a page is held back until it is whole."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begin: Message | None = None
        self._page = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            if headers.get("content-type", "").startswith("text/html") and "content-encoding" not in headers:
                self._begin = message
                return
        elif self._begin is not None and message["type"] == "http.response.body":
            self._page += message.get("body", b"")
            if message.get("more_body"):
                return
            page = own_head(self._page.decode()).encode()
            MutableHeaders(scope=self._begin)["content-length"] = str(len(page))
            await self._send(self._begin)
            message = {"type": "http.response.body", "body": page}
        await self._send(message)


def _check(password: str) -> Callable[[str, str], bool]:
    return lambda _name, given: secrets.compare_digest(given.encode(), password.encode())
