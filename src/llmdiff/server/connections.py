"""Connections that wait for nobody: uvicorn itself has no limit of time for the headers of a request."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class PatientConnection(H11Protocol):
    """A connection that is closed unless its client keeps to `patience`.

    Attributes:
        patience: Seconds from its opening, or from the first byte of a further request, to the end of the headers; and
            seconds to take an answer that is done.
    """

    patience: float = 20
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begins to wait for a request."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.patience, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Waits no more once the headers are there."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.patience, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits for nothing more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Closes, also where a client does not take its answer."""
        super().timeout_keep_alive_handler()
        if self.transport.get_write_buffer_size():
            self._deadline = self.loop.call_later(self.patience, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def settings(client_timeout: float, connections: int, grace: int) -> dict[str, Any]:
    """The settings of `uvicorn.Config` that keep clients from holding a server up.

    Args:
        client_timeout: Seconds that a client may take, see `PatientConnection`.
        connections: Open at once.
        grace: Seconds that requests have to be done when the server ends.
    """
    return {
        "http": type("Connection", (PatientConnection,), {"patience": client_timeout}),
        "limit_concurrency": connections,
        "timeout_graceful_shutdown": grace,
        "ws": "none",
    }
