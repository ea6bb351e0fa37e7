"""Independent Reserve: GET /Public/GetMarketSummary. JSON numbers, and a time to a tenth of a microsecond."""

from __future__ import annotations

from simulator.venues.shape import Json, Market, Venue


def _body(m: Market) -> Json:
    return {
        "DayHighestPrice": m.high,
        "DayLowestPrice": m.low,
        "DayAvgPrice": m.percent(100),
        "DayVolumeXbt": m.volume,
        "DayVolumeXbtInSecondaryCurrrency": m.volume,
        "CurrentLowestOfferPrice": m.ask,
        "CurrentHighestBidPrice": m.bid,
        "LastPrice": m.last,
        "PrimaryCurrencyCode": m.symbol,
        "SecondaryCurrencyCode": "Usd",
        "CreatedTimestampUtc": m.iso.replace("Z", "1234Z"),
    }


VENUE = Venue(
    name="independentreserve",
    path="/Public/GetMarketSummary",
    symbol_in="primaryCurrencyCode",
    needs={"secondaryCurrencyCode": "Usd"},
    body=_body,
    refuse=lambda symbol, _now: (400, {"Message": f"Primary currency code {symbol} is invalid"}),
)
