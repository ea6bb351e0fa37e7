"""Crypto.com Exchange: GET /exchange/v1/public/get-tickers. One-letter names: a is the last price, k the ask."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.venues.shape import Json, Market, Venue, VenueBatch, text

_METHOD = "public/get-tickers"


def _body(m: Market) -> Json:
    return _many([m], m.time_ms)


def _item(m: Market) -> Json:
    return {
        "h": text(m.high),
        "l": text(m.low),
        "a": text(m.last),
        "i": m.symbol,
        "v": text(m.volume),
        "vv": text(m.turnover),
        "oi": "0",
        "c": "0.0101",
        "b": text(m.bid),
        "k": text(m.ask),
        "t": m.time_ms,
    }


def _many(markets: Sequence[Market], _now_ms: int) -> Json:
    return {"id": -1, "method": _METHOD, "code": 0, "result": {"data": [_item(m) for m in markets]}}


VENUE = Venue(
    name="cryptocom",
    path="/exchange/v1/public/get-tickers",
    symbol_in="instrument_name",
    body=_body,
    refuse=lambda _symbol, _now: (
        400,
        {"id": -1, "method": _METHOD, "code": 40004, "message": "Invalid instrument_name"},
    ),
    batch=VenueBatch(path="/exchange/v1/public/get-tickers", body=_many),
)
