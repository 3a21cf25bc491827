"""The same application on replicas of Ray Serve, which starts them, shares requests out, batches and watches."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve

from llmdiff.generation.renderer import Renderer
from llmdiff.server.app import server_app
from llmdiff.server.config import ServerConfig
from llmdiff.server.orders import Order, draw_orders

NAME = "llmdiff"
_PATIENCE = 3  # calls in a row that go wrong until Ray is told to begin a replica anew, as of `Worker`
_WAIT = 0.01  # seconds in which a batch gathers, while nothing is drawn
_LATER = 5  # seconds after the application's own limit at which Ray ends a request
_AHEAD = 4  # batches that a replica holds, so that it need not wait for the next [choice]


@serve.ingress()
class Replica:
    """A renderer and the application in one process of Ray's.

    Args:
        config: The settings of the server.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._renderer = Renderer.load(config.models, device=config.device)
        self._thread = ThreadPoolExecutor(1, "llmdiff-worker")
        self._tasks: set[asyncio.Future[None]] = set()
        self._faults = 0
        self.default_size = self._renderer.default_size()
        self._draw.set_max_batch_size(config.batch_size)  # type: ignore[attr-defined]  # of serve.batch

    def __serve_build_asgi_app__(self) -> FastAPI:
        """What Ray Serve sends requests to."""
        return server_app(self, self._config)

    @property
    def healthy(self) -> bool:
        """Whether pictures are drawn."""
        return self._faults < _PATIENCE

    def check_health(self) -> None:
        """Asked by Ray Serve, which ends a replica that raises here and starts another."""
        if not self.healthy:
            raise RuntimeError("the last pictures all went wrong")

    def submit(self, orders: Sequence[Order]) -> None:
        """Takes the orders of a request."""
        for order in orders:
            task = asyncio.ensure_future(self._draw(order))
            self._tasks.add(task)  # the loop holds no task
            task.add_done_callback(self._tasks.discard)

    @serve.batch(max_batch_size=1, batch_wait_timeout_s=_WAIT)
    async def _draw(self, orders: list[Order]) -> list[None]:
        loop = asyncio.get_running_loop()
        fine = await loop.run_in_executor(self._thread, draw_orders, self._renderer, orders)
        self._faults = 0 if fine else self._faults + 1
        return [None] * len(orders)


def deployment(config: ServerConfig, replicas: int, gpus: float) -> serve.Application:
    """The application as Ray Serve runs it.

    Args:
        config: The settings of the server.
        replicas: How many processes draw.
        gpus: GPUs of each, also parts of one.
    """
    options: dict[str, Any] = {"num_gpus": gpus} if gpus else {}
    chosen: Any = serve.deployment(  # of a class, though its annotation says of a decorator
        Replica,
        name=NAME,
        num_replicas=replicas,
        ray_actor_options=options,
        max_ongoing_requests=_AHEAD * config.batch_size,
        max_queued_requests=config.queue,
        graceful_shutdown_timeout_s=config.grace,
    )
    return chosen.bind(config)


def start_replicas(config: ServerConfig, host: str, port: int, replicas: int, gpus: float | None = None) -> None:
    """Starts replicas and waits until they can be asked.

    The cluster is the one that ``RAY_ADDRESS`` names (``auto`` finds one on this machine); without it, this machine.

    Args:
        config: The settings of the server.
        host: Address of this machine that Ray's proxy listens on.
        port: Its port.
        replicas: How many processes draw.
        gpus: GPUs of each; None takes one each where the cluster has any.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody unless asked for
    if not ray.is_initialized():
        ray.init(include_dashboard=False if "RAY_ADDRESS" not in os.environ else None, log_to_driver=False)
    if gpus is None:
        gpus = 1.0 if ray.cluster_resources().get("GPU") else 0.0
    serve.start(http_options={"host": host, "port": port, "request_timeout_s": config.timeout + _LATER})
    serve.run(deployment(config, replicas, gpus), name=NAME, route_prefix="/")


def stop_replicas() -> None:
    """Ends them, and a cluster that was started with them."""
    serve.shutdown()
    ray.shutdown()


def run_replicas(
    config: ServerConfig, host: str, port: int, replicas: int, gpus: float | None, started: Callable[[str], None]
) -> None:
    """As `start_replicas`, until Ctrl-C or until the process is told to end.

    Args:
        started: Called with the server's address, once it can be asked.
        config, host, port, replicas, gpus: As there.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        start_replicas(config, host, port, replicas, gpus)
        started(f"http://{host}:{port}/")
        threading.Event().wait()
    finally:
        stop_replicas()
