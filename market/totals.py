"""What is known of many ticks together: how many, their exact sum, the lowest, the highest."""

from __future__ import annotations

import decimal
from collections.abc import Sequence
from decimal import Decimal

from market.ticks import POWERS, unscaled

AVERAGE_PLACES = Decimal(1).scaleb(-18)
_WIDE = decimal.Context(prec=80, rounding=decimal.ROUND_HALF_EVEN)


class Totals:
    """Count, sum, lowest and highest, scaled by 10**digits. Empty while `count` is 0."""

    __slots__ = ("count", "digits", "high", "low", "sum")

    def __init__(self, digits: int = 0) -> None:
        self.count = 0
        self.sum = 0
        self.low = 0
        self.high = 0
        self.digits = digits

    def add(self, prices: Sequence[int], digits: int) -> None:
        """Take in at least one price."""
        self.merge_raw(len(prices), sum(prices), min(prices), max(prices), digits)

    def merge(self, other: Totals) -> None:
        """Take in all that `other` knows."""
        if other.count:
            self.merge_raw(other.count, other.sum, other.low, other.high, other.digits)

    def merge_raw(self, count: int, total: int, low: int, high: int, digits: int) -> None:
        """Take in what is known of `count` > 0 other prices."""
        if digits != self.digits:
            if digits > self.digits:
                self.rescale(digits)
            else:
                factor = POWERS[self.digits - digits]
                total, low, high = total * factor, low * factor, high * factor
        if self.count:
            self.low = min(self.low, low)
            self.high = max(self.high, high)
        else:
            self.low, self.high = low, high
        self.count += count
        self.sum += total

    def rescale(self, digits: int) -> None:
        """Scale by more digits than so far."""
        factor = POWERS[digits - self.digits]
        self.sum, self.low, self.high = self.sum * factor, self.low * factor, self.high * factor
        self.digits = digits

    @property
    def lowest(self) -> Decimal:
        return unscaled(self.low, self.digits)

    @property
    def highest(self) -> Decimal:
        return unscaled(self.high, self.digits)

    @property
    def total(self) -> Decimal:
        """The exact sum."""
        return unscaled(self.sum, self.digits)

    @property
    def average(self) -> Decimal:
        """The exact average, rounded once: to 18 places, half to even."""
        return average_of(self.total, self.count)


def average_of(total: Decimal, count: int) -> Decimal:
    """`total / count` to 18 places, half to even, without zeros at its end."""
    exact = _WIDE.divide(total, Decimal(count))
    rounded = exact.quantize(AVERAGE_PLACES, context=_WIDE).normalize(_WIDE)
    return rounded if rounded.as_tuple().exponent <= 0 else rounded.quantize(Decimal(1), context=_WIDE)  # type: ignore[operator]
