"""The app as a web application: what leaves this machine, who may come in, and what a page may fetch."""

import os
import re
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import unquote

from fastapi import FastAPI, Request, Response

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
    files = tempfile.TemporaryDirectory(prefix="llmdiff-ui-")
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": files.name, "HF_HUB_DISABLE_TELEMETRY": "1"}
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
        files.cleanup()

    app = FastAPI(title="llmdiff", openapi_url=None, lifespan=lifespan)
    app.middleware("http")(_guard)
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
    )


async def _guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    if _AWAY.search(unquote(str(request.url.path))):
        return Response("There is nothing here.", status_code=404)
    response = await call_next(request)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _check(password: str) -> Callable[[str, str], bool]:
    return lambda _name, given: secrets.compare_digest(given.encode(), password.encode())
