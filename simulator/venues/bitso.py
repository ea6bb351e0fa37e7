"""Bitso: GET /api/v3/ticker. Times in ISO 8601 with an offset, whole seconds."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.venues.shape import Json, Market, Venue, VenueBatch, text


def _body(m: Market) -> Json:
    return {"success": True, "payload": _item(m)}


def _all(markets: Sequence[Market], _now_ms: int) -> Json:
    return {"success": True, "payload": [_item(m) for m in markets]}


def _item(m: Market) -> Json:
    return {
        "high": text(m.high),
        "last": text(m.last),
        "created_at": f"{m.iso[:19]}+00:00",
        "book": m.symbol,
        "volume": text(m.volume, 8),
        "vwap": text(m.percent(100)),
        "low": text(m.low),
        "ask": text(m.ask),
        "bid": text(m.bid),
        "change_24": text(m.change),
        "rolling_average_change": {"6": "0.2759"},
    }


VENUE = Venue(
    name="bitso",
    path="/api/v3/ticker",
    symbol_in="book",
    body=_body,
    refuse=lambda symbol, _now: (
        400,
        {"success": False, "error": {"code": "0301", "message": f"Unknown OrderBook {symbol}"}},
    ),
    batch=VenueBatch(path="/api/v3/ticker", body=_all),
)
