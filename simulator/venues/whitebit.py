"""WhiteBIT: GET /api/v1/public/ticker. Without a time, and without its market's name."""

from __future__ import annotations

from simulator.venues.shape import Json, Market, Venue, text


def _body(m: Market) -> Json:
    result = {
        "open": text(m.open),
        "bid": text(m.bid),
        "ask": text(m.ask),
        "low": text(m.low),
        "high": text(m.high),
        "last": text(m.last),
        "volume": text(m.volume),
        "deal": text(m.turnover),
        "change": "1.01",
    }
    return {"success": True, "message": None, "result": result}


VENUE = Venue(
    name="whitebit",
    path="/api/v1/public/ticker",
    symbol_in="market",
    body=_body,
    refuse=lambda _symbol, _now: (
        200,
        {"success": False, "message": {"market": ["Market is not available"]}, "result": []},
    ),
    time=False,
)
