"""Kraken: GET /0/public/Ticker. The body names the pair by its long name (XXBTZUSD), whatever name was asked."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.venues.shape import Json, Market, Venue, VenueBatch, text

_LONG_NAMES = {
    "XBTUSD": "XXBTZUSD",
    "BTCUSD": "XXBTZUSD",
    "BTCUSDT": "XBTUSDT",
    "ETHUSD": "XETHZUSD",
    "DOGEUSD": "XDGUSD",
    "DOGEUSDT": "XDGUSDT",
    "USDTUSD": "USDTZUSD",
}


def _body(m: Market) -> Json:
    volume = text(m.volume, 8)
    return {
        "error": [],
        "result": {
            _LONG_NAMES.get(m.symbol, m.symbol): {
                "a": [text(m.ask, 5), "1", "1.000"],
                "b": [text(m.bid, 5), "1", "1.000"],
                "c": [text(m.last, 5), "0.00160710"],
                "v": [volume, volume],
                "p": [text(m.percent(100), 5), text(m.percent(100), 5)],
                "t": [6405, 21103],
                "l": [text(m.low, 5), text(m.low, 5)],
                "h": [text(m.high, 5), text(m.high, 5)],
                "o": text(m.open, 5),
            }
        },
    }


def _many(markets: Sequence[Market], _now_ms: int) -> Json:
    result: dict[str, Json] = {}
    for m in markets:
        result |= _body(m)["result"]
    return {"error": [], "result": result}


VENUE = Venue(
    name="kraken",
    path="/0/public/Ticker",
    symbol_in="pair",
    body=_body,
    refuse=lambda _symbol, _now: (200, {"error": ["EQuery:Unknown asset pair"]}),
    time=False,
    batch=VenueBatch(path="/0/public/Ticker", symbols_in="pair", body=_many),
)
