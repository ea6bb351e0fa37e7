"""CoinGecko: GET /api/v3/simple/price. Numbers are JSON numbers; an unknown id is answered with an empty object."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.venues.shape import Json, Market, Venue, VenueBatch


def _body(m: Market) -> Json:
    return {m.symbol: {"usd": m.last, "last_updated_at": m.second}}


def _many(markets: Sequence[Market], _now_ms: int) -> Json:
    found: dict[str, Json] = {}
    for m in markets:
        found |= _body(m)
    return found


_NEEDS = {"vs_currencies": "usd", "include_last_updated_at": "true"}

VENUE = Venue(
    name="coingecko",
    path="/api/v3/simple/price",
    symbol_in="ids",
    needs=_NEEDS,
    body=_body,
    refuse=lambda _symbol, _now: (200, {}),
    book=False,
    batch=VenueBatch(path="/api/v3/simple/price", symbols_in="ids", needs=_NEEDS, body=_many, lenient=True),
)
