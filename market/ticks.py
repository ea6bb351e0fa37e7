"""Ticks in batches: prices as whole numbers of their smallest step, so that sums are exact and cheap.

A batch holds consecutive ticks of one symbol from one exchange. Work is done by the batch, in C where that can be: a
tick costs a few hundred nanoseconds on its way, and no statistic is ever rounded before it is answered.
"""

from __future__ import annotations

import decimal
from collections.abc import Sequence
from decimal import Decimal

from msgspec import Struct

from core.types import MAX_PRICE, MIN_PRICE

MAX_DIGITS = 18
"""Fractional digits of a price. One with more is absurd."""
MAX_AHEAD_MS = 60_000
"""A tick that says it is later than this, by our clock, is refused: its sender's clock is broken."""
POWERS = tuple(10**digits for digits in range(MAX_DIGITS + 1))
_FACTORS = tuple(Decimal(power) for power in POWERS)
EXACT = decimal.Context(prec=100, traps=[decimal.Inexact, decimal.InvalidOperation])
"""Sums and products of prices fit a hundred digits; where one would not, it is an error, never a rounding."""


class Tick(Struct, frozen=True, kw_only=True):
    """One price of one exchange. time_ms: by the rule of `settled`."""

    exchange: str
    symbol: str
    price: Decimal
    time_ms: int


class Batch(Struct, frozen=True, kw_only=True, gc=False):
    """Ticks of one symbol from one exchange in the order of their arrival; at least one.

    times: milliseconds. prices: scaled by 10**digits. number: arrival number of the first; the others follow on.
    volume: the sizes traded, together, in the base currency, where the source tells them.
    """

    exchange: str
    symbol: str
    times: Sequence[int]
    prices: Sequence[int]
    digits: int
    number: int
    volume: Decimal | None = None


class Settled(Struct, frozen=True):
    """Times and prices that may be used, and how many were refused, by why."""

    times: Sequence[int]
    prices: Sequence[Decimal]
    ahead: int = 0
    late: int = 0


def settled(times: Sequence[int], prices: Sequence[Decimal], *, received_ms: int, retention_ms: int) -> Settled:
    """The time that each tick counts at: its sender's, but never later than its receipt by our clock.

    No price speaks for the future: a sender whose clock runs ahead (Binance's did by 1.27 s in the recording of
    2024-08-08) counts at the receipt. One that is more than a minute ahead is refused, and so is one that is older than
    the window at its receipt: it comes too late for it, and for its minute.
    """
    oldest = received_ms - retention_ms
    if max(times) <= received_ms and min(times) > oldest:
        return Settled(times, prices)
    ahead = late = 0
    kept_times, kept_prices = [], []
    for time_ms, price in zip(times, prices, strict=True):
        if time_ms > received_ms + MAX_AHEAD_MS:
            ahead += 1
        elif time_ms <= oldest:
            late += 1
        else:
            kept_times.append(min(time_ms, received_ms))
            kept_prices.append(price)
    return Settled(kept_times, kept_prices, ahead, late)


def sound(price: Decimal) -> bool:
    """Whether a number read from a source can be a price."""
    try:
        if not MIN_PRICE <= price <= MAX_PRICE:
            return False
        _, _, exponent = price.as_tuple()
    except decimal.InvalidOperation:  # NaN is not compared
        return False
    return isinstance(exponent, int) and exponent >= -MAX_DIGITS


def scaled(prices: Sequence[Decimal], least: int = 0) -> tuple[list[int], int] | None:
    """Sound prices as whole numbers, and by how many digits; None where one of them is not sound.

    least: scale by so many digits at least, so that what follows on is scaled alike.
    """
    try:
        with decimal.localcontext(EXACT):
            if not (min(prices) >= MIN_PRICE and max(prices) <= MAX_PRICE):
                return None
            # an exact sum has as many fractional digits as the finest of what was summed
            exponent = sum(prices, Decimal(0)).as_tuple().exponent
            digits = max(-int(exponent), least)
            if digits > MAX_DIGITS:
                return None
            return list(map(int, map(_FACTORS[digits].__mul__, prices))), digits
    except (decimal.InvalidOperation, decimal.Inexact):
        return None


def unscaled(value: int, digits: int) -> Decimal:
    """The exact number, without digits that say nothing: `6500010` by 2 digits is `65000.1`."""
    while digits and value % 10 == 0:
        value, digits = value // 10, digits - 1
    return Decimal(value).scaleb(-digits, EXACT)
