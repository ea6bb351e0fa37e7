"""Poloniex: GET /markets/BTC_USDT/ticker24h."""

from __future__ import annotations

from simulator.venues.shape import Json, Market, Venue, text

_DAY_MS = 86_400_000


def _body(m: Market) -> Json:
    return {
        "symbol": m.symbol,
        "open": text(m.open),
        "low": text(m.low),
        "high": text(m.high),
        "close": text(m.last),
        "quantity": text(m.volume),
        "amount": text(m.turnover),
        "tradeCount": 134_709,
        "startTime": m.time_ms - _DAY_MS,
        "closeTime": m.time_ms,
        "displayName": f"{m.base}/{m.quote}",
        "dailyChange": "0.0101",
        "bid": text(m.bid),
        "bidQuantity": "0.016",
        "ask": text(m.ask),
        "askQuantity": "0.068",
        "ts": m.time_ms,
        "markPrice": text(m.last),
    }


VENUE = Venue(
    name="poloniex",
    path="/markets/{symbol}/ticker24h",
    body=_body,
    refuse=lambda _symbol, _now: (400, {"code": 24101, "message": "Invalid currency pair"}),
)
