"""From a request to its pictures, all in one answer or one after the other."""

import asyncio
import base64
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Sequence

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from PIL import Image

from llmdiff.errors import LLMDiffError
from llmdiff.generation.record import PictureSettings
from llmdiff.server.config import ServerConfig
from llmdiff.server.errors import ApiError, unexpected
from llmdiff.server.orders import Drawn, Order
from llmdiff.server.pictures import encoded
from llmdiff.server.schema import ImageData, ImageRequest, ImagesResponse, Usage, event
from llmdiff.server.worker import Drawer

_ASKED_AT_ONCE = 8  # prompts that the proxy is asked about
_GONE = 499  # of clients that are not there any more, as in nginx's log
_OPTION = re.compile(r"--(\w+)")


class Generations:
    """What is behind ``POST /v1/images/generations``.

    Args:
        drawer: Draws the pictures.
        config: What may be asked for.
    """

    def __init__(self, drawer: Drawer, config: ServerConfig) -> None:
        self._drawer, self._config = drawer, config
        self._gate = asyncio.Semaphore(_ASKED_AT_ONCE)

    async def generate(self, body: ImageRequest, request: Request) -> Response:
        """Draw pictures of a prompt."""
        settings, words = await self._rewritten(self._settings(body))
        partial = (body.partial_images or 0) if body.stream else 0
        orders = [Order(one, partial, words) for one in settings]
        self._drawer.submit(orders)
        if body.stream:
            headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
            return StreamingResponse(self._events(body, orders), media_type="text/event-stream", headers=headers)
        return await self._answer(body, orders, request)

    def _settings(self, body: ImageRequest) -> list[PictureSettings]:
        """Of each picture.

        Raises:
            ApiError: More is asked for than the server allows.
        """
        config, default = self._config, self._drawer.default_size
        if body.model not in (None, config.model_name):
            raise ApiError(404, f"There is no such model: this is {config.model_name!r}.", "model_not_found", "model")
        width, height = body.size_or(default)
        steps = body.steps_or(config.steps, config.max_steps)
        count = body.n or 1
        _at_most("n", count, config.max_n)
        _at_most("num_inference_steps", steps, config.max_steps)
        _at_most("prompt", len(body.prompt), config.max_prompt, " characters")
        _at_most("negative_prompt", len(body.negative_prompt or ""), config.max_prompt, " characters")
        _at_most("size", width * height, config.most_pixels(default), " pixels")
        seed = secrets.randbelow(2**32) if body.seed is None else body.seed
        one = PictureSettings(
            prompt=body.prompt,
            negative=body.negative_prompt or "",
            steps=steps,
            guidance=config.guidance if body.guidance_scale is None else body.guidance_scale,
            scale=config.scale if body.scale is None else body.scale,
            seed=seed,
            width=width,
            height=height,
            prompt_weights=bool(body.prompt_weights),
        )
        return [one.model_copy(update={"seed": seed + number}) for number in range(count)]

    async def _rewritten(self, pictures: list[PictureSettings]) -> tuple[list[PictureSettings], tuple[str, ...]]:
        """Pictures of one prompt with what the proxy makes of it, if there is a proxy, and what went wrong with that.

        Raises:
            ApiError: The prompt has weights, or there is no answer in time.
        """
        proxy, prompt = self._config.proxy, pictures[0].prompt
        if proxy is None:
            return pictures, ()
        if pictures[0].prompt_weights:
            raise ApiError(
                400, "prompt_weights: prompts are rewritten here, which leaves no weights.", "invalid_value",
                "prompt_weights",
            )  # fmt: skip
        from llmdiff.proxy import Rewriter  # here, because it imports an HTTP client

        words: list[str] = []
        try:
            async with asyncio.timeout(self._config.timeout), self._gate:
                # A new one for each request: it does not ask again an endpoint that it has lost.
                found = (await Rewriter(proxy, tell=words.append).rewrite_async([prompt])).get(prompt)
        except TimeoutError as error:
            raise self._too_slow() from error
        if found is not None:
            rewritings = [found.of_picture(number, proxy.average) for number in range(len(pictures))]
            pictures = [
                one.model_copy(update={"rewriting": rewriting})
                for one, rewriting in zip(pictures, rewritings, strict=True)
            ]
        return pictures, tuple(words)

    async def _answer(self, body: ImageRequest, orders: Sequence[Order], request: Request) -> Response:
        drawing = asyncio.ensure_future(self._all(body, orders))
        leaving = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({drawing, leaving}, timeout=self._config.timeout, return_when=asyncio.FIRST_COMPLETED)
            if drawing.done():
                return Response(drawing.result().model_dump_json(), media_type="application/json")
            if leaving.done():
                return Response(status_code=_GONE)
            raise self._too_slow()
        finally:
            _give_up(orders)
            drawing.cancel()
            leaving.cancel()

    async def _all(self, body: ImageRequest, orders: Sequence[Order]) -> ImagesResponse:
        data: list[ImageData] = []
        words: list[str] = []
        tokens = 0
        for order in orders:
            drawn = await _last(order)
            revised = revised_prompt(order.settings)
            data.append(
                ImageData(b64_json=await _base64(body, drawn), seed=order.settings.seed, revised_prompt=revised)
            )
            words += drawn.warnings
            tokens += drawn.tokens
        return ImagesResponse(
            created=int(time.time()),
            data=data,
            output_format=body.output_format or "png",
            quality=body.quality or "auto",
            size=_size(orders[0]),
            usage=Usage.of(tokens),
            warnings=list(dict.fromkeys(words)),
        )

    async def _events(self, body: ImageRequest, orders: Sequence[Order]) -> AsyncIterator[bytes]:
        """Server-sent events, picture after picture."""
        try:
            async with asyncio.timeout(self._config.timeout):
                for order in orders:
                    async for one in self._events_of(body, order):
                        yield one
        except Exception as error:
            answer = self._too_slow() if isinstance(error, TimeoutError) else _api_error(error)
            yield _sent("error", answer.body().model_dump())
        finally:
            _give_up(orders)

    async def _events_of(self, body: ImageRequest, order: Order) -> AsyncIterator[bytes]:
        common = {
            "output_format": body.output_format or "png", "quality": body.quality or "auto", "size": _size(order)
        }  # fmt: skip
        number = 0
        while not isinstance(one := await order.next(), Drawn):
            shown = {"partial_image_index": number, "b64_json": await _base64(body, one)}
            yield _sent_event("partial_image", common | shown)
            number += 1
        shown = {
            "b64_json": await _base64(body, one),
            "usage": Usage.of(one.tokens).model_dump(),
            "seed": order.settings.seed,
            "warnings": list(one.warnings),
        } | ({"revised_prompt": revised} if (revised := revised_prompt(order.settings)) else {})
        yield _sent_event("completed", common | shown)

    def _too_slow(self) -> ApiError:
        # The client would ask again at once for what was too slow just now.
        headers = {"x-should-retry": "false"}
        return ApiError(
            504, f"The pictures were not done within {self._config.timeout:g} seconds.", "timeout", None, headers
        )


