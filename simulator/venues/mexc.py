"""MEXC: GET /api/v3/ticker/24hr. Binance's names, without weighted average and trade ids."""

from __future__ import annotations

from simulator.venues.shape import Json, Market, Venue, text

_DAY_MS = 86_400_000


def _body(m: Market) -> Json:
    return {
        "symbol": m.symbol,
        "priceChange": text(m.change),
        "priceChangePercent": "0.0101",
        "prevClosePrice": text(m.open),
        "lastPrice": text(m.last),
        "bidPrice": text(m.bid),
        "bidQty": "1.25",
        "askPrice": text(m.ask),
        "askQty": "0.75",
        "openPrice": text(m.open),
        "highPrice": text(m.high),
        "lowPrice": text(m.low),
        "volume": text(m.volume),
        "quoteVolume": text(m.turnover),
        "openTime": m.time_ms - _DAY_MS,
        "closeTime": m.time_ms,
        "count": None,
    }


VENUE = Venue(
    name="mexc",
    path="/api/v3/ticker/24hr",
    symbol_in="symbol",
    body=_body,
    refuse=lambda _symbol, _now: (400, {"code": -1121, "msg": "Invalid symbol."}),
)
