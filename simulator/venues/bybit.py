"""Bybit: GET /v5/market/tickers?category=spot. The time stands in the envelope."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.venues.shape import Json, Market, Venue, VenueBatch, text


def _body(m: Market) -> Json:
    return _many([m], m.time_ms)


def _item(m: Market) -> Json:
    return {
        "symbol": m.symbol,
        "bid1Price": text(m.bid),
        "bid1Size": "2",
        "ask1Price": text(m.ask),
        "ask1Size": "1.862172",
        "lastPrice": text(m.last),
        "prevPrice24h": text(m.open),
        "price24hPcnt": "0.0101",
        "highPrice24h": text(m.high),
        "lowPrice24h": text(m.low),
        "turnover24h": text(m.turnover),
        "volume24h": text(m.volume),
        "usdIndexPrice": text(m.last),
    }


def _many(markets: Sequence[Market], now_ms: int) -> Json:
    return {
        "retCode": 0,
        "retMsg": "OK",
        "result": {"category": "spot", "list": [_item(m) for m in markets]},
        "retExtInfo": {},
        "time": now_ms,
    }


VENUE = Venue(
    name="bybit",
    path="/v5/market/tickers",
    symbol_in="symbol",
    needs={"category": "spot"},
    body=_body,
    refuse=lambda _symbol, now: (
        200,
        {"retCode": 10001, "retMsg": "Not supported symbols", "result": {}, "retExtInfo": {}, "time": now},
    ),
    batch=VenueBatch(path="/v5/market/tickers", needs={"category": "spot"}, body=_many),
)
