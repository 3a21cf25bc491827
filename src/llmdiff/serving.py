"""A web application on a port of this machine, until it is interrupted."""

import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI

from llmdiff.errors import LLMDiffError
from llmdiff.files import why_not


def serve(app: FastAPI, host: str, port: int, started: Callable[[str], None], **settings: Any) -> None:
    """Serves until Ctrl-C, or until the process is told to end.

    Args:
        app: The application.
        host: Address of this machine.
        port: 0 takes a free one.
        started: Called with the address of the page, once it can be opened.
        settings: Of `uvicorn.Config`.

    Raises:
        LLMDiffError: The port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise LLMDiffError(
            f"{host}:{port} cannot be listened on ({why_not(error)}); choose another --host or --port."
        ) from error
    name = f"[{host}]" if family == socket.AF_INET6 else host
    with listener:
        started(f"http://{name}:{listener.getsockname()[1]}/")
        config = uvicorn.Config(app, log_level="warning", server_header=False, **settings)
        uvicorn.Server(config).run(sockets=[listener])
