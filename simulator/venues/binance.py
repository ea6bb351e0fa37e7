"""Binance: GET /api/v3/ticker/24hr. All numbers as strings, as in the recorded body."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.venues.shape import Json, Market, Venue, VenueBatch, json_list, text

_DAY_MS = 86_400_000


def _body(m: Market) -> Json:
    return {
        "symbol": m.symbol,
        "priceChange": text(m.change, 8),
        "priceChangePercent": "1.010",
        "weightedAvgPrice": text(m.percent(100), 8),
        "prevClosePrice": text(m.open, 8),
        "lastPrice": text(m.last, 8),
        "lastQty": "0.23925000",
        "bidPrice": text(m.bid, 8),
        "bidQty": "6.27086000",
        "askPrice": text(m.ask, 8),
        "askQty": "0.03321000",
        "openPrice": text(m.open, 8),
        "highPrice": text(m.high, 8),
        "lowPrice": text(m.low, 8),
        "volume": text(m.volume, 8),
        "quoteVolume": text(m.turnover, 8),
        "openTime": str(m.time_ms - _DAY_MS),
        "closeTime": str(m.time_ms),
        "firstId": str(m.trade_id - 86_400),
        "lastId": str(m.trade_id),
        "count": "86401",
    }


def _many(markets: Sequence[Market], _now_ms: int) -> Json:
    return [_body(m) for m in markets]


VENUE = Venue(
    name="binance",
    path="/api/v3/ticker/24hr",
    symbol_in="symbol",
    body=_body,
    refuse=lambda _symbol, _now: (400, {"code": -1121, "msg": "Invalid symbol."}),
    batch=VenueBatch(path="/api/v3/ticker/24hr", symbols_in="symbols", split=json_list, body=_many),
)
