"""CoinGecko: GET /api/v3/simple/price. Numbers are JSON numbers; an unknown id is answered with an empty object."""

from __future__ import annotations

from simulator.venues.shape import Json, Market, Venue


def _body(m: Market) -> Json:
    return {m.symbol: {"usd": m.last, "last_updated_at": m.second}}


VENUE = Venue(
    name="coingecko",
    path="/api/v3/simple/price",
    symbol_in="ids",
    needs={"vs_currencies": "usd", "include_last_updated_at": "true"},
    body=_body,
    refuse=lambda _symbol, _now: (200, {}),
    book=False,
)
