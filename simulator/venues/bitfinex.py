"""Bitfinex: GET /v1/pubticker/btcusd. The time is a string of seconds with seven decimals."""

from __future__ import annotations

from simulator.venues.shape import Json, Market, Venue, text


def _body(m: Market) -> Json:
    return {
        "mid": text((m.bid + m.ask) / 2, 1),
        "bid": text(m.bid, 1),
        "ask": text(m.ask, 1),
        "last_price": text(m.last, 1),
        "low": text(m.low, 1),
        "high": text(m.high, 1),
        "volume": text(m.volume, 8),
        "timestamp": f"{m.second}.{m.time_ms % 1000:03d}0000",
    }


VENUE = Venue(
    name="bitfinex",
    path="/v1/pubticker/{symbol}",
    body=_body,
    refuse=lambda _symbol, _now: (400, {"message": "Unknown symbol"}),
)
