"""Market data: prices of single exchanges, statistics, candles, its mode: passed on to the market service and back."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Any
from urllib.parse import quote

import structlog
from fastapi import APIRouter, Path, Query, Request, Response, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from bff.errors import MarketUnavailableError
from bff.market_upstream import HttpMarket, Passed
from bff.refusals import RETRY_SOON
from bff.routes.answers import NO_CACHE
from core.problems import Problem, problem_responses

_BEARER = HTTPBearer(auto_error=False, description="the market's token")
Symbol = Annotated[str, Path(description="as `BTCUSDT`, in any case", examples=["BTCUSDT"])]
Exchange = Annotated[str, Path(description="a source's name", examples=["binance"])]
Statistic = Annotated[str, Path(pattern="^(highest|lowest|average)$", examples=["average"])]
Period = Annotated[str | None, Query(description="1s, 3s, 5s, 10s, 30s, 1m (default), 3m, 5m, or any other duration")]


def market_router(market: HttpMarket) -> APIRouter:
    router = APIRouter(tags=["market data"])
    common: dict[str, Any] = {"responses": problem_responses(400, 404, 422, 503)}

    async def passed(request: Request, *parts: str) -> Response:
        path = "/prices/" + "/".join(quote(part, safe="") for part in parts)
        return await _answered(market.ask(path, request.url.query, _request_id()))

    @router.get("/prices/latest/{symbol}", summary="The newest price of all exchanges: which one, and when", **common)
    async def latest(request: Request, symbol: Symbol) -> Response:
        return await passed(request, "latest", symbol)

    @router.get("/prices/latest/{exchange}/{symbol}", summary="An exchange's newest price", **common)
    async def latest_at(request: Request, exchange: Exchange, symbol: Symbol) -> Response:
        return await passed(request, "latest", exchange, symbol)

    @router.get("/prices/history/{symbol}", summary="Candles, for charts", **common)
    async def history(
        request: Request,
        symbol: Symbol,
        from_: Annotated[str | None, Query(alias="from", description="milliseconds, or RFC 3339")] = None,
        to: Annotated[str | None, Query(description="milliseconds, or RFC 3339; default: now")] = None,
        interval: Annotated[str | None, Query(description="1m (default), or any other number of minutes")] = None,
        exchange: Annotated[str | None, Query(description="default: all together")] = None,
    ) -> Response:
        return await passed(request, "history", symbol)

    @router.get("/prices/{statistic}/{symbol}", summary="Highest, lowest or average price of a period", **common)
    async def of_all(request: Request, statistic: Statistic, symbol: Symbol, period: Period = None) -> Response:
        return await passed(request, statistic, symbol)

    @router.get("/prices/{statistic}/{exchange}/{symbol}", summary="The same of one exchange", **common)
    async def of_one(
        request: Request, statistic: Statistic, exchange: Exchange, symbol: Symbol, period: Period = None
    ) -> Response:
        return await passed(request, statistic, exchange, symbol)

    @router.post(
        "/mode/{mode}",
        tags=["operations"],
        summary="Switch the market data's mode; the oracle's own does not change",
        responses=problem_responses(401, 403, 422, 503),
    )
    async def switch(
        mode: Annotated[str, Path(examples=["test"])],
        credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
    ) -> Response:
        """With the market's own token, which is passed on and known to it alone. 503 `market_unavailable` leaves open
        whether the mode changed: a price's `mode` tells."""
        given = None if credentials is None else f"{credentials.scheme} {credentials.credentials}"
        return await _answered(market.switch(f"/mode/{quote(mode, safe='')}", given, _request_id()))

    return router


async def _answered(answer: Awaitable[Passed]) -> Response:
    """The market's answer, as it is."""
    try:
        found = await answer
    except MarketUnavailableError as error:
        raise Problem(503, error.code, "No market data now", str(error), headers=RETRY_SOON) from error
    return Response(found.body, found.status, {**NO_CACHE, **found.headers}, found.media_type)


def _request_id() -> str:
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))
