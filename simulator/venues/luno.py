"""Luno: GET /api/1/ticker."""

from __future__ import annotations

from simulator.venues.shape import Json, Market, Venue, text


def _body(m: Market) -> Json:
    return {
        "pair": m.symbol,
        "timestamp": str(m.time_ms),
        "bid": text(m.bid, 8),
        "ask": text(m.ask, 8),
        "last_trade": text(m.last, 8),
        "rolling_24_hour_volume": text(m.volume, 8),
        "status": "ACTIVE",
    }


VENUE = Venue(
    name="luno",
    path="/api/1/ticker",
    symbol_in="pair",
    body=_body,
    refuse=lambda _symbol, _now: (400, {"error": "Invalid currency pair.", "error_code": "ErrInvalidPair"}),
)
