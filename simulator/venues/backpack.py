"""Backpack: GET /api/v1/ticker. Neither book nor time."""

from __future__ import annotations

from simulator.venues.shape import Json, Market, Venue, text


def _body(m: Market) -> Json:
    return {
        "firstPrice": text(m.open),
        "high": text(m.high),
        "lastPrice": text(m.last),
        "low": text(m.low),
        "priceChange": text(m.change),
        "priceChangePercent": "0.010101",
        "quoteVolume": text(m.turnover),
        "symbol": m.symbol,
        "trades": "24512",
        "volume": text(m.volume),
    }


VENUE = Venue(
    name="backpack",
    path="/api/v1/ticker",
    symbol_in="symbol",
    body=_body,
    refuse=lambda _symbol, _now: (400, {"code": "INVALID_MARKET", "message": "Invalid market"}),
    book=False,
    time=False,
)
