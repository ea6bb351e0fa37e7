"""Gate: a channel a message, with the pairs as its payload; it answers `spot.ping`."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.streams.shape import Dialect, Frame, Kind, Wanted, texts
from simulator.venues.shape import Json, Market, text

_KINDS: dict[str, Kind] = {"spot.tickers": "ticker", "spot.book_ticker": "book", "spot.trades": "trade"}


def _wants(message: Json) -> list[Wanted] | None:
    if message.get("event") != "subscribe" or message.get("channel") not in _KINDS:
        return None
    channel = message["channel"]
    return [Wanted(_KINDS[channel], symbol, channel) for symbol in texts(message.get("payload"))]


def _around(channel: str, event: str, now_ms: int, result: Json) -> Json:
    return {"time": now_ms // 1000, "time_ms": now_ms, "channel": channel, "event": event, "result": result}


def _accept(message: Json, _wanted: Sequence[Wanted], now_ms: int) -> list[Json]:
    return [_around(message["channel"], "subscribe", now_ms, {"status": "success"})]


def _ticker(m: Market, _frame: Frame) -> Json:
    result = {
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
    return _around("spot.tickers", "update", m.time_ms, result)


def _book(m: Market, frame: Frame) -> Json:
    result = {
        "t": m.time_ms,
        "u": frame.number,
        "s": m.symbol,
        "b": text(m.bid),
        "B": "0.0663",
        "a": text(m.ask),
        "A": "0.0119",
    }
    return _around("spot.book_ticker", "update", frame.now_ms, result)


def _trade(m: Market, frame: Frame) -> Json:
    result = {
        "id": frame.number,
        "create_time": m.second,
        "create_time_ms": f"{m.time_ms}.4578",
        "side": "sell",
        "currency_pair": m.symbol,
        "amount": "0.0119",
        "price": text(m.last),
        "range": "2390902-2390902",
    }
    return _around("spot.trades", "update", frame.now_ms, result)


def _pong(message: Json, now_ms: int) -> Json:
    if isinstance(message, dict) and message.get("channel") == "spot.ping":
        return _around("spot.pong", "", now_ms, None)
    return None


DIALECT = Dialect(
    name="gate",
    path="/ws/v4/",
    wants=_wants,
    accept=_accept,
    reject=lambda message, wanted, now: {
        **_around(message["channel"], "subscribe", now, None),
        "error": {"code": 2, "message": f"unknown currency pair: {wanted.symbol}"},
    },
    show={"ticker": _ticker, "book": _book, "trade": _trade},
    pong=_pong,
)
