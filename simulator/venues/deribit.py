"""Deribit's index: GET /api/v2/public/get_index_price. JSON-RPC's envelope, and the index's number twice."""

from __future__ import annotations

from simulator.venues.shape import Answer, Json, Market, Venue

_TOOK_US = 5_000


def _body(m: Market) -> Json:
    return {
        "jsonrpc": "2.0",
        "result": {"estimated_delivery_price": m.last, "index_price": m.last},
        **_times(m.time_ms),
    }


def _refuse(_symbol: str, now_ms: int) -> Answer:
    data = {"reason": "value is not in the list of allowed values", "param": "index_name"}
    error = {"message": "Invalid params", "data": data, "code": -32602}
    return 400, {"jsonrpc": "2.0", "error": error, **_times(now_ms)}


def _times(at_ms: int) -> dict[str, Json]:
    out_us = at_ms * 1000
    return {"usIn": out_us - _TOOK_US, "usOut": out_us, "usDiff": _TOOK_US, "testnet": False}


VENUE = Venue(
    name="deribit",
    path="/api/v2/public/get_index_price",
    symbol_in="index_name",
    body=_body,
    refuse=_refuse,
    book=False,
    time=False,
)
