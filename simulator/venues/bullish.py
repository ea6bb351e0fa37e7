"""Bullish: GET /trading-api/v1/markets/BTCUSD/tick. Everything is text, with its market maker's terms beside it."""

from __future__ import annotations

from simulator.venues.shape import Json, Market, Venue, text


def _body(m: Market) -> Json:
    return {
        "createdAtDatetime": m.iso,
        "createdAtTimestamp": str(m.time_ms),
        "high": text(m.high, 4),
        "low": text(m.low, 4),
        "bestBid": text(m.bid, 4),
        "bidVolume": "0.15000000",
        "bestAsk": text(m.ask, 4),
        "askVolume": "0.25000000",
        "vwap": text(m.percent(100), 4),
        "open": text(m.open, 4),
        "close": text(m.last, 4),
        "last": text(m.last, 4),
        "change": text(m.change, 4),
        "percentage": "1.01",
        "average": text(m.percent(100), 4),
        "baseVolume": text(m.volume, 8),
        "quoteVolume": text(m.turnover, 4),
        "bancorPrice": text(m.last, 4),
        "markPrice": text(m.last, 2),
        "fundingRate": "0",
        "openInterest": "0",
        "lastTradeDatetime": m.iso,
        "lastTradeTimestamp": str(m.time_ms),
        "lastTradeQuantity": "0.01000000",
        "ammData": [
            {
                "feeTierId": "1",
                "bidSpreadFee": "0.00040000",
                "askSpreadFee": "0.00040000",
                "baseReservesQuantity": "245.56257825",
                "quoteReservesQuantity": text(m.turnover, 4),
                "currentPrice": text(m.last, 4),
            }
        ],
    }


VENUE = Venue(
    name="bullish",
    path="/trading-api/v1/markets/{symbol}/tick",
    body=_body,
    refuse=lambda _symbol, _now: (
        400,
        {"message": "Invalid symbol provided", "errorCode": 28004, "errorCodeName": "INVALID_SYMBOL"},
    ),
)
