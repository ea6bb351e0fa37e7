"""Kraken, version 2: an acknowledgement a pair, a heartbeat a second; prices are JSON numbers, tickers have no time."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from core.clock import rfc3339
from simulator.streams.shape import Dialect, Frame, Kind, Wanted, texts
from simulator.venues.shape import Json, Market

_KINDS: dict[str, Kind] = {"ticker": "ticker", "trade": "trade"}


def _wants(message: Json) -> list[Wanted] | None:
    if message.get("method") != "subscribe":
        return None
    wanted = message["params"]
    channel = wanted.get("channel")
    return [Wanted(_KINDS[channel], symbol, channel) for symbol in texts(wanted.get("symbol")) if channel in _KINDS]


def _times(now_ms: int) -> Json:
    return {"time_in": rfc3339(now_ms), "time_out": rfc3339(now_ms)}


def _accept(_message: Json, wanted: Sequence[Wanted], now_ms: int) -> list[Json]:
    return [
        {
            "method": "subscribe",
            "result": {"channel": each.topic, "snapshot": True, "symbol": each.symbol},
            "success": True,
            **_times(now_ms),
        }
        for each in wanted
    ]


def _ticker(m: Market, frame: Frame) -> Json:
    item = {
        "symbol": frame.symbol,
        "bid": m.bid,
        "bid_qty": Decimal("0.7"),
        "ask": m.ask,
        "ask_qty": Decimal("1.25"),
        "last": m.last,
        "volume": m.volume,
        "vwap": m.percent(100),
        "low": m.low,
        "high": m.high,
        "change": m.change,
        "change_pct": Decimal("1.01"),
    }
    return {"channel": "ticker", "type": "update", "data": [item]}


def _trade(m: Market, frame: Frame) -> Json:
    item = {
        "symbol": frame.symbol,
        "side": "sell",
        "price": m.last,
        "qty": Decimal("0.0119"),
        "ord_type": "market",
        "trade_id": frame.number,
        "timestamp": m.iso.replace("Z", "706Z"),
    }
    return {"channel": "trade", "type": "update", "data": [item]}


def _pong(message: Json, now_ms: int) -> Json:
    if isinstance(message, dict) and message.get("method") == "ping":
        return {"method": "pong", **_times(now_ms)}
    return None


DIALECT = Dialect(
    name="kraken",
    path="/v2",
    wants=_wants,
    accept=_accept,
    reject=lambda _message, wanted, now: {
        "error": f"Currency pair not supported {wanted.symbol}",
        "method": "subscribe",
        "success": False,
        "symbol": wanted.symbol,
        **_times(now),
    },
    show={"ticker": _ticker, "trade": _trade},
    pong=_pong,
    greet=lambda _now: (
        {
            "channel": "status",
            "type": "update",
            "data": [{"api_version": "v2", "connection_id": 18_239, "system": "online", "version": "2.0.0"}],
        },
    ),
    beat=lambda wanted, _now: ({"channel": "heartbeat"},) if wanted else (),
    time=False,
)
