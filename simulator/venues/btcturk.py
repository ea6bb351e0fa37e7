"""BtcTurk: GET /api/v2/ticker, for one pair or for all. JSON numbers in a list."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from simulator.venues.shape import Json, Market, Venue, VenueBatch


def _body(m: Market) -> Json:
    return _all([m], m.time_ms)


def _all(markets: Sequence[Market], _now_ms: int) -> Json:
    return {
        "data": [_item(m, 2001 + place) for place, m in enumerate(markets)],
        "success": True,
        "message": None,
        "code": 0,
    }


def _item(m: Market, order: int) -> Json:
    return {
        "pair": m.symbol,
        "pairNormalized": f"{m.base}_{m.quote}",
        "timestamp": m.time_ms,
        "last": m.last,
        "high": m.high,
        "low": m.low,
        "bid": m.bid,
        "ask": m.ask,
        "open": m.open,
        "volume": m.volume,
        "average": m.percent(100),
        "daily": m.change,
        "dailyPercent": Decimal("1.01"),
        "denominatorSymbol": m.quote,
        "numeratorSymbol": m.base,
        "order": order,
    }


VENUE = Venue(
    name="btcturk",
    path="/api/v2/ticker",
    symbol_in="pairSymbol",
    body=_body,
    refuse=lambda _symbol, _now: (400, {"success": False, "message": "INVALID_PAIR", "code": 1000}),
    batch=VenueBatch(path="/api/v2/ticker", body=_all),
)
