"""Gate: GET /api/v4/spot/tickers. A list of one, without a time."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.venues.shape import Json, Market, Venue, VenueBatch, text


def _body(m: Market) -> Json:
    return [_item(m)]


def _many(markets: Sequence[Market], _now_ms: int) -> Json:
    return [_item(m) for m in markets]


def _item(m: Market) -> Json:
    return {
        "currency_pair": m.symbol,
        "last": text(m.last),
        "lowest_ask": text(m.ask),
        "highest_bid": text(m.bid),
        "change_percentage": "1.01",
        "base_volume": text(m.volume),
        "quote_volume": text(m.turnover),
        "high_24h": text(m.high),
        "low_24h": text(m.low),
    }


VENUE = Venue(
    name="gate",
    path="/api/v4/spot/tickers",
    symbol_in="currency_pair",
    body=_body,
    refuse=lambda symbol, _now: (
        400,
        {"label": "INVALID_CURRENCY_PAIR", "message": f"Invalid currency pair {symbol}"},
    ),
    time=False,
    batch=VenueBatch(path="/api/v4/spot/tickers", body=_many),
)
