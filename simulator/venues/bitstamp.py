"""Bitstamp: GET /api/v2/ticker/btcusd/."""

from __future__ import annotations

from simulator.venues.shape import Json, Market, Venue, text


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


VENUE = Venue(
    name="bitstamp",
    path="/api/v2/ticker/{symbol}/",
    body=_body,
    refuse=lambda _symbol, _now: (404, {"code": "404.002", "message": "Currency pair not found.", "field": "market"}),
)
