"""Bybit: topics, acknowledged by the message. The spot ticker has no book, which is a channel of its own."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.streams.shape import Dialect, Frame, Kind, Wanted, texts
from simulator.venues.shape import Json, Market, text

_KINDS: dict[str, Kind] = {"tickers": "ticker", "orderbook.1": "book", "publicTrade": "trade"}
_CONNECTION = "2324d924-aa4d-45b0-a858-7b8be29ab52b"


def _wants(message: Json) -> list[Wanted] | None:
    if message.get("op") != "subscribe":
        return None
    split = [(topic, *topic.rpartition(".")[::2]) for topic in texts(message.get("args"))]
    return [Wanted(_KINDS[name], symbol, topic) for topic, name, symbol in split if name in _KINDS]


def _said(message: Json, text_: str, op: str, *, success: bool = True) -> Json:
    answer = {"success": success, "ret_msg": text_, "conn_id": _CONNECTION, "op": op}
    return answer | {"req_id": message["req_id"]} if "req_id" in message else answer


def _accept(message: Json, _wanted: Sequence[Wanted], _now_ms: int) -> list[Json]:
    return [_said(message, "subscribe", "subscribe")]


def _ticker(m: Market, frame: Frame) -> Json:
    data = {
        "symbol": m.symbol,
        "lastPrice": text(m.last),
        "highPrice24h": text(m.high),
        "lowPrice24h": text(m.low),
        "prevPrice24h": text(m.open),
        "volume24h": text(m.volume),
        "turnover24h": text(m.turnover),
        "price24hPcnt": "0.0101",
        "usdIndexPrice": text(m.last),
    }
    return {"topic": f"tickers.{frame.symbol}", "ts": m.time_ms, "type": "snapshot", "cs": frame.number, "data": data}


def _book(m: Market, frame: Frame) -> Json:
    data = {
        "s": m.symbol,
        "b": [[text(m.bid), "0.006"]],
        "a": [[text(m.ask), "0.029"]],
        "u": frame.number,
        "seq": frame.number * 3,
    }
    topic = f"orderbook.1.{frame.symbol}"
    return {"topic": topic, "ts": m.time_ms, "type": "snapshot", "data": data, "cts": m.time_ms - 2}


def _trade(m: Market, frame: Frame) -> Json:
    item = {
        "T": m.time_ms,
        "s": m.symbol,
        "S": "Buy",
        "v": "0.001",
        "p": text(m.last),
        "L": "PlusTick",
        "i": f"20f43950-d8dd-5b31-9112-{frame.number:012d}",
        "BT": False,
    }
    return {"topic": f"publicTrade.{frame.symbol}", "type": "snapshot", "ts": frame.now_ms, "data": [item]}


def _pong(message: Json, _now_ms: int) -> Json:
    if isinstance(message, dict) and message.get("op") == "ping":
        return _said(message, "pong", "ping")
    return None


DIALECT = Dialect(
    name="bybit",
    path="/v5/public/spot",
    wants=_wants,
    accept=_accept,
    reject=lambda message, wanted, _now: _said(
        message, f"error:handler not found,topic:{wanted.topic}", "subscribe", success=False
    ),
    show={"ticker": _ticker, "book": _book, "trade": _trade},
    pong=_pong,
)
