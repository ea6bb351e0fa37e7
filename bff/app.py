"""The HTTP application: routes, middleware, and an OpenAPI description of everything it can answer."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from bff.catalogue import Catalogue
from bff.chain_reader import ChainReader
from bff.metrics import BffMetrics
from bff.middleware import Guard, Observe
from bff.quick import QuickReads
from core.clock import Clock
from core.logs import Logger
from core.ops import VERSION, Ops, add_ops_routes
from core.problems import MEDIA_TYPE, install_problem_handlers

_DESCRIPTION = """
Median prices from many exchanges, signed by redundant reporters and accepted by a contract that checks them.

Prices are decimal strings: do not read them into a float. Times are RFC 3339, in UTC. Every answer names its `mode`:
`test` prices are simulated. Every error is a problem document (RFC 9457) whose `code` is stable; give the
`X-Request-Id` of an answer when you report a fault.
"""
_TAGS = [
    {"name": "prices", "description": "Standing prices, and new ones on request."},
    {"name": "feeds", "description": "What is published, by which rules."},
    {"name": "evidence", "description": "Where a price came from: every report, quote and failure."},
    {"name": "market data", "description": "What single exchanges show now, statistics of the last minutes, candles."},
    {"name": "signals", "description": "Numbers that are no prices, from reporters whose silence is an error."},
    {"name": "operations", "description": "For operators and orchestrators."},
]


def build_app(
    routers: list[APIRouter],
    *,
    catalogue: Catalogue,
    reader: ChainReader,
    clock: Clock,
    ops: Ops,
    metrics: BffMetrics,
    cors_origin_regex: str,
    logger: Logger,
) -> FastAPI:
    app = FastAPIOffline(  # the pages at /docs come from here, not from somebody's CDN
        title="Fairmark",
        version=VERSION,
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        redoc_url=None,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    for router in routers:
        app.include_router(router)
    add_ops_routes(app, ops)
    install_problem_handlers(app)

    @app.get("/", include_in_schema=False)
    async def home() -> Response:
        return RedirectResponse("/docs")

    describe = app.openapi

    def openapi() -> dict[str, Any]:
        return _problems_only(describe())

    app.openapi = openapi  # type: ignore[method-assign]

    # the last one added is the outermost
    app.add_middleware(QuickReads, catalogue=catalogue, reader=reader, clock=clock)
    app.add_middleware(Guard, logger=logger)
    app.add_middleware(
        CORSMiddleware,
        allow_origin_regex=cors_origin_regex,
        allow_methods=["GET", "POST"],
        allow_headers=["X-Request-Id"],
        expose_headers=["X-Request-Id", "Retry-After"],
    )
    app.add_middleware(Observe, metrics=metrics)
    return app


def _problems_only(description: dict[str, Any]) -> dict[str, Any]:
    """FastAPI documents a response's model as `application/json` beside what we say; a problem is never that."""
    for path in description["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                if MEDIA_TYPE in response.get("content", {}):
                    response["content"].pop("application/json", None)
    return description