def revised_prompt(settings: PictureSettings) -> str | None:
    """What a picture is drawn from in the place of its prompt; of several texts, one a line."""
    return "\n".join(settings.texts) if settings.rewriting else None


def _at_most(name: str, value: int, most: int, unit: str = "") -> None:
    if value > most:
        raise ApiError(400, f"{name}: {most:,}{unit} are the most, got {value:,}.", "invalid_value", name)


async def _last(order: Order) -> Drawn:
    """The picture of an order, as ApiError what is wrong with it."""
    try:
        while not isinstance(one := await order.next(), Drawn):
            pass
    except Exception as error:
        raise _api_error(error) from error
    return one


def _api_error(error: Exception) -> ApiError:
    """What the client gets to know of an error."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, LLMDiffError):  # its sentence may name options of the command line
        return ApiError(400, _OPTION.sub(r"\1", str(error)), "invalid_value")
    return unexpected()


async def _base64(body: ImageRequest, picture: Drawn | Image.Image) -> str:
    image = picture.picture if isinstance(picture, Drawn) else picture
    file = await asyncio.to_thread(encoded, image, body.output_format or "png", body.output_compression)
    return base64.b64encode(file).decode()


async def _left(request: Request) -> None:
    """Waits until the client of a request, whose body has been read, is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _give_up(orders: Sequence[Order]) -> None:
    for order in orders:
        order.cancel()


def _size(order: Order) -> str:
    return f"{order.settings.width}x{order.settings.height}"


def _sent_event(kind: str, content: dict[str, object]) -> bytes:
    data = event(kind, content | {"created_at": int(time.time())})
    return _sent(str(data["type"]), data)


def _sent(name: str, data: dict[str, object]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
