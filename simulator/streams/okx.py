"""OKX: subscriptions by arguments, each acknowledged; the text `ping` is answered with `pong`."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.streams.shape import Dialect, Frame, Kind, Wanted
from simulator.venues.okx import item
from simulator.venues.shape import Json, Market, text

_KINDS: dict[str, Kind] = {"tickers": "ticker", "trades": "trade"}
_CONNECTION = "a4d3ae55"


def _wants(message: Json) -> list[Wanted] | None:
    if message.get("op") != "subscribe":
        return None
    return [Wanted(_KINDS[each["channel"]], each["instId"], each) for each in message["args"]]


def _accept(_message: Json, wanted: Sequence[Wanted], _now_ms: int) -> list[Json]:
    return [{"event": "subscribe", "arg": each.topic, "connId": _CONNECTION} for each in wanted]


def _ticker(m: Market, _frame: Frame) -> Json:
    return {"arg": {"channel": "tickers", "instId": m.symbol}, "data": [item(m)]}


def _trade(m: Market, frame: Frame) -> Json:
    one = {
        "instId": m.symbol,
        "tradeId": str(frame.number),
        "px": text(m.last),
        "sz": "0.0119",
        "side": "buy",
        "ts": str(m.time_ms),
        "count": "1",
    }
    return {"arg": {"channel": "trades", "instId": m.symbol}, "data": [one]}


DIALECT = Dialect(
    name="okx",
    path="/ws/v5/public",
    wants=_wants,
    accept=_accept,
    reject=lambda _message, wanted, _now: {
        "event": "error",
        "code": "60018",
        "msg": f"Wrong URL or channel:{wanted.topic['channel']},instId:{wanted.symbol} doesn't exist.",
        "connId": _CONNECTION,
    },
    show={"ticker": _ticker, "trade": _trade},
    pong=lambda message, _now: "pong" if message == "ping" else None,
    leave={
        "event": "notice",
        "code": "64008",
        "msg": "The connection will soon be closed for a service upgrade. Please reconnect.",
        "connId": _CONNECTION,
    },
)
