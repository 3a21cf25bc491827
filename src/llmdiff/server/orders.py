"""Orders of pictures: how they are drawn, several of one kind in a call, and what the one who waits is told."""

import asyncio
import logging
import re
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from PIL import Image
from torch import Tensor

from llmdiff.errors import LLMDiffError
from llmdiff.generation.call import kind
from llmdiff.generation.picture import Picture
from llmdiff.generation.preview import can_preview, preview
from llmdiff.generation.record import PictureSettings
from llmdiff.generation.renderer import Renderer
from llmdiff.server.reading import read_prompt

log = logging.getLogger("llmdiff.server")
_OF_CUTS = re.compile(r"\b(are|was) cut\b")  # `read_prompt` tells of them


@dataclass(frozen=True)
class Drawn:
    """A picture that is done.

    Attributes:
        picture: With all that it was drawn with.
        tokens: Of its prompt.
        warnings: What is not read of its prompt, and what else was said while it was drawn.
    """

    picture: Picture
    tokens: int
    warnings: tuple[str, ...]


Outcome = Literal["drawn", "cancelled", "failed"]
Event = Drawn | Image.Image | Exception
"""What becomes of an order: pictures of latents, and at the end a picture, or why there is none."""


class Order:
    """One picture that somebody waits for, in the event loop in which it is made.

    Args:
        settings: Of the picture.
        partial_images: Pictures of latents that are wanted before.
        words: What was said before it is drawn, which joins its warnings.

    Attributes:
        outcome: What became of it; "cancelled" until it is known.
    """

    def __init__(self, settings: PictureSettings, partial_images: int = 0, words: Sequence[str] = ()) -> None:
        self.settings = settings
        self.words = words
        self.partial_images = partial_images
        self.outcome: Outcome = "cancelled"
        self._cancelled = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def cancel(self) -> None:
        """Says that nobody waits for it."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for it."""
        return self._cancelled.is_set()

    def tell(self, event: Event) -> None:
        """Says what became of it, from any thread."""
        if self.cancelled:
            return
        if not isinstance(event, Image.Image):
            self.outcome = "drawn" if isinstance(event, Drawn) else "failed"
        with suppress(RuntimeError):  # of a loop that has ended
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def next(self) -> Drawn | Image.Image:
        """The next picture, of latents or at last the drawn one.

        Raises:
            Exception: Why there is none, an LLMDiffError if it is about what was asked for.
        """
        event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        return event


def draw_orders(renderer: Renderer, orders: Sequence[Order]) -> bool:
    """Draws pictures, those of one kind in one call, and tells whoever waits for them.

    A call ends at the next step once nobody waits for any of its pictures.

    Args:
        renderer: Used by no other thread meanwhile.
        orders: Of any kinds.

    Returns:
        Whether nothing went wrong that is not about what was asked for.
    """
    by_kind: dict[tuple[object, ...], list[Order]] = {}
    for order in orders:
        by_kind.setdefault(kind(order.settings), []).append(order)
    return all([_draw_or_tell(renderer, same) for same in by_kind.values()])


def _draw_or_tell(renderer: Renderer, orders: Sequence[Order]) -> bool:
    """Draws pictures of one kind; one by one where that fails, to find out which of them is at fault."""
    orders = [order for order in orders if not order.cancelled]
    try:
        if orders:
            _draw(renderer, orders)
    except CancelledError:
        pass
    except Exception as error:
        if len(orders) > 1 and isinstance(error, LLMDiffError):
            return all([_draw_or_tell(renderer, [order]) for order in orders])
        for order in orders:
            order.tell(error)
        if not isinstance(error, LLMDiffError):
            log.exception("A picture could not be drawn")
            return False
    return True


def _draw(renderer: Renderer, orders: Sequence[Order]) -> None:
    settings = [order.settings for order in orders]
    progress = _Progress(renderer, orders)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")  # others are remembered by Python, each with its prompt, for ever
        images = renderer.draw_batch(settings, progress.step, progress.latents if progress.wanted else None)
    alike = len({(one.texts, one.negative) for one in settings}) == 1  # else a warning may quote another's prompt
    words = [str(one.message) for one in said if alike and issubclass(one.category, UserWarning)]
    words = [one for one in words if not _OF_CUTS.search(one)]
    for order, image in zip(orders, images, strict=True):
        reading = read_prompt(renderer, order.settings)
        picture = Picture(image, renderer.record(order.settings))
        order.tell(Drawn(picture, reading.tokens, tuple(dict.fromkeys((*order.words, *reading.cuts, *words)))))


class _Progress:
    """Ends a call that nobody waits for, and shows what there is of it at equal shares of its steps."""

    def __init__(self, renderer: Renderer, orders: Sequence[Order]) -> None:
        self._renderer, self._orders = renderer, orders
        self.wanted = can_preview(renderer.pipe) and any(order.partial_images for order in orders)
        self._shown = [0] * len(orders)

    def step(self, share: float) -> None:
        if all(order.cancelled for order in self._orders):
            raise CancelledError

    def latents(self, share: float, latents: Tensor) -> None:
        if share >= 1:
            return
        for row, order in enumerate(self._orders):
            due = int(share * (order.partial_images + 1) + 1e-6)
            if due > self._shown[row] and not order.cancelled:
                self._shown[row] = due
                order.tell(preview(self._renderer.pipe, latents[row : row + 1])[0])
