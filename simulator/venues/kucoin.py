"""KuCoin: GET /api/v1/market/stats. A symbol it does not know still gets a body, with nothing in it but the symbol."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.venues.shape import Json, Market, Venue, VenueBatch, text


def _body(m: Market) -> Json:
    return {
        "code": "200000",
        "data": {
            "time": m.time_ms,
            "symbol": m.symbol,
            "buy": text(m.bid),
            "sell": text(m.ask),
            "changeRate": "0.0101",
            "changePrice": text(m.change),
            "high": text(m.high),
            "low": text(m.low),
            "vol": text(m.volume),
            "volValue": text(m.turnover),
            "last": text(m.last),
            "averagePrice": text(m.percent(100)),
            "takerFeeRate": "0.001",
            "makerFeeRate": "0.001",
            "takerCoefficient": "1",
            "makerCoefficient": "1",
        },
    }


_NOTHING = ("buy", "sell", "changeRate", "changePrice", "high", "low", "vol", "volValue", "last", "averagePrice")


def _all(markets: Sequence[Market], now_ms: int) -> Json:
    return {"code": "200000", "data": {"time": now_ms, "ticker": [_item(m) for m in markets]}}


def _item(m: Market) -> Json:
    stats = _body(m)["data"]
    del stats["time"]
    return stats | {"symbolName": m.symbol, "bestBidSize": "0.25", "bestAskSize": "0.75"}


VENUE = Venue(
    name="kucoin",
    path="/api/v1/market/stats",
    symbol_in="symbol",
    body=_body,
    refuse=lambda symbol, now: (
        200,
        {"code": "200000", "data": {"time": now, "symbol": symbol, **dict.fromkeys(_NOTHING)}},
    ),
    batch=VenueBatch(path="/api/v1/market/allTickers", body=_all),
)
