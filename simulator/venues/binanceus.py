"""Binance.US: GET /api/v3/ticker/24hr, for one symbol or for a JSON list of them. Times and counts are numbers."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.venues.shape import Json, Market, Venue, VenueBatch, json_list, text

_DAY_MS = 86_400_000


def _body(m: Market) -> Json:
    return {
        "symbol": m.symbol,
        "priceChange": text(m.change, 4),
        "priceChangePercent": "1.010",
        "weightedAvgPrice": text(m.percent(100), 4),
        "prevClosePrice": text(m.open, 4),
        "lastPrice": text(m.last, 4),
        "lastQty": "0.00200000",
        "bidPrice": text(m.bid, 4),
        "bidQty": "0.10000000",
        "askPrice": text(m.ask, 4),
        "askQty": "0.20000000",
        "openPrice": text(m.open, 4),
        "highPrice": text(m.high, 4),
        "lowPrice": text(m.low, 4),
        "volume": text(m.volume, 8),
        "quoteVolume": text(m.turnover, 4),
        "openTime": m.time_ms - _DAY_MS,
        "closeTime": m.time_ms,
        "firstId": m.trade_id - 75,
        "lastId": m.trade_id,
        "count": 76,
    }


def _many(markets: Sequence[Market], _now_ms: int) -> Json:
    return [_body(m) for m in markets]


VENUE = Venue(
    name="binanceus",
    path="/api/v3/ticker/24hr",
    symbol_in="symbol",
    body=_body,
    refuse=lambda _symbol, _now: (400, {"code": -1121, "msg": "Invalid symbol."}),
    batch=VenueBatch(path="/api/v3/ticker/24hr", symbols_in="symbols", split=json_list, body=_many),
)
