"""The page of a study on a local server: one rater a browser, known by a random cookie and by nothing else."""

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, Literal

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import Field

from llmdiff.errors import LLMDiffError
from llmdiff.study.config import QUESTIONS
from llmdiff.study.plan import Study, Trial
from llmdiff.study.votes import Ballot, Votes

_A_YEAR = 365 * 24 * 3600
_HEADERS = {
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline'; img-src 'self' data:; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class _Cast(Ballot):
    """A ballot with the number of its trial."""

    trial: int = Field(ge=0, lt=10_000)


def page() -> str:
    """The page, with a place for the study that it shows."""
    return (files("llmdiff.study") / "page.html").read_text(encoding="utf-8")


def study_app(study: Study) -> FastAPI:
    """The web application of a study.

    What a browser gets are prompts and pixels, in an order that is the rater's own: pictures are asked for by the
    number of the trial and a side, and answers are given so. Which system drew what never leaves the study's folder.

    Args:
        study: As loaded from its folder, where its votes are kept.

    Raises:
        LLMDiffError: The votes cannot be used, or a picture is missing.

    Example:
        >>> from fastapi.testclient import TestClient
        >>> client = TestClient(study_app(Study.load(Path("study"))))
        >>> client.post("/api/session").json()["title"]
        'Which picture?'
    """
    study.check_pictures()
    booth = _Booth(study)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        booth.votes.close()

    app = FastAPI(title="llmdiff study", openapi_url=None, lifespan=lifespan)
    app.add_exception_handler(LLMDiffError, _later)
    app.get("/", response_class=HTMLResponse)(booth.index)
    app.post("/api/session")(booth.session)
    app.get("/picture/{trial}/{side}", response_class=Response)(booth.picture)
    app.post("/api/vote", status_code=204)(booth.vote)
    return app


def _later(request: Request, error: Exception) -> JSONResponse:
    """The answer where votes cannot be read or written, of which the page tries again."""
    logging.getLogger(__name__).error("%s", error)
    return JSONResponse({"detail": "The answers cannot be kept at the moment."}, 503, _HEADERS)


class _Booth:
    """What is behind each address."""

    def __init__(self, study: Study) -> None:
        self.votes = Votes(study)
        self._study = study
        self._cookie = f"rater-{study.identity}"  # browsers do not tell the ports of a machine apart
        self._html = page().replace("/*STUDY*/", "{}")

    def index(self) -> HTMLResponse:
        return HTMLResponse(self._html, headers=_HEADERS)

    def session(self, request: Request, response: Response) -> dict[str, Any]:
        rater = request.cookies.get(self._cookie, "")
        trials = self.votes.trials(rater)
        if trials is None:
            rater = secrets.token_hex(16)
            trials = self.votes.begin(rater)
        response.headers.update(_HEADERS)
        response.set_cookie(self._cookie, rater, max_age=_A_YEAR, httponly=True, samesite="lax")
        return {
            "title": self._study.title,
            "questions": [(name, QUESTIONS[name]) for name in self._study.questions],
            "trials": [
                {"prompt": self._study.pair(trial).prompt, "left": f"picture/{n}/left", "right": f"picture/{n}/right"}
                for n, trial in enumerate(trials)
            ],
            "answers": self.votes.answers(rater),
        }

    def picture(self, trial: int, side: Literal["left", "right"], request: Request) -> Response:
        _, trials = self._begun(request)
        if not 0 <= trial < len(trials):
            raise HTTPException(404, "There is no such pair.")
        shown = self._study.sides(trials[trial])[side == "right"]
        try:
            content = self._study.picture(shown.picture).read_bytes()
        except OSError as error:
            raise HTTPException(404, "The picture is not there any more.") from error
        return Response(content, media_type="image/png", headers=_HEADERS)

    def vote(self, ballot: _Cast, request: Request) -> None:
        rater, trials = self._begun(request)
        if ballot.trial >= len(trials) or not ballot.answers.keys() <= set(self._study.questions):
            raise HTTPException(404, "There is no such pair or question.")
        self.votes.add(rater, {ballot.trial: ballot})

    def _begun(self, request: Request) -> tuple[str, list[Trial]]:
        rater = request.cookies.get(self._cookie, "")
        trials = self.votes.trials(rater)
        if trials is None:
            raise HTTPException(403, "Open the page of the study first.")
        return rater, trials
