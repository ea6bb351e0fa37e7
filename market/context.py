"""An id for each request, on its answer and on every log line written meanwhile, as plain ASGI."""

from __future__ import annotations

import re
import uuid

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADER = b"x-request-id"
_DECENT = re.compile(rb"[A-Za-z0-9._\-]{1,64}")


class WithContext:
    """Takes the caller's `X-Request-Id` where it is a decent one, else makes one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for key, value in scope["headers"] if key == _HEADER), b"")
        request_id = given if _DECENT.fullmatch(given) else uuid.uuid4().hex.encode()

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (_HEADER, request_id)]
            await send(message)

        tokens = structlog.contextvars.bind_contextvars(request_id=request_id.decode())
        try:
            await self._app(scope, receive, send_marked)
        finally:
            structlog.contextvars.reset_contextvars(**tokens)
