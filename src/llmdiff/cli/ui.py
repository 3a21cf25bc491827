"""`llmdiff ui`: the web app."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from llmdiff.cli import console, model_options, serving_options
from llmdiff.cli.proxy_options import with_proxy
from llmdiff.errors import LLMDiffError
from llmdiff.extras import extra
from llmdiff.loopback import is_loopback

PASSWORD = "LLMDIFF_UI_PASSWORD"
"""The environment variable that has the password of `--auth`."""
_GRACE = 2  # seconds that open pages may keep the app from ending


@with_proxy
def ui(
    base: model_options.Base = "embedded",
    base_config: model_options.BaseConfig = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            help="Adapter: 'embedded', a folder, or a Hub id. Repeat it to choose on the page, and to compare.",
            show_default="embedded, with that base",
        ),
    ] = None,
    llm: model_options.Llm = None,
    out: Annotated[Path, typer.Option(help="Folder of the pictures that are drawn, which the gallery shows.")] = Path(
        "out"
    ),
    runs: Annotated[Path, typer.Option(help="Folder whose training runs are shown.")] = Path("runs"),
    device: model_options.Device = None,
    host: serving_options.Host = serving_options.HERE,
    port: serving_options.Port = 7860,
    auth: Annotated[
        bool, typer.Option("--auth", help=f"Ask visitors for a password: that in {PASSWORD}, or one that you type now.")
    ] = False,
    proxy: Any = None,
) -> None:
    """Serve the web app: draw, sweep, ask why, watch training runs.

    It is there for this machine alone unless --host says otherwise, works offline, and tells nobody of its use.
    Everybody who can open it sees the pictures in --out and the runs in --runs.
    """
    from llmdiff.app.settings import AppSettings
    from llmdiff.generation import GenerationRequest

    adapters = tuple(dict.fromkeys(adapter or ["embedded"]))
    if adapter is None and base != "embedded":
        GenerationRequest(prompts=["a"], base=base)  # says that it needs one
    if "none" in adapters:
        raise LLMDiffError("The app compares a base model with adapters: name at least one with --adapter.")
    password = _password() if auth else None
    if password is None and not is_loopback(host):
        console.say("note", f"Everybody who can reach {host} may use the app: --auth asks for a password.", "bold")
    console.rest_when_waiting()
    console.quiet_hosts()
    with extra("ui"):
        from llmdiff.app import ui_app
        from llmdiff.serving import serve
    settings = AppSettings(base, base_config, adapters, llm, out, runs, device, proxy)
    with console.progress_bar() as progress:
        progress("Loading models", 0.0)
        app = ui_app(settings, password=password)
    serve(
        app,
        host,
        port,
        lambda address: console.print_line(f"The app is at {address}"),
        timeout_graceful_shutdown=_GRACE,
    )


def _password() -> str:
    """The password from the environment, or from the keyboard.

    Raises:
        LLMDiffError: it is empty.
    """
    password = os.environ.get(PASSWORD)
    if password is None:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    if not password:
        raise LLMDiffError(f"The password in {PASSWORD} is empty.")
    return str(password)
