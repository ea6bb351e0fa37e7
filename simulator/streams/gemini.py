"""Gemini: streams by name, without an envelope: the fields tell which one a message belongs to. Times in ns."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.streams.shape import Dialect, Frame, Kind, Wanted, texts
from simulator.venues.shape import Json, Market, text

_KINDS: dict[str, Kind] = {"bookTicker": "book", "trade": "trade"}


def _wants(message: Json) -> list[Wanted] | None:
    if message.get("method") != "subscribe":
        return None
    split = [(name, *name.partition("@")[::2]) for name in texts(message.get("params"))]
    return [Wanted(_KINDS[stream], symbol, name) for name, symbol, stream in split if stream in _KINDS]


def _accept(message: Json, _wanted: Sequence[Wanted], _now_ms: int) -> list[Json]:
    return [{"id": message.get("id"), "status": 200}]


def _book(m: Market, frame: Frame) -> Json:
    return {
        "u": frame.number,
        "E": m.time_ms * 1_000_000,
        "s": frame.symbol,
        "b": text(m.bid),
        "B": "0.0663",
        "a": text(m.ask),
        "A": "0.0119",
    }


def _trade(m: Market, frame: Frame) -> Json:
    return {
        "E": m.time_ms * 1_000_000,
        "s": frame.symbol,
        "t": frame.number,
        "p": text(m.last),
        "q": "0.0119",
        "m": False,
    }


DIALECT = Dialect(
    name="gemini",
    path="/",
    wants=_wants,
    accept=_accept,
    reject=lambda message, _wanted, _now: {
        "id": message.get("id"),
        "status": 400,
        "error": {"code": -1121, "msg": "Invalid symbol."},
    },
    show={"book": _book, "trade": _trade},
)
