"""KuCoin: GET /api/v1/market/stats. A symbol it does not know still gets a body, with nothing in it but the symbol."""

from __future__ import annotations

from simulator.venues.shape import Json, Market, Venue, text


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

VENUE = Venue(
    name="kucoin",
    path="/api/v1/market/stats",
    symbol_in="symbol",
    body=_body,
    refuse=lambda symbol, now: (
        200,
        {"code": "200000", "data": {"time": now, "symbol": symbol, **dict.fromkeys(_NOTHING)}},
    ),
)
