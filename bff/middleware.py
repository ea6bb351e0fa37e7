"""What happens to every request, as plain ASGI: FastAPI's BaseHTTPMiddleware would halve the throughput."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Mapping

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bff.metrics import BffMetrics
from core.logs import Logger
from core.problems import problem_response

MAX_BODY_BYTES = 16 * 1024
MAX_URL_BYTES = 4 * 1024
_BODY_TIMEOUT_S = 5.0
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._\-]{1,64}")
_HEADER = b"x-request-id"


class Observe:
    """Gives each request an id (the client's own, where it is a decent one), on the answer and on every
    log line written meanwhile; counts and times it."""

    def __init__(self, app: ASGIApp, metrics: BffMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        given = _header(scope, _HEADER)
        request_id = given if given and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex.encode()
        status = 499  # the client went away before we answered

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (_HEADER, request_id)]
            await send(message)

        tokens = structlog.contextvars.bind_contextvars(request_id=request_id.decode())
        try:
            await self._app(scope, receive, send_marked)
        finally:
            structlog.contextvars.reset_contextvars(**tokens)
            route = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.requests.labels(route, status).inc()
            self._metrics.request_seconds.labels(route).observe(time.perf_counter() - started)


class Guard:
    """Refuses what is too large before anything reads it, and turns a bug into a problem document and a log line."""

    def __init__(self, app: ASGIApp, logger: Logger) -> None:
        self._app = app
        self._log = logger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        url_bytes = len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"])
        if url_bytes > MAX_URL_BYTES:
            detail = f"{url_bytes} bytes: path and query have at most {MAX_URL_BYTES}"
            await _refuse(scope, receive, send, 414, "url_too_long", "The URL is too long", detail)
            return
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            body = await _small_body(scope, receive)
            if body is None:
                detail = f"a body has at most {MAX_BODY_BYTES} bytes, sent within {_BODY_TIMEOUT_S:g} s"
                await _refuse(scope, receive, send, 413, "body_too_large", "The body is too large", detail)
                return
            receive = _replay(body, receive)
        begun = False

        async def send_noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except Exception:
            self._log.exception("request_failed", path=scope["path"], method=scope["method"])
            if begun:
                raise
            detail = "an unforeseen error; the log has it, under this answer's X-Request-Id"
            await _refuse(scope, receive, send, 500, "internal", "The service failed", detail)


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)


async def _small_body(scope: Scope, receive: Receive) -> bytes | None:
    """The request's body, or None where it is too large or too slow."""
    declared = _header(scope, b"content-length")
    if declared is not None and (not declared.isdigit() or int(declared) > MAX_BODY_BYTES):
        return None
    body = b""
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            while True:
                message = await receive()
                part: bytes = message.get("body", b"")
                body += part
                if len(body) > MAX_BODY_BYTES:
                    return None
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return body
    except TimeoutError:
        return None


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[Mapping[str, object]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return dict(pending.pop()) if pending else await receive()

    return replayed


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, code: str, title: str, detail: str) -> None:
    await problem_response(status, code, title, detail, instance=scope["path"][:200])(scope, receive, send)
