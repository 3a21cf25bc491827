"""A server in this process, from models to the last picture."""

from collections.abc import Callable

from llmdiff.generation.renderer import Renderer
from llmdiff.server.app import server_app
from llmdiff.server.config import ServerConfig
from llmdiff.server.connections import settings
from llmdiff.server.metrics import Metrics
from llmdiff.server.worker import Worker
from llmdiff.serving import serve


def run_server(config: ServerConfig, host: str, port: int, started: Callable[[str], None]) -> None:
    """Loads the models and serves until Ctrl-C, or until the process is told to end.

    Args:
        config: The settings.
        host: Address of this machine.
        port: 0 takes a free one.
        started: Called with the server's address, once it can be asked.

    Raises:
        LLMDiffError: A model cannot be loaded, the port is taken, or the address is not this machine's.
    """
    renderer = Renderer.load(config.models, device=config.device)
    metrics = Metrics()
    worker = Worker(renderer, config.queue, config.batch_size, metrics)
    try:
        limits = settings(config.client_timeout, config.connections, config.grace)
        serve(server_app(worker, config, metrics), host, port, started, **limits)
    finally:
        worker.close()
