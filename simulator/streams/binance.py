"""Binance: combined streams, subscribed by message. It pings with ping frames every 20 s."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.streams.shape import Dialect, Frame, Kind, Wanted, texts
from simulator.venues.shape import Json, Market, text

_KINDS: dict[str, Kind] = {"ticker": "ticker", "bookTicker": "book", "trade": "trade"}
_DAY_MS = 86_400_000


def _wants(message: Json) -> list[Wanted] | None:
    if message.get("method") != "SUBSCRIBE":
        return None
    split = [(name, *name.partition("@")[::2]) for name in texts(message.get("params"))]
    return [Wanted(_KINDS[stream], symbol, name) for name, symbol, stream in split if stream in _KINDS]


def _ticker(m: Market, frame: Frame) -> Json:
    data = {
        "e": "24hrTicker",
        "E": m.time_ms,
        "s": m.symbol,
        "p": text(m.change, 8),
        "P": "1.010",
        "w": text(m.percent(100), 8),
        "x": text(m.open, 8),
        "c": text(m.last, 8),
        "Q": "0.23925000",
        "b": text(m.bid, 8),
        "B": "6.27086000",
        "a": text(m.ask, 8),
        "A": "0.03321000",
        "o": text(m.open, 8),
        "h": text(m.high, 8),
        "l": text(m.low, 8),
        "v": text(m.volume, 8),
        "q": text(m.turnover, 8),
        "O": m.time_ms - _DAY_MS,
        "C": m.time_ms,
        "F": m.trade_id - 86_400,
        "L": m.trade_id,
        "n": 86_401,
    }
    return {"stream": f"{frame.symbol}@ticker", "data": data}


def _book(m: Market, frame: Frame) -> Json:
    data = {
        "u": frame.number,
        "s": m.symbol,
        "b": text(m.bid, 8),
        "B": "6.27086000",
        "a": text(m.ask, 8),
        "A": "0.03321000",
    }
    return {"stream": f"{frame.symbol}@bookTicker", "data": data}


def _trade(m: Market, frame: Frame) -> Json:
    data = {
        "e": "trade",
        "E": frame.now_ms,
        "s": m.symbol,
        "t": frame.number,
        "p": text(m.last, 8),
        "q": "0.00523000",
        "T": m.time_ms,
        "m": True,
        "M": True,
    }
    return {"stream": f"{frame.symbol}@trade", "data": data}


def _accept(message: Json, _wanted: Sequence[Wanted], _now_ms: int) -> list[Json]:
    return [{"result": None, "id": message.get("id")}]


DIALECT = Dialect(
    name="binance",
    path="/stream",
    wants=_wants,
    accept=_accept,
    reject=lambda message, wanted, _now: {
        "error": {"code": 2, "msg": f"Invalid request: unknown stream {wanted.topic}"},
        "id": message.get("id"),
    },
    show={"ticker": _ticker, "book": _book, "trade": _trade},
    ping_s=20,
    leave={"stream": "!system", "data": {"e": "serverShutdown", "E": 0}},
)
