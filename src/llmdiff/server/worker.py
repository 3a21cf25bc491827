"""The one thread that draws, and the pictures that wait for it."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from llmdiff.generation.call import kind
from llmdiff.generation.renderer import Renderer
from llmdiff.server.errors import ApiError
from llmdiff.server.metrics import Metrics
from llmdiff.server.orders import Order, draw_orders

_PATIENCE = 3  # calls in a row that go wrong until a server calls itself failing [choice]
_LONGEST_WAIT = 60  # seconds after which a client that was turned away may come again, at most
_MEMORY = 0.2  # weight of the latest picture in the mean time of one


class Drawer(Protocol):
    """What an application gives its orders to."""

    @property
    def default_size(self) -> tuple[int, int]:
        """Width and height in pixels that the base model was trained for."""

    @property
    def healthy(self) -> bool:
        """Whether pictures are drawn."""

    def submit(self, orders: Sequence[Order]) -> None:
        """Takes all orders of a request, or none.

        Raises:
            ApiError: There is no room for them.
        """


class Worker:
    """Draws in one thread what waits, in the order of coming; with it, others that may share its call.

    Args:
        renderer: Used by nobody else from here on.
        queue: How many pictures may wait.
        batch_size: Pictures of a call.
        metrics: Where it is counted.

    Example:
        >>> renderer = Renderer.load(Models(base="my-sd", adapter="my-adapter"), device="cpu")
        >>> worker = Worker(renderer)
        >>> worker.healthy
        True
        >>> worker.close()
    """

    def __init__(
        self, renderer: Renderer, queue: int = 64, batch_size: int = 1, metrics: Metrics | None = None
    ) -> None:
        self.metrics = metrics or Metrics()
        self.default_size = renderer.default_size()
        self._renderer = renderer
        self._limit, self._batch_size = queue, batch_size
        self._waiting: deque[tuple[float, Order]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._drawing: list[Order] = []
        self._faults = 0
        self._seconds = 1.0  # of a picture, lately
        self.metrics.waiting.set_function(self._count_waiting)
        self._thread = threading.Thread(target=self._work, name="llmdiff-worker", daemon=True)
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """Whether pictures are drawn: not where the last calls all went wrong, nor while it closes."""
        return self._thread.is_alive() and not self._closing and self._faults < _PATIENCE

    def submit(self, orders: Sequence[Order]) -> None:
        """Takes all orders of a request, or none.

        Raises:
            ApiError: Too many wait (429, with the seconds after which there may be room), or it is closing (503).
        """
        with self._changed:
            if self._closing:
                raise ApiError(503, "The server is being shut down.", "shutting_down")
            self._drop_cancelled()
            if len(self._waiting) + len(orders) > self._limit:
                wait = min(_LONGEST_WAIT, 1 + int(self._seconds * len(self._waiting)))
                raise ApiError(
                    429,
                    f"{len(self._waiting)} pictures wait already and {self._limit} are the most; try again in about "
                    f"{wait} seconds.",
                    "queue_full",
                    headers={"Retry-After": str(wait)},
                )
            self._waiting.extend((time.monotonic(), order) for order in orders)
            self._changed.notify()

    def close(self) -> None:
        """Ends the thread: what is being drawn ends at its next step, what waits is given up."""
        with self._changed:
            self._closing = True
            orders = [order for _, order in self._waiting] + self._drawing
            self._waiting.clear()
            self._changed.notify()
        for order in orders:
            order.tell(ApiError(503, "The server is being shut down.", "shutting_down"))
            order.cancel()
        self._thread.join()

    def _work(self) -> None:
        while orders := self._take():
            begun = time.monotonic()
            fine = draw_orders(self._renderer, orders)
            self._count(orders, time.monotonic() - begun, fine)

    def _take(self) -> list[Order]:
        """The next pictures of one kind; none if it is closing."""
        with self._changed:
            self._drawing = []
            self._drop_cancelled()
            while not self._waiting and not self._closing:
                self._changed.wait()
                self._drop_cancelled()
            if self._closing:
                return []
            first = kind(self._waiting[0][1].settings)
            same = [one for one in self._waiting if kind(one[1].settings) == first][: self._batch_size]
            for since, order in same:
                self._waiting.remove((since, order))
                self.metrics.wait_seconds.observe(time.monotonic() - since)
            self._drawing = [order for _, order in same]
            return self._drawing

    def _count_waiting(self) -> int:
        with self._changed:
            return sum(not order.cancelled for _, order in self._waiting)

    def _drop_cancelled(self) -> None:
        """Forgets pictures that nobody waits for."""
        gone = [one for one in self._waiting if one[1].cancelled]
        for one in gone:
            self._waiting.remove(one)
        self.metrics.pictures.labels("cancelled").inc(len(gone))

    def _count(self, orders: Sequence[Order], seconds: float, fine: bool) -> None:
        self._faults = 0 if fine else self._faults + 1
        self.metrics.call_seconds.observe(seconds)
        self.metrics.call_pictures.observe(len(orders))
        for order in orders:
            self.metrics.pictures.labels(order.outcome).inc()
        if all(order.outcome == "drawn" for order in orders):
            self._seconds += _MEMORY * (seconds / len(orders) - self._seconds)
