"""The market's API: prices and statistics for everybody, the mode for who has the token.

Prices are decimal strings, times milliseconds since the Unix epoch; every answer names its mode.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, FastAPI, Path, Query, Response, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_offline import FastAPIOffline

from core import codec
from core.clock import Clock, rfc3339
from core.ops import VERSION, Ops, add_ops_routes
from core.problems import Problem, install_problem_handlers, problem_responses
from core.types import Mode
from market.candles import Candle
from market.context import WithContext
from market.errors import InvalidQuestionError, NotReadyError
from market.periods import DEFAULT_PERIOD, INTERVALS, PERIODS, interval_ms, moment_ms, period_ms, written

if TYPE_CHECKING:
    from market.service import MarketService

BEARER = HTTPBearer(auto_error=False)
Symbol = Annotated[str, Path(description="as `BTCUSDT`, in any case", examples=["BTCUSDT"])]
Exchange = Annotated[str, Path(description="a source's name", examples=["exchange1"])]
Period = Annotated[str, Query(description=f"{', '.join(PERIODS)}, or any other duration", examples=["1m"])]
MODES = ", ".join(Mode)
_TITLES = {
    "unknown_symbol": "No such symbol",
    "unknown_exchange": "No such exchange",
    "no_ticks": "No price in this time",
}


def build_app(service: MarketService, *, ops: Ops, clock: Clock, token: str) -> FastAPI:
    """The application. token: empty where nobody may switch the mode."""
    app = FastAPIOffline(title="Fairmark market data", version=VERSION, description=__doc__, redoc_url=None)
    install_problem_handlers(app)
    add_ops_routes(app, ops)
    _add_prices(app, service, clock)
    _add_history(app, service)
    _add_mode(app, service, token)
    app.add_middleware(WithContext)
    return app


def _json(body: object) -> Response:
    return Response(codec.encode(body), 200, {"cache-control": "no-cache"}, "application/json")


def _problem(error: InvalidQuestionError) -> Problem:
    title = _TITLES.get(error.reason, "The request is not valid")
    extra: dict[str, Any] = {"known": list(error.known)} if error.known else {}
    return Problem(error.status, error.reason, title, str(error), **extra)


def _add_prices(app: FastAPI, service: MarketService, clock: Clock) -> None:
    common: dict[str, Any] = {"tags": ["prices"], "responses": problem_responses(400, 404, 422, 503)}

    async def latest_of(symbol: str, exchange: str | None) -> Response:
        statistics = service.statistics
        try:
            tick = await statistics.latest(symbol, exchange)
        except InvalidQuestionError as error:
            raise _problem(error) from None
        return _json(
            {
                "symbol": tick.symbol,
                "exchange": tick.exchange,
                "price": format(tick.price, "f"),
                "timestamp": tick.time_ms,
                "time": rfc3339(tick.time_ms),
                "age_ms": clock.now_ms() - tick.time_ms,
                "mode": statistics.mode,
            }
        )

    @app.get("/prices/latest/{symbol}", summary="The newest price of all exchanges: which one, and when", **common)
    async def latest(symbol: Symbol) -> Response:
        return await latest_of(symbol, None)

    @app.get("/prices/latest/{exchange}/{symbol}", summary="An exchange's newest price", **common)
    async def latest_at(exchange: Exchange, symbol: Symbol) -> Response:
        return await latest_of(symbol, exchange)

    async def over(kind: str, symbol: str, exchange: str | None, period: str) -> Response:
        statistics = service.statistics
        try:
            wanted_ms = period_ms(period, statistics.longest_ms)
            answer = await statistics.over(symbol, exchange, wanted_ms)
        except InvalidQuestionError as error:
            raise _problem(error) from None
        price = {"highest": answer.highest, "lowest": answer.lowest, "average": answer.average}[kind]
        return _json(
            {
                "symbol": answer.symbol,
                "exchange": answer.exchange,
                "statistic": kind,
                "period": written(wanted_ms),
                "price": format(price, "f"),
                "count": answer.count,
                "from": answer.from_ms,
                "to": answer.to_ms,
                "mode": answer.mode,
            }
        )

    def add(kind: str) -> None:
        @app.get(f"/prices/{kind}/{{symbol}}", summary=f"The {kind} price of a period, all exchanges", **common)
        async def of_all(symbol: Symbol, period: Period = DEFAULT_PERIOD) -> Response:
            return await over(kind, symbol, None, period)

        @app.get(f"/prices/{kind}/{{exchange}}/{{symbol}}", summary=f"The {kind} price of a period", **common)
        async def of_one(exchange: Exchange, symbol: Symbol, period: Period = DEFAULT_PERIOD) -> Response:
            return await over(kind, symbol, exchange, period)

    for kind in ("highest", "lowest", "average"):
        add(kind)


def _add_history(app: FastAPI, service: MarketService) -> None:
    @app.get(
        "/prices/history/{symbol}",
        tags=["prices"],
        summary="Candles, for charts",
        responses=problem_responses(400, 422, 503),
    )
    async def history(
        symbol: Symbol,
        from_: Annotated[str | None, Query(alias="from", description="milliseconds, or RFC 3339")] = None,
        to: Annotated[str | None, Query(description="milliseconds, or RFC 3339; default: now")] = None,
        interval: Annotated[str, Query(description=f"{', '.join(INTERVALS)}, or any other number of minutes")] = "1m",
        exchange: Annotated[str | None, Query(description="default: all together")] = None,
    ) -> Response:
        """Those that begin in `[from, to)`, by default the last 60. The last one may still be under way."""
        statistics = service.statistics
        try:
            length_ms = interval_ms(interval)
            found = await statistics.history(
                symbol,
                exchange,
                None if from_ is None else moment_ms(from_, "from"),
                None if to is None else moment_ms(to, "to"),
                length_ms,
            )
            named, of = statistics.named(symbol, exchange)
        except InvalidQuestionError as error:
            raise _problem(error) from None
        shown = [_candle(candle) for candle in found]
        body = {"symbol": named, "exchange": of, "interval": written(length_ms), "mode": statistics.mode}
        return _json({**body, "candles": shown})


def _candle(candle: Candle) -> dict[str, object]:
    return {
        "timestamp": candle.start_ms,
        "open": format(candle.open, "f"),
        "high": format(candle.high, "f"),
        "low": format(candle.low, "f"),
        "close": format(candle.close, "f"),
        "average": format(candle.average, "f"),
        "count": candle.count,
        "volume": None if candle.volume is None else format(candle.volume, "f"),
        "exchanges": candle.exchanges,
    }


def _add_mode(app: FastAPI, service: MarketService, token: str) -> None:
    expected = token.encode()

    async def authorised(
        credentials: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)],
    ) -> None:
        if not expected:
            detail = "no token is configured: set FAIRMARK_MARKET__TOKEN, or market.token_file"
            raise Problem(403, "no_token", "The mode cannot be switched", detail)
        given = credentials.credentials.encode() if credentials is not None else b""
        if not hmac.compare_digest(given, expected):
            detail = "send `Authorization: Bearer <token>` with the market's token"
            headers = {"WWW-Authenticate": "Bearer"}
            raise Problem(401, "unauthorized", "A token is needed", detail, headers=headers)

    @app.post(
        "/mode/{mode}",
        tags=["operations"],
        summary="Switch the market data's mode; the oracle's own does not change",
        responses=problem_responses(401, 403, 422, 503),
        dependencies=[Depends(authorised)],
    )
    async def switch(mode: str) -> Response:
        """Answers once the old mode's ticks in flight have arrived and its minutes are written."""
        if mode not in tuple(Mode):
            raise Problem(422, "invalid_mode", "No such mode", f"{mode[:20]!r} is no mode: use {MODES}", known=[*Mode])
        try:
            changed = await service.switch(Mode(mode))
        except NotReadyError as error:
            raise Problem(503, error.code, "Not now", str(error), headers={"retry-after": "1"}) from error
        return _json({"mode": service.mode, "changed": changed})
