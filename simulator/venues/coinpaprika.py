"""CoinPaprika: GET /v1/tickers/btc-bitcoin. Numbers are JSON numbers."""

from __future__ import annotations

from decimal import Decimal

from simulator.venues.shape import Json, Market, Venue


def _body(m: Market) -> Json:
    change = Decimal("0.04")
    return {
        "id": m.symbol,
        "name": m.symbol.partition("-")[2].title(),
        "symbol": m.base,
        "rank": 1,
        "total_supply": 19_883_231,
        "max_supply": 21_000_000,
        "beta_value": Decimal("0.879448"),
        "first_data_at": "2010-07-17T00:00:00Z",
        "last_updated": f"{m.iso[:19]}Z",
        "quotes": {
            "USD": {
                "price": m.last,
                "volume_24h": m.turnover,
                "volume_24h_change_24h": Decimal("-44.15"),
                "market_cap": 2_129_051_326_372,
                "market_cap_change_24h": change,
                "percent_change_15m": change,
                "percent_change_30m": change,
                "percent_change_1h": change,
                "percent_change_6h": change,
                "percent_change_12h": change,
                "percent_change_24h": change,
                "percent_change_7d": change,
                "percent_change_30d": change,
                "percent_change_1y": change,
                "ath_price": m.high,
                "ath_date": "2025-05-22T18:42:00Z",
                "percent_from_price_ath": Decimal("-0.99"),
            }
        },
    }


VENUE = Venue(
    name="coinpaprika",
    path="/v1/tickers/{symbol}",
    body=_body,
    refuse=lambda _symbol, _now: (404, {"error": "id not found"}),
    book=False,
)
