"""Crypto.com Exchange: channels by name. Every 30 s a heartbeat, which wants an answer within 5 s."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.streams.shape import Dialect, Frame, Kind, Wanted, texts
from simulator.venues.shape import Json, Market, text

_KINDS: dict[str, Kind] = {"ticker": "ticker", "trade": "trade"}


def _wants(message: Json) -> list[Wanted] | None:
    if message.get("method") != "subscribe":
        return None
    split = [(channel, *channel.partition(".")[::2]) for channel in texts(message["params"].get("channels"))]
    return [Wanted(_KINDS[name], symbol, channel) for channel, name, symbol in split if name in _KINDS]


def _accept(message: Json, wanted: Sequence[Wanted], _now_ms: int) -> list[Json]:
    return [{"id": message.get("id"), "method": "subscribe", "code": 0, "channel": each.topic} for each in wanted]


def _around(channel: str, m: Market, item: Json) -> Json:
    result = {
        "channel": channel,
        "instrument_name": m.symbol,
        "subscription": f"{channel}.{m.symbol}",
        "data": [item],
    }
    return {"id": -1, "method": "subscribe", "code": 0, "result": result}


def _ticker(m: Market, _frame: Frame) -> Json:
    item = {
        "h": text(m.high),
        "l": text(m.low),
        "a": text(m.last),
        "c": "0.0101",
        "b": text(m.bid),
        "bs": "0.0100",
        "k": text(m.ask),
        "ks": "0.0040",
        "i": m.symbol,
        "v": text(m.volume),
        "vv": text(m.turnover),
        "oi": "0",
        "t": m.time_ms,
    }
    return _around("ticker", m, item)


def _trade(m: Market, frame: Frame) -> Json:
    item = {
        "d": str(4_611_686_018_427_387_904 + frame.number),
        "t": m.time_ms,
        "tn": str(m.time_ms * 1_000_000),
        "q": "0.0040",
        "p": text(m.last),
        "s": "BUY",
        "i": m.symbol,
        "m": str(frame.number),
    }
    return _around("trade", m, item)


def _beat(_wanted: Sequence[Wanted], now_ms: int) -> list[Json]:
    return [{"id": now_ms, "method": "public/heartbeat", "code": 0}]


DIALECT = Dialect(
    name="cryptocom",
    path="/exchange/v1/market",
    wants=_wants,
    accept=_accept,
    reject=lambda message, wanted, _now: {
        "id": message.get("id"),
        "method": "subscribe",
        "code": 40003,
        "message": "Unknown symbol",
        "channel": wanted.topic,
    },
    show={"ticker": _ticker, "trade": _trade},
    beat=_beat,
    beat_s=30,
    must_answer=lambda message: message.get("method") == "public/respond-heartbeat",
)
