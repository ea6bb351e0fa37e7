"""Coinbase Exchange: products and channels; with the channel `heartbeat`, one of each product's a second."""

from __future__ import annotations

from collections.abc import Sequence

from core.clock import rfc3339
from simulator.streams.shape import Dialect, Frame, Kind, Wanted, texts
from simulator.venues.shape import Json, Market, text

_KINDS: dict[str, Kind] = {"ticker": "ticker", "matches": "trade"}


def _wants(message: Json) -> list[Wanted] | None:
    if message.get("type") != "subscribe":
        return None
    products = texts(message.get("product_ids"))
    channels = [each for each in texts(message.get("channels")) if each in _KINDS]
    return [Wanted(_KINDS[channel], product, channel) for channel in channels for product in products]


def _accept(message: Json, wanted: Sequence[Wanted], _now_ms: int) -> list[Json]:
    products = list(dict.fromkeys(each.symbol for each in wanted))
    channels = [{"name": name, "product_ids": products} for name in texts(message.get("channels"))]
    return [{"type": "subscriptions", "channels": channels}]


def _ticker(m: Market, frame: Frame) -> Json:
    return {
        "type": "ticker",
        "sequence": frame.number * 5,
        "product_id": m.symbol,
        "price": text(m.last),
        "open_24h": text(m.open),
        "volume_24h": text(m.volume, 8),
        "low_24h": text(m.low),
        "high_24h": text(m.high),
        "volume_30d": text(m.volume * 30, 8),
        "best_bid": text(m.bid),
        "best_bid_size": "0.05000000",
        "best_ask": text(m.ask),
        "best_ask_size": "0.00730812",
        "side": "buy",
        "time": m.iso.replace("Z", "000Z"),
        "trade_id": frame.number,
        "last_size": "0.00730812",
    }


def _match(m: Market, frame: Frame) -> Json:
    return {
        "type": "match",
        "trade_id": frame.number,
        "maker_order_id": "ac928c66-ca53-498f-9c13-a110027a60e8",
        "taker_order_id": "132fb6ae-456b-4654-b4e0-d681ac05cea1",
        "side": "sell",
        "size": "0.00730812",
        "price": text(m.last),
        "product_id": m.symbol,
        "sequence": frame.number * 5,
        "time": m.iso.replace("Z", "000Z"),
    }


def _beat(wanted: Sequence[Wanted], now_ms: int) -> list[Json]:
    time = rfc3339(now_ms).replace("Z", "000Z")
    return [
        {"type": "heartbeat", "sequence": now_ms, "last_trade_id": 20, "product_id": product, "time": time}
        for product in dict.fromkeys(each.symbol for each in wanted)
    ]


DIALECT = Dialect(
    name="coinbase",
    path="/",
    wants=_wants,
    accept=_accept,
    reject=lambda _message, wanted, _now: {
        "type": "error",
        "message": "Failed to subscribe",
        "reason": f"{wanted.symbol} is not a valid product",
    },
    show={"ticker": _ticker, "trade": _match},
    beat=_beat,
)
