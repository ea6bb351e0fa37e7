"""Bitget: GET /api/v2/spot/market/tickers."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.venues.shape import Json, Market, Venue, VenueBatch, text


def _body(m: Market) -> Json:
    return _all([m], m.time_ms)


def _item(m: Market) -> Json:
    return {
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


def _all(markets: Sequence[Market], now_ms: int) -> Json:
    return {"code": "00000", "msg": "success", "requestTime": now_ms, "data": [_item(m) for m in markets]}


VENUE = Venue(
    name="bitget",
    path="/api/v2/spot/market/tickers",
    symbol_in="symbol",
    body=_body,
    refuse=lambda symbol, now: (
        400,
        {"code": "40034", "msg": f"Parameter {symbol} does not exist", "requestTime": now, "data": None},
    ),
    batch=VenueBatch(path="/api/v2/spot/market/tickers", body=_all),
)
