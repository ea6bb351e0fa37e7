"""The one question that is asked all the time, `GET /v1/prices/{pair}`, answered before the framework is entered.

FastAPI spends several times longer on matching, parameters and exit stacks than the answer takes. This answers the
plain case only, with the same document as the route; whatever else (no such pair, no price yet, another method) goes on
to the route, which stays the one place where problems are made and the API is described.
"""

from __future__ import annotations

from types import SimpleNamespace

from starlette.types import ASGIApp, Receive, Scope, Send

from bff.catalogue import Catalogue
from bff.chain_reader import ChainReader
from core.clock import Clock

PATH = "/v1/prices/{pair}"
_PREFIX = "/v1/prices/"
_ROUTE = SimpleNamespace(path=PATH)


class QuickReads:
    """ASGI middleware; the innermost one."""

    def __init__(self, app: ASGIApp, catalogue: Catalogue, reader: ChainReader, clock: Clock) -> None:
        self._app = app
        self._listed = {listed.pair.slug: (listed.group.name, listed.pair) for listed in catalogue.listed}
        self._reader = reader
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and (body := self._body(scope["path"])) is not None:
            scope["route"] = _ROUTE  # as the router does, for the metrics
            headers = [
                (b"content-type", b"application/json"),
                (b"cache-control", b"no-cache"),
                (b"content-length", b"%d" % len(body)),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        await self._app(scope, receive, send)

    def _body(self, path: str) -> bytes | None:
        if not path.startswith(_PREFIX):
            return None
        found = self._listed.get(path[len(_PREFIX) :].upper())
        if found is None:
            return None
        group, pair = found
        view = self._reader.view(group)
        standing = view.standing.get(pair) if view is not None else None
        return None if standing is None else standing.at(self._clock.now_ms()).model_dump_json().encode()
