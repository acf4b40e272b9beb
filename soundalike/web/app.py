"""The application: all routes, the page, and what becomes of errors."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from indexer.errors import (
    AudioError,
    CheckpointError,
    ExpressionError,
    SoundalikeError,
    StoreError,
)
from soundalike.web import answering, mapping, sending, teaching
from soundalike.web.bodies import Problem
from soundalike.web.desk import Desk
from soundalike.web.gate import BusyError
from soundalike.web.gone import NotThereError
from soundalike.web.replies import Json

PAGE = Path(__file__).parent / "page"
#: Errors and the status that each is answered with; the first that fits counts.
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (AudioError, 415),
    (StoreError, 409),
    (CheckpointError, 409),
    (SoundalikeError, 400),
)


#: What each status means, for the description of the API.
_SAID = (
    (400, "It cannot be asked so"),
    (401, "The token is missing"),
    (404, "Not there, or not any more"),
    (409, "A store has no index yet, or no network"),
    (413, "Too large"),
    (415, "Nothing that can be decoded"),
    (422, "Misshapen"),
    (503, "Busy: Retry-After says when to come again"),
)


class _PageFiles(StaticFiles):
    """The modules of the page: a browser asks each time whether one has changed."""

    def file_response(self, *given: Any, **named: Any) -> Response:
        """Return a file."""
        response = super().file_response(*given, **named)
        response.headers["Cache-Control"] = "no-cache"
        return response


def make_app(desk: Desk) -> FastAPI:
    """Return the application; it has to be guarded, see `soundalike.web.guard`."""
    app = FastAPI(
        title="soundalike",
        version=metadata.version("soundalike"),
        summary="Drop a sound, see and hear what is like it.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        default_response_class=Json,
        responses={number: {"model": Problem, "description": told} for number, told in _SAID},
    )
    app.state.desk = desk
    app.include_router(answering.router, prefix="/api/v1")
    app.include_router(sending.router, prefix="/api/v1")
    app.include_router(mapping.router, prefix="/api/v1")
    app.include_router(teaching.router, prefix="/api/v1")
    app.mount("/page", _PageFiles(directory=PAGE), name="page")

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/api/docs", include_in_schema=False)
    def docs() -> FileResponse:
        return FileResponse(PAGE / "docs.html", headers={"Cache-Control": "no-cache"})

    for kind, answer in (
        (SoundalikeError, _refuse),
        (NotThereError, _say_gone),
        (BusyError, _say_busy),
        (RequestValidationError, _say_wrong),
        (HTTPException, _say_http),
        (OSError, _say_disk),
    ):
        app.add_exception_handler(kind, answer)
    return app


def _refuse(_: Request, error: Exception) -> Response:
    if isinstance(error, ExpressionError):
        return _said(error.lines[0], 400, "where", [error.at, error.at + 1])
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    return _said(str(error), status, getattr(error, "about", None))


def _say_gone(_: Request, error: Exception) -> Response:
    return _said(str(error), 404)


def _say_busy(_: Request, error: Exception) -> Response:
    assert isinstance(error, BusyError)
    body = {"detail": str(error), "about": None, "at": None}
    return Json(body, 503, Retry_After=str(error.retry_s))


def _say_wrong(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = error.errors()[0]
    place = ".".join(str(one) for one in first["loc"] if one != "body")
    told = str(first["msg"]).removeprefix("Value error, ")
    if first["loc"] == ("body",) and first["type"] == "missing":
        told = "the request has no body, which says what is asked for"
    return _said(f"{place}: {told}" if place else told, 422, place or None)


def _say_disk(_: Request, error: Exception) -> Response:
    """Say what is wrong with the server's own disk: it is full, as a rule."""
    assert isinstance(error, OSError)
    return _said(f"the server's disk: {error.strerror or error}", 507)


def _say_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _said(str(error.detail), error.status_code)


def _said(detail: str, status: int, about: str | None = None, at: Any = None) -> Response:
    return Json({"detail": detail, "about": about, "at": at}, status)
