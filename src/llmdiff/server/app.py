"""The application: OpenAI's images API over whatever draws."""

import time

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0

from llmdiff import __version__
from llmdiff.server.config import ServerConfig
from llmdiff.server.errors import ApiError, add_handlers
from llmdiff.server.generations import Generations
from llmdiff.server.guard import Guard
from llmdiff.server.metrics import Metrics
from llmdiff.server.schema import ErrorBody, Health, ImagesResponse, ModelCard, ModelList
from llmdiff.server.worker import Drawer

_FAULTS = {
    400: "What is asked for will not do.",
    401: "The API key is missing or wrong.",
    404: "There is no such model.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    429: "Too many pictures wait.",
    500: "Something went wrong in the server.",
    503: "The server is being shut down.",
    504: "The pictures were not done in time.",
}


def server_app(drawer: Drawer, config: ServerConfig, metrics: Metrics | None = None) -> FastAPI:
    """The web application of a server.

    Args:
        drawer: Draws the pictures; who calls this closes it.
        config: What may be asked for.
        metrics: What ``GET /metrics`` shows; None leaves that out.

    Example:
        >>> from fastapi.testclient import TestClient
        >>> from llmdiff.server import ServerConfig, Worker
        >>> worker = Worker(Renderer.load(Models(base="my-sd", adapter="my-adapter"), device="cpu"))
        >>> client = TestClient(server_app(worker, ServerConfig(models=Models(base="my-sd", adapter="my-adapter"))))
        >>> answer = client.post("/v1/images/generations", json={"prompt": "a cup", "num_inference_steps": 2})
        >>> len(answer.json()["data"])
        1
        >>> worker.close()
    """
    app = FastAPI(title="llmdiff", version=__version__, docs_url=None, redoc_url=None)
    add_handlers(app)
    _add_generations(app, drawer, config)
    _add_models(app, config.model_name)
    _add_watching(app, drawer, metrics)
    count = (lambda status: metrics.requests.labels(str(status)).inc()) if metrics else (lambda status: None)
    app.add_middleware(Guard, key=config.api_key, max_body=config.max_body, patience=config.client_timeout, count=count)
    return app


def _add_generations(app: FastAPI, drawer: Drawer, config: ServerConfig) -> None:
    answers: dict[int | str, dict[str, object]] = {
        status: {"model": ErrorBody, "description": what} for status, what in _FAULTS.items()
    }
    answers[200] = {
        "model": ImagesResponse,
        "description": "The pictures, or with `stream` events of them.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
    route = app.post("/v1/images/generations", responses=answers, tags=["images"])
    route(Generations(drawer, config).generate)


def _add_models(app: FastAPI, name: str) -> None:
    card = ModelCard(id=name, created=int(time.time()))

    @app.get("/v1/models", tags=["models"], responses={401: {"model": ErrorBody}})
    def models() -> ModelList:
        """List what pictures are drawn with."""
        return ModelList(data=[card])

    @app.get("/v1/models/{model:path}", tags=["models"], responses={code: {"model": ErrorBody} for code in (401, 404)})
    def model(model: str) -> ModelCard:
        """Describe a model."""
        if model != name:
            raise ApiError(404, f"There is no such model: this is {name!r}.", "model_not_found", "model")
        return card


def _add_watching(app: FastAPI, drawer: Drawer, metrics: Metrics | None) -> None:
    @app.get("/health", tags=["operation"], responses={503: {"model": Health}})
    def health() -> Response:
        """Say whether pictures are drawn."""
        ok = drawer.healthy
        return JSONResponse({"status": "ok" if ok else "failing"}, 200 if ok else 503)

    if metrics is None:
        return

    @app.get("/metrics", tags=["operation"], response_class=PlainTextResponse)
    def counters() -> Response:
        """Give the counters to Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_PLAIN_1_0_0)
