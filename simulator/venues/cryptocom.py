"""Crypto.com Exchange: GET /exchange/v1/public/get-tickers. One-letter names: a is the last price, k the ask."""

from __future__ import annotations

from simulator.venues.shape import Json, Market, Venue, text

_METHOD = "public/get-tickers"


def _body(m: Market) -> Json:
    item = {
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
    return {"id": -1, "method": _METHOD, "code": 0, "result": {"data": [item]}}


VENUE = Venue(
    name="cryptocom",
    path="/exchange/v1/public/get-tickers",
    symbol_in="instrument_name",
    body=_body,
    refuse=lambda _symbol, _now: (
        400,
        {"id": -1, "method": _METHOD, "code": 40004, "message": "Invalid instrument_name"},
    ),
)
