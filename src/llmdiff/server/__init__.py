"""Pictures over HTTP: the images API that clients of OpenAI's speak, from one process or from replicas of Ray Serve."""

from typing import TYPE_CHECKING

from llmdiff import lazy

if TYPE_CHECKING:
    from llmdiff.server.app import server_app
    from llmdiff.server.config import ServerConfig
    from llmdiff.server.worker import Worker

__all__ = ["ServerConfig", "Worker", "server_app"]

__getattr__ = lazy.names(__name__, {"app": ("server_app",), "config": ("ServerConfig",), "worker": ("Worker",)})
