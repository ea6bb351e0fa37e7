"""Errors over HTTP: every one is an RFC 9457 problem document (`application/problem+json`).

Members: `type` (`urn:fairmark:problem:<code>`), `title`, `status`, `detail`, `instance` (the path asked), and two of
our own: `code` (stable, lower_snake_case, the same word as in metrics and records) and whatever a problem adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from core import codec
from core.errors import FairmarkError

MEDIA_TYPE = "application/problem+json"
URN = "urn:fairmark:problem:"


class ProblemDocument(BaseModel):
    """The shape of every error, for OpenAPI. A problem may add members of its own."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str | None = None


class Problem(Exception):
    """Raise in a route to answer with a problem document. `extra` adds members, as in `known=[…]`."""

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        **extra: object,
    ) -> None:
        super().__init__(f"{status} {code}: {detail or title}")
        self.status, self.code, self.title, self.detail = status, code, title, detail
        self.headers = dict(headers or {})
        self.extra = extra


def problem_response(
    status: int,
    code: str,
    title: str,
    detail: str = "",
    *,
    instance: str | None = None,
    headers: Mapping[str, str] | None = None,
    **extra: object,
) -> Response:
    """A problem document as a response. `extra` may hold domain values, written as `core.codec` does."""
    body: dict[str, object] = {
        "type": URN + code,
        "title": title,
        "status": status,
        "detail": detail or title,
        "code": code,
    }
    if instance is not None:
        body["instance"] = instance
    return Response(codec.encode({**extra, **body}), status, dict(headers or {}), MEDIA_TYPE)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route that documents these statuses as problem documents."""
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {
        status: {
            "model": ProblemDocument,
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status in statuses
    }


def install_problem_handlers(app: FastAPI, statuses: Mapping[str, int] | None = None) -> None:
    """Answer every error of `app` with a problem document.

    A `FairmarkError` that no route handles is 503 with its code (a dependency fails), but 500 where the code is
    `internal`; `statuses` names other codes' statuses. Anything unforeseen is 500 `internal` and tells the client
    nothing of its cause: the server's log has it.
    """
    by_code = {"internal": 500, **(statuses or {})}

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)  # noqa: S101 - registered for this class only
        return problem_response(
            error.status,
            error.code,
            error.title,
            error.detail,
            instance=request.url.path,
            headers=error.headers,
            **error.extra,
        )

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        phrase = HTTPStatus(error.status_code).phrase
        detail = str(error.detail)
        if error.status_code == HTTPStatus.NOT_FOUND and detail == phrase:
            detail = f"nothing is served at {request.url.path}"
        code = phrase.lower().replace(" ", "_").replace("-", "_").replace("'", "")
        return problem_response(
            error.status_code, code, phrase, detail, instance=request.url.path, headers=error.headers
        )

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        faults = [
            {"where": ".".join(str(part) for part in fault["loc"]), "what": str(fault["msg"])}
            for fault in error.errors()
        ]
        detail = "; ".join(f"{fault['where']}: {fault['what']}" for fault in faults)
        return problem_response(
            422, "invalid_request", "The request is not valid", detail, instance=request.url.path, errors=faults
        )

    async def on_fairmark(request: Request, error: Exception) -> Response:
        assert isinstance(error, FairmarkError)  # noqa: S101
        status = by_code.get(error.code, 503)
        title = "The service failed" if status == HTTPStatus.INTERNAL_SERVER_ERROR else "Not possible now"
        return problem_response(status, error.code, title, str(error), instance=request.url.path)

    async def on_anything(request: Request, _error: Exception) -> Response:
        return problem_response(
            500, "internal", "The service failed", "an unforeseen error; the log has it", instance=request.url.path
        )

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(FairmarkError, on_fairmark)
    app.add_exception_handler(Exception, on_anything)


def read_problem(body: bytes) -> ProblemDocument | None:
    """A problem document that another service sent, or None where `body` is none."""
    try:
        codec.check_depth(body)
        return ProblemDocument.model_validate(msgspec.json.decode(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        return None
