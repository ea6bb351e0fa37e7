"""Bitrue: GET /api/v1/ticker/24hr. A list of one, with times that are always zero."""

from __future__ import annotations

from simulator.venues.shape import Json, Market, Venue, text

_ZEROS = ("openTime", "closeTime", "firstId", "lastId", "count")


def _body(m: Market) -> Json:
    return [
        {
            "symbol": m.symbol,
            "priceChange": text(m.change),
            "priceChangePercent": "1.0100",
            "weightedAvgPrice": None,
            "prevClosePrice": None,
            "lastPrice": text(m.last),
            "lastQty": None,
            "bidPrice": text(m.bid),
            "askPrice": text(m.ask),
            "openPrice": text(m.open),
            "highPrice": text(m.high),
            "lowPrice": text(m.low),
            "volume": text(m.volume),
            "quoteVolume": text(m.turnover),
            **dict.fromkeys(_ZEROS, 0),
        }
    ]


VENUE = Venue(
    name="bitrue",
    path="/api/v1/ticker/24hr",
    symbol_in="symbol",
    body=_body,
    refuse=lambda _symbol, _now: (400, {"code": -1121, "msg": "Invalid symbol."}),
    time=False,
)
