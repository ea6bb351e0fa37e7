"""Bitget: GET /api/v2/spot/market/tickers."""

from __future__ import annotations

from simulator.venues.shape import Json, Market, Venue, text


def _body(m: Market) -> Json:
    item = {
        "symbol": m.symbol,
        "high24h": text(m.high),
        "open": text(m.open),
        "low24h": text(m.low),
        "lastPr": text(m.last),
        "quoteVolume": text(m.turnover),
        "baseVolume": text(m.volume),
        "usdtVolume": text(m.turnover),
        "bidPr": text(m.bid),
        "askPr": text(m.ask),
        "bidSz": "0.0663",
        "askSz": "0.0119",
        "openUtc": text(m.open),
        "ts": str(m.time_ms),
        "changeUtc24h": "0.0101",
        "change24h": "0.0101",
    }
    return {"code": "00000", "msg": "success", "requestTime": m.time_ms, "data": [item]}


VENUE = Venue(
    name="bitget",
    path="/api/v2/spot/market/tickers",
    symbol_in="symbol",
    body=_body,
    refuse=lambda symbol, now: (
        400,
        {"code": "40034", "msg": f"Parameter {symbol} does not exist", "requestTime": now, "data": None},
    ),
)
