"""Bitget: subscriptions by arguments, each acknowledged; the text `ping` is answered with `pong`."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.streams.shape import Dialect, Frame, Kind, Wanted
from simulator.venues.shape import Json, Market, text

_KINDS: dict[str, Kind] = {"ticker": "ticker", "trade": "trade"}


def _wants(message: Json) -> list[Wanted] | None:
    if message.get("op") != "subscribe":
        return None
    return [Wanted(_KINDS[each["channel"]], each["instId"], each) for each in message["args"]]


def _accept(_message: Json, wanted: Sequence[Wanted], _now_ms: int) -> list[Json]:
    return [{"event": "subscribe", "arg": each.topic} for each in wanted]


def _around(channel: str, m: Market, frame: Frame, item: Json) -> Json:
    return {
        "action": "snapshot" if channel == "ticker" else "update",
        "arg": {"instType": "SPOT", "channel": channel, "instId": m.symbol},
        "data": [item],
        "ts": frame.now_ms,
    }


def _ticker(m: Market, frame: Frame) -> Json:
    item = {
        "instId": m.symbol,
        "lastPr": text(m.last),
        "open24h": text(m.open),
        "high24h": text(m.high),
        "low24h": text(m.low),
        "change24h": "0.0101",
        "bidPr": text(m.bid),
        "askPr": text(m.ask),
        "bidSz": "0.0663",
        "askSz": "0.0119",
        "baseVolume": text(m.volume),
        "quoteVolume": text(m.turnover),
        "openUtc": text(m.open),
        "changeUtc24h": "0.0101",
        "ts": str(m.time_ms),
    }
    return _around("ticker", m, frame, item)


def _trade(m: Market, frame: Frame) -> Json:
    item = {
        "ts": str(m.time_ms),
        "price": text(m.last),
        "size": "0.0119",
        "side": "buy",
        "tradeId": str(frame.number),
    }
    return _around("trade", m, frame, item)


DIALECT = Dialect(
    name="bitget",
    path="/v2/ws/public",
    wants=_wants,
    accept=_accept,
    reject=lambda _message, wanted, _now: {
        "event": "error",
        "arg": wanted.topic,
        "code": 30001,
        "msg": f"instId:{wanted.symbol} doesn't exist",
        "op": "subscribe",
    },
    show={"ticker": _ticker, "trade": _trade},
    pong=lambda message, _now: "pong" if message == "ping" else None,
)
