"""Bitstamp: a channel a message; the first levels of the order book, and each trade. Heartbeats are answered."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.streams.shape import Dialect, Frame, Kind, Wanted
from simulator.venues.shape import Json, Market, text

_KINDS: dict[str, Kind] = {"order_book": "book", "live_trades": "trade"}


def _wants(message: Json) -> list[Wanted] | None:
    if message.get("event") != "bts:subscribe":
        return None
    channel = message["data"]["channel"]
    name, _, symbol = channel.rpartition("_")
    return [Wanted(_KINDS[name], symbol, channel)] if name in _KINDS else []


def _accept(_message: Json, wanted: Sequence[Wanted], _now_ms: int) -> list[Json]:
    return [{"event": "bts:subscription_succeeded", "channel": each.topic, "data": {}} for each in wanted]


def _book(m: Market, frame: Frame) -> Json:
    step = m.ask - m.bid
    data = {
        "timestamp": str(m.second),
        "microtimestamp": str(m.time_ms * 1000),
        "bids": [[text(m.bid - step * level), "0.23933000"] for level in range(3)],
        "asks": [[text(m.ask + step * level), "0.30000000"] for level in range(3)],
    }
    return {"data": data, "channel": f"order_book_{frame.symbol}", "event": "data"}


def _trade(m: Market, frame: Frame) -> Json:
    data = {
        "id": frame.number,
        "timestamp": str(m.second),
        "amount": "0.00523",
        "amount_str": "0.00523000",
        "price": m.last,
        "price_str": text(m.last),
        "type": 0,
        "microtimestamp": str(m.time_ms * 1000),
        "buy_order_id": frame.number * 7,
        "sell_order_id": frame.number * 7 - 3,
    }
    return {"data": data, "channel": f"live_trades_{frame.symbol}", "event": "trade"}


def _pong(message: Json, _now_ms: int) -> Json:
    if isinstance(message, dict) and message.get("event") == "bts:heartbeat":
        return {"event": "bts:heartbeat", "channel": "", "data": {"status": "success"}}
    return None


DIALECT = Dialect(
    name="bitstamp",
    path="/",
    wants=_wants,
    accept=_accept,
    reject=lambda _message, wanted, _now: {
        "event": "bts:error",
        "channel": wanted.topic,
        "data": {"code": None, "message": "Incorrect channel name."},
    },
    show={"book": _book, "trade": _trade},
    pong=_pong,
    leave={"event": "bts:request_reconnect", "channel": "", "data": ""},
)
