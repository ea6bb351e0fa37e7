"""OKX: GET /api/v5/market/ticker. The item is that of the recorded websocket message, in REST's envelope."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.venues.shape import Json, Market, Venue, VenueBatch, text


def _body(m: Market) -> Json:
    return _many([m], m.time_ms)


def _many(markets: Sequence[Market], _now_ms: int) -> Json:
    return {"code": "0", "msg": "", "data": [item(m) for m in markets]}


def item(m: Market) -> Json:
    return {
        "instType": "SPOT",
        "instId": m.symbol,
        "last": text(m.last),
        "lastSz": "0.0002",
        "askPx": text(m.ask),
        "askSz": "1.55896972",
        "bidPx": text(m.bid),
        "bidSz": "0.23393",
        "open24h": text(m.open),
        "high24h": text(m.high),
        "low24h": text(m.low),
        "sodUtc0": text(m.open),
        "sodUtc8": text(m.open),
        "volCcy24h": text(m.turnover),
        "vol24h": text(m.volume),
        "ts": str(m.time_ms),
    }


VENUE = Venue(
    name="okx",
    path="/api/v5/market/ticker",
    symbol_in="instId",
    body=_body,
    refuse=lambda _symbol, _now: (
        200,
        {"code": "51001", "msg": "Instrument ID, Instrument ID code, or Spread ID doesn't exist.", "data": []},
    ),
    batch=VenueBatch(path="/api/v5/market/tickers", needs={"instType": "SPOT"}, body=_many),
)
