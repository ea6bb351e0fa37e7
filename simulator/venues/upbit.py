"""Upbit: GET /v1/ticker, for one market or several. JSON numbers, the quote currency first, and no book."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from simulator.venues.shape import Json, Market, Venue, VenueBatch

_KST_AHEAD_H = 9


def _body(m: Market) -> Json:
    return [_item(m)]


def _many(markets: Sequence[Market], _now_ms: int) -> Json:
    return [_item(m) for m in markets]


def _item(m: Market) -> Json:
    date, time = m.iso[:10].replace("-", ""), m.iso[11:19].replace(":", "")
    rate = Decimal("0.0101")
    return {
        "market": m.symbol,
        "trade_date": date,
        "trade_time": time,
        "trade_date_kst": date,
        "trade_time_kst": f"{(int(time[:2]) + _KST_AHEAD_H) % 24:02}{time[2:]}",
        "trade_timestamp": m.time_ms,
        "opening_price": m.open,
        "high_price": m.high,
        "low_price": m.low,
        "trade_price": m.last,
        "prev_closing_price": m.open,
        "change": "RISE",
        "change_price": m.change,
        "change_rate": rate,
        "signed_change_price": m.change,
        "signed_change_rate": rate,
        "trade_volume": Decimal("0.00051"),
        "acc_trade_price": m.turnover,
        "acc_trade_price_24h": m.turnover,
        "acc_trade_volume": m.volume,
        "acc_trade_volume_24h": m.volume,
        "highest_52_week_price": m.high,
        "highest_52_week_date": "2025-10-10",
        "lowest_52_week_price": m.low,
        "lowest_52_week_date": "2026-07-01",
        "timestamp": m.time_ms,
    }


VENUE = Venue(
    name="upbit",
    path="/v1/ticker",
    symbol_in="markets",
    body=_body,
    refuse=lambda _symbol, _now: (404, {"error": {"name": 404, "message": "Code not found"}}),
    book=False,
    batch=VenueBatch(path="/v1/ticker", symbols_in="markets", body=_many),
)
