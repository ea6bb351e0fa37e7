"""The written rule that makes a price of a ticker, or says why there is none. Pure.

In this order:

1. Age, by three clocks. A source's time more than `FUTURE_TOLERANCE_MS` ahead of our clock at receipt is FUTURE. A
   ticker that speaks for an earlier time than `max_age_ms` before the moment is EXPIRED; it speaks for its source's
   time where it has one and never for a later time than its receipt. So is one received more than `max_receipt_age_ms`
   before the moment. One whose price was watched (`sources.freshness`) and has not changed for longer than
   `max_unchanged_ms` is FROZEN; unknown is not frozen.
2. Trade. A source that says that nothing was traded (a volume of zero) is NOT_TRADED: its last price is history, and
   its book one that nobody took.
3. Book. A bid above the ask is CROSSED; a spread over the mid wider than `max_spread_bps` is WIDE_SPREAD: a fresh time
   stands over many a dead book.
4. Price. The last trade, where it lies within bid and ask. Outside them it is old, and the mid is the price. Where a
   source shows no book, the last trade is all there is.
5. Range. A price outside the declared magnitude is OUT_OF_RANGE, with a hint where its inverse would lie inside.

Which of several sound quotes count is for `fetchers.rules`: they know the others, and the last answer.
"""

from __future__ import annotations

from decimal import Decimal

from core.types import FailureCode, Pair, Quote, SourceFailure
from sources.mixups import inverse_within
from sources.parse import Ticker

FUTURE_TOLERANCE_MS = 5_000
"""Exchanges' clocks do run ahead: by 1.27 s in a recorded Binance session."""

_Problem = tuple[FailureCode, str]


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
    max_receipt_age_ms: int | None = None,
    changed_ms: int | None = None,
    max_unchanged_ms: int | None = None,
    elapsed_ms: int = 0,
) -> Quote | SourceFailure:
    """The quote that `ticker` gives at `moment_ms`, or why it gives none.

    min_price, max_price: the declared magnitude, in the pair's own quote currency. changed_ms: since when the price was
    seen unchanged (None: not watched). A limit that is None is not applied. elapsed_ms: how long the source took, for
    the record of a failure. Never raises.
    """

    as_of = received_ms if ticker.time_ms is None else min(ticker.time_ms, received_ms)
    problem = (
        _too_old(ticker, as_of, received_ms, moment_ms, max_age_ms, max_receipt_age_ms)
        or _dead(ticker, moment_ms, changed_ms, max_unchanged_ms)
        or _no_book(ticker, max_spread_bps)
    )
    price = ticker.last
    if problem is None:
        if ticker.bid is not None and ticker.ask is not None and not ticker.bid <= ticker.last <= ticker.ask:
            price = (ticker.bid + ticker.ask) / 2
        problem = _out_of_range(price, min_price, max_price)
    if problem is not None:
        code, detail = problem
        return SourceFailure(pair=pair, source=source, code=code, detail=detail, elapsed_ms=elapsed_ms)
    return Quote(
        pair=pair,
        source=source,
        price=price,
        received_ms=received_ms,
        source_time_ms=ticker.time_ms,
        changed_ms=changed_ms,
        bid=ticker.bid,
        ask=ticker.ask,
        last=ticker.last,
        volume=ticker.volume,
    )


def _too_old(
    ticker: Ticker, as_of: int, received_ms: int, moment_ms: int, max_age_ms: int, max_receipt_age_ms: int | None
) -> _Problem | None:
    if ticker.time_ms is not None and ticker.time_ms > received_ms + FUTURE_TOLERANCE_MS:
        return FailureCode.FUTURE, f"the source's time is {ticker.time_ms - received_ms} ms ahead of ours"
    if moment_ms - as_of > max_age_ms:
        return FailureCode.EXPIRED, f"{moment_ms - as_of} ms old at the moment, {max_age_ms} at most"
    held_ms = moment_ms - received_ms
    if max_receipt_age_ms is not None and held_ms > max_receipt_age_ms:
        return FailureCode.EXPIRED, f"received {held_ms} ms before the moment, {max_receipt_age_ms} at most"
    return None


def _dead(ticker: Ticker, moment_ms: int, changed_ms: int | None, max_unchanged_ms: int | None) -> _Problem | None:
    if changed_ms is not None and max_unchanged_ms is not None and moment_ms - changed_ms > max_unchanged_ms:
        unchanged_s = (moment_ms - changed_ms) // 1000
        detail = f"the same price for {unchanged_s} s under fresh times, {max_unchanged_ms // 1000} at most"
        return FailureCode.FROZEN, detail
    if ticker.volume == 0:
        return FailureCode.NOT_TRADED, "the source says that nothing was traded"
    return None


def _no_book(ticker: Ticker, max_spread_bps: int) -> _Problem | None:
    bid, ask = ticker.bid, ticker.ask
    if bid is None or ask is None:
        return None
    if bid > ask:
        return FailureCode.CROSSED, f"bid {bid} above ask {ask}"
    # multiplied out: no division, so no rounding at the limit
    if (ask - bid) * 20_000 > max_spread_bps * (bid + ask):
        spread = (ask - bid) / (bid + ask) * 20_000
        return FailureCode.WIDE_SPREAD, f"{spread:.0f} bps between bid and ask, {max_spread_bps} at most"
    return None


def _out_of_range(price: Decimal, min_price: Decimal, max_price: Decimal) -> _Problem | None:
    if min_price <= price <= max_price:
        return None
    hint = "; its inverse is: see `inverse` in the catalogue" if inverse_within(price, min_price, max_price) else ""
    return FailureCode.OUT_OF_RANGE, f"{price} is not between {min_price} and {max_price}{hint}"
