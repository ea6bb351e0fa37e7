"""HTX: GET /market/detail/merged. JSON numbers; its list of all markets shows the best of the book without amounts."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from simulator.venues.shape import Json, Market, Venue, VenueBatch


def _day(m: Market) -> dict[str, Json]:
    return {
        "open": m.open,
        "close": m.last,
        "low": m.low,
        "high": m.high,
        "amount": m.volume,
        "vol": m.turnover,
        "count": 892_000,
    }


def _body(m: Market) -> Json:
    tick = {
        "id": m.trade_id,
        "version": m.trade_id,
        **_day(m),
        "bid": [m.bid, Decimal("0.018")],
        "ask": [m.ask, Decimal("1.567")],
    }
    return {"ch": f"market.{m.symbol}.detail.merged", "status": "ok", "ts": m.time_ms, "tick": tick}


def _all(markets: Sequence[Market], now_ms: int) -> Json:
    sizes = {"bidSize": Decimal("0.018"), "askSize": Decimal("1.567")}
    items = [{"symbol": m.symbol, **_day(m), "bid": m.bid, "ask": m.ask, **sizes} for m in markets]
    return {"data": items, "status": "ok", "ts": now_ms}


VENUE = Venue(
    name="htx",
    path="/market/detail/merged",
    symbol_in="symbol",
    body=_body,
    refuse=lambda _symbol, now: (
        200,
        {"ts": now, "status": "error", "err-code": "invalid-parameter", "err-msg": "invalid symbol"},
    ),
    batch=VenueBatch(path="/market/tickers", body=_all),
)
