"""BigONE: GET /api/v3/asset_pairs/BTC-USDT/ticker, and /asset_pairs/tickers for several. Without a time."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.venues.shape import Json, Market, Venue, VenueBatch, text


def _item(m: Market) -> Json:
    return {
        "asset_pair_name": m.symbol,
        "bid": {"price": text(m.bid), "order_count": 1, "quantity": "0.20936"},
        "ask": {"price": text(m.ask), "order_count": 1, "quantity": "2.87064"},
        "open": text(m.open),
        "high": text(m.high),
        "low": text(m.low),
        "close": text(m.last),
        "volume": text(m.volume),
        "daily_change": text(m.change),
    }


def _body(m: Market) -> Json:
    return {"code": 0, "data": _item(m)}


def _many(markets: Sequence[Market], _now_ms: int) -> Json:
    return {"code": 0, "data": [_item(m) for m in markets]}


VENUE = Venue(
    name="bigone",
    path="/api/v3/asset_pairs/{symbol}/ticker",
    body=_body,
    refuse=lambda _symbol, _now: (200, {"code": 10013, "message": "Resource not found"}),
    time=False,
    batch=VenueBatch(path="/api/v3/asset_pairs/tickers", symbols_in="pair_names", body=_many, lenient=True),
)
