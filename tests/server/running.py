"""A real server on a free port of loopback, and what is sent to it."""

import base64
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from PIL import Image

from llmdiff.generation import Models, Renderer
from llmdiff.server import ServerConfig, Worker, server_app
from llmdiff.server.connections import settings
from tiny_base import Places

PATH = "/v1/images/generations"
TWO_STEPS: dict[str, Any] = {"prompt": "a red ball", "num_inference_steps": 2, "seed": 7}


@dataclass(frozen=True)
class Running:
    """A server that runs, the thread of it that draws, and a client that opens a connection for each request."""

    address: str
    worker: Worker
    http: httpx.Client

    def post(self, **body: Any) -> httpx.Response:
        """The answer to a request for pictures."""
        return self.http.post(PATH, json=body)

    def get(self, path: str) -> httpx.Response:
        """The answer to any other."""
        return self.http.get(path)

    def metric(self, line: str) -> float:
        """The value of a counter, by what stands before it."""
        text = self.get("/metrics").text
        return float(next(one for one in text.splitlines() if one.startswith(line + " ")).rpartition(" ")[2])


def config_for(places: Places, **changes: Any) -> ServerConfig:
    models = Models(base=str(places.base), adapter=str(places.adapter))
    return ServerConfig.make(models=models, device="cpu", **changes)


@contextmanager
def running(renderer: Renderer, config: ServerConfig) -> Iterator[Running]:
    worker = Worker(renderer, config.queue, config.batch_size)
    app = server_app(worker, config, worker.metrics)
    limits = settings(config.client_timeout, config.connections, config.grace)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", **limits))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        port = server.servers[0].sockets[0].getsockname()[1]
        address = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=address, timeout=60, limits=httpx.Limits(max_keepalive_connections=0)) as client:
            yield Running(address, worker, client)
    finally:
        server.should_exit = True
        thread.join()
        worker.close()


def picture(b64: str) -> Image.Image:
    """The picture of an answer."""
    image = Image.open(io.BytesIO(base64.b64decode(b64)))
    image.load()
    return image
