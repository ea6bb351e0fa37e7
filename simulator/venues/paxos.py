"""itBit by Paxos: GET /v2/markets/BTCUSD/ticker."""

from __future__ import annotations

from core.clock import rfc3339
from simulator.venues.shape import Json, Market, Venue, text

_DAY_MS = 86_400_000


def _body(m: Market) -> Json:
    day = {
        "high": text(m.high),
        "low": text(m.low),
        "open": text(m.open),
        "volume": text(m.volume),
        "volume_weighted_average_price": text(m.percent(100)),
        "range": {"begin": rfc3339(m.time_ms - _DAY_MS), "end": m.iso},
    }
    return {
        "market": m.symbol,
        "best_bid": {"price": text(m.bid), "amount": "0.2"},
        "best_ask": {"price": text(m.ask), "amount": "0.3"},
        "last_execution": {"price": text(m.last), "amount": "0.0029"},
        "last_day": day,
        "today": day,
        "snapshot_at": m.iso,
    }


VENUE = Venue(
    name="paxos",
    path="/v2/markets/{symbol}/ticker",
    body=_body,
    refuse=lambda symbol, _now: (
        404,
        {
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": f"market {symbol} not found",
            "meta": {},
        },
    ),
)
