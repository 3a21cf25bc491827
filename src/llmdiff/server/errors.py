"""Errors in the form in which clients of OpenAI's API read them."""

import logging
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from llmdiff.server.schema import ErrorBody, ErrorDetail

log = logging.getLogger("llmdiff.server")
_WORDS = {
    "extra_forbidden": "There is no parameter {name!r}.",
    "missing": "The parameter {name!r} is missing.",
    "json_invalid": "The body is not valid JSON.",
}


class ApiError(Exception):
    """An answer that is no picture.

    Args:
        status: Of HTTP.
        message: A sentence.
        code: A word for programs.
        param: The key of the request that is at fault.
        headers: Of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    def body(self) -> ErrorBody:
        """What the client gets."""
        return ErrorBody(
            error=ErrorDetail(message=self.message, type=_kind(self.status), param=self.param, code=self.code)
        )

    def response(self) -> JSONResponse:
        """The same with its status."""
        return JSONResponse(self.body().model_dump(), self.status, self.headers)


def unexpected() -> ApiError:
    """The answer to a request of which something went wrong here; the log has more."""
    return ApiError(500, "Something went wrong in the server; its log says what.", "internal_error")


def add_handlers(app: FastAPI) -> None:
    """Has an application answer with `ApiError` whatever is wrong."""

    @app.exception_handler(ApiError)
    async def own(request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _invalid(error).response()

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return ApiError(error.status_code, f"{error.detail}.", headers=error.headers).response()

    @app.exception_handler(Exception)
    async def other(request: Request, error: Exception) -> JSONResponse:
        return unexpected().response()  # Starlette raises the error again, for the log


def _invalid(error: RequestValidationError) -> ApiError:
    """The first problem of a body, without what stands in it."""
    problem = error.errors()[0]
    name = ".".join(str(part) for part in problem["loc"][1:])[:100]
    if problem["type"] == "json_invalid" or not name:
        return ApiError(
            400, "The body is not a JSON object in UTF-8, sent with Content-Type: application/json.", "invalid_json"
        )
    known = _WORDS.get(problem["type"])
    what = str(problem["msg"]).removeprefix("Value error, ")
    message = known.format(name=name) if known else f"{name}: {what[:1].lower()}{what[1:]}."
    return ApiError(400, message, "unknown_parameter" if "no parameter" in message else "invalid_value", name)


def _kind(status: int) -> str:
    if status == 401:
        return "authentication_error"
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"
