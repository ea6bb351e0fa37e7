"""Gemini: GET /v1/pubticker/btcusd. The time stands among the volumes."""

from __future__ import annotations

from simulator.venues.shape import Json, Market, Venue, text


def _body(m: Market) -> Json:
    return {
        "bid": text(m.bid),
        "ask": text(m.ask),
        "last": text(m.last),
        "volume": {m.base: text(m.volume), m.quote: text(m.turnover), "timestamp": str(m.time_ms)},
    }


VENUE = Venue(
    name="gemini",
    path="/v1/pubticker/{symbol}",
    body=_body,
    refuse=lambda symbol, _now: (
        400,
        {"result": "error", "reason": "Bad Request", "message": f"Supplied value '{symbol}' is not a valid symbol"},
    ),
)
