"""Signals and their reporters: the trader's documents, passed on as they are."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from bff import refusals
from bff.documents import Reporter, Signal, SignalProblem
from bff.errors import TraderUnavailableError
from bff.routes.answers import JSON, NO_CACHE, problem_of
from bff.trader import HttpTrader
from core.problems import MEDIA_TYPE, Problem, problem_responses

SignalName = Annotated[
    str, Path(pattern=r"^[a-z][a-z0-9-]{0,30}$", description="a signal's name", examples=["decision"])
]


def signals_router(trader: HttpTrader) -> APIRouter:
    router = APIRouter(tags=["signals"])

    async def passed_on(path: str) -> Response:
        try:
            status, body = await trader.get(path)
        except TraderUnavailableError as error:
            title = "No signals now; prices go on"
            raise Problem(503, error.code, title, str(error), headers=refusals.RETRY_SOON) from error
        headers = NO_CACHE if status != 503 else {**NO_CACHE, **refusals.RETRY_SOON}
        return Response(body, status, headers, JSON if status == 200 else MEDIA_TYPE)

    @router.get("/v1/signals", response_model=list[Signal], responses=problem_responses(503), summary="Every signal")
    async def signals() -> Response:
        """Those in error too, without a value, and with who is missing since when."""
        return await passed_on("/v1/signals")

    @router.get(
        "/v1/signals/{signal}",
        response_model=Signal,
        responses={**problem_responses(404, 422), **problem_of(SignalProblem, 503)},
        summary="A signal's value",
    )
    async def one(signal: SignalName) -> Response:
        """503 `feed_in_error` while the signal is in error: `troubles` names the reporters, and since when. Nothing is
        published meanwhile. 503 `signal_unset` before its first value."""
        return await passed_on(f"/v1/signals/{signal}")

    @router.get(
        "/v1/reporters", response_model=list[Reporter], responses=problem_responses(503), summary="Signals' reporters"
    )
    async def reporters() -> Response:
        """Who is registered for which signal, and how each does."""
        return await passed_on("/v1/reporters")

    return router
