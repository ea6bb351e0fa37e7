"""The written rule that makes a price of a ticker, or says why there is none. Pure.

In this order:

1. Age. A source's time more than `FUTURE_TOLERANCE_MS` ahead of our clock at receipt is FUTURE. A ticker that speaks
   for an earlier time than `max_age_ms` before the moment is EXPIRED; it speaks for its source's time where it has one
   and never for a later time than its receipt.
2. Book. A bid above the ask is CROSSED; a spread over the mid wider than `max_spread_bps` is WIDE_SPREAD: a fresh time
   stands over many a dead book.
3. Price. The last trade, where it lies within bid and ask. Outside them it is old, and the mid is the price. Where a
   source shows no book, the last trade is all there is.
4. Range. A price outside the declared magnitude is OUT_OF_RANGE.
"""

from __future__ import annotations

from decimal import Decimal

from core.types import FailureCode, Pair, Quote, SourceFailure
from sources.parse import Ticker

FUTURE_TOLERANCE_MS = 5_000
"""Exchanges' clocks do run ahead: by 1.27 s in a recorded Binance session."""


def judge(
    ticker: Ticker,
    source: str,
    pair: Pair,
    *,
    received_ms: int,
    moment_ms: int,
    max_age_ms: int,
    max_spread_bps: int,
    min_price: Decimal,
    max_price: Decimal,
    elapsed_ms: int = 0,
) -> Quote | SourceFailure:
    """The quote that `ticker` gives at `moment_ms`, or why it gives none.

    min_price, max_price: the declared magnitude, in the pair's own quote currency. elapsed_ms: how long the source
    took, for the record of a failure. Never raises.
    """

    def failure(code: FailureCode, detail: str) -> SourceFailure:
        return SourceFailure(pair=pair, source=source, code=code, detail=detail, elapsed_ms=elapsed_ms)

    if ticker.time_ms is not None and ticker.time_ms > received_ms + FUTURE_TOLERANCE_MS:
        ahead = ticker.time_ms - received_ms
        return failure(FailureCode.FUTURE, f"the source's time is {ahead} ms ahead of ours")
    as_of = received_ms if ticker.time_ms is None else min(ticker.time_ms, received_ms)
    if moment_ms - as_of > max_age_ms:
        return failure(FailureCode.EXPIRED, f"{moment_ms - as_of} ms old at the moment, {max_age_ms} at most")

    price = ticker.last
    if ticker.bid is not None and ticker.ask is not None:
        if ticker.bid > ticker.ask:
            return failure(FailureCode.CROSSED, f"bid {ticker.bid} above ask {ticker.ask}")
        mid = (ticker.bid + ticker.ask) / 2
        # multiplied out: no division, so no rounding at the limit
        if (ticker.ask - ticker.bid) * 20_000 > max_spread_bps * (ticker.bid + ticker.ask):
            spread = (ticker.ask - ticker.bid) / mid * 10_000
            return failure(FailureCode.WIDE_SPREAD, f"{spread:.0f} bps between bid and ask, {max_spread_bps} at most")
        if not ticker.bid <= ticker.last <= ticker.ask:
            price = mid
    if not min_price <= price <= max_price:
        return failure(FailureCode.OUT_OF_RANGE, f"{price} is not between {min_price} and {max_price}")
    return Quote(
        pair=pair,
        source=source,
        price=price,
        received_ms=received_ms,
        source_time_ms=ticker.time_ms,
        bid=ticker.bid,
        ask=ticker.ask,
        last=ticker.last,
    )
