"""Bitstamp: GET /api/v2/ticker/btcusd/."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.venues.shape import Json, Market, Venue, VenueBatch, text


def _body(m: Market) -> Json:
    return {
        "timestamp": str(m.second),
        "open": text(m.open),
        "high": text(m.high),
        "last": text(m.last),
        "low": text(m.low),
        "volume": text(m.volume, 8),
        "vwap": text(m.percent(100)),
        "bid": text(m.bid),
        "ask": text(m.ask),
        "side": "0",
        "open_24": text(m.open),
        "percent_change_24": "1.01",
    }


def _all(markets: Sequence[Market], _now_ms: int) -> Json:
    return [_body(m) | {"pair": f"{m.base}/{m.quote}"} for m in markets]


VENUE = Venue(
    name="bitstamp",
    path="/api/v2/ticker/{symbol}/",
    body=_body,
    refuse=lambda _symbol, _now: (404, {"code": "404.002", "message": "Currency pair not found.", "field": "market"}),
    batch=VenueBatch(path="/api/v2/ticker/", body=_all),
)
