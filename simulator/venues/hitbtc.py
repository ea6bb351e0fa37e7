"""HitBTC: GET /api/3/public/ticker/BTCUSDT; several stand in an object under their symbols, unknown ones left out."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.venues.shape import Json, Market, Venue, VenueBatch, text


def _body(m: Market) -> Json:
    return {
        "ask": text(m.ask, 2),
        "bid": text(m.bid, 2),
        "last": text(m.last, 2),
        "low": text(m.low, 2),
        "high": text(m.high, 2),
        "open": text(m.open, 2),
        "volume": text(m.volume),
        "volume_quote": text(m.turnover),
        "timestamp": m.iso,
    }


def _many(markets: Sequence[Market], _now_ms: int) -> Json:
    return {m.symbol: _body(m) for m in markets}


VENUE = Venue(
    name="hitbtc",
    path="/api/3/public/ticker/{symbol}",
    body=_body,
    refuse=lambda symbol, _now: (
        400,
        {"error": {"code": 2001, "message": "Symbol not found", "description": f"No such symbol: {symbol}"}},
    ),
    batch=VenueBatch(path="/api/3/public/ticker", symbols_in="symbols", body=_many, lenient=True),
)
