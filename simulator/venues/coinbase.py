"""Coinbase Exchange: GET /products/BTC-USD/ticker."""

from __future__ import annotations

from simulator.venues.shape import Json, Market, Venue, text


def _body(m: Market) -> Json:
    return {
        "ask": text(m.ask),
        "bid": text(m.bid),
        "volume": text(m.volume, 8),
        "trade_id": str(m.trade_id),
        "price": text(m.last),
        "size": "0.00730812",
        "time": m.iso.replace("Z", "000Z"),
        "rfq_volume": "7.669923",
    }


VENUE = Venue(
    name="coinbase",
    path="/products/{symbol}/ticker",
    body=_body,
    refuse=lambda _symbol, _now: (404, {"message": "NotFound"}),
)
