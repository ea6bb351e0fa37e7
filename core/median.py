"""The median, by the contract's rule, and the outlier rule that stands before it.

With an even number of values the median is the lower middle one: it is always one of the values, so that the contract
can check it by counting, and no rounding is involved.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal
from typing import TypeVar

Number = TypeVar("Number", int, Decimal)

BPS = 10_000
_EXACT = Context(prec=200)
MAD_SCALE = Decimal("1.4826")
"""Makes the median absolute deviation estimate a standard deviation for normal data (Rousseeuw & Croux, 1993)."""
MAD_LIMIT = Decimal(3)
"""How many scaled deviations away a value is an outlier."""


def lower_median(values: Sequence[Number]) -> Number:
    """The middle value, or the lower of the two middle ones. Raises `ValueError` on an empty sequence."""
    if not values:
        raise ValueError("the median of nothing is undefined")
    return sorted(values)[(len(values) - 1) // 2]


def weighted_lower_median(values: Sequence[Number], weights: Sequence[Decimal]) -> Number:
    """The least value such that it and all below it weigh half of the whole, or more. With equal weights it is the
    lower median. Raises `ValueError` on an empty sequence, and where a weight is not above zero."""
    if not values:
        raise ValueError("the median of nothing is undefined")
    if not all(weight > 0 for weight in weights):
        raise ValueError("a weight is above zero")
    ranked = sorted(zip(values, weights, strict=True))
    # in integers of the smallest place, so that no sum is rounded
    places = min(int(weight.as_tuple().exponent) for weight in weights)
    exact = [int(weight.scaleb(-places, _EXACT)) for _, weight in ranked]
    half, passed = sum(exact), 0
    for (value, _), weight in zip(ranked, exact, strict=True):
        passed += 2 * weight
        if passed >= half:
            return value
    raise AssertionError("the last value has all of the weight below it")


def is_lower_median(values: Sequence[Number], candidate: Number) -> bool:
    """The contract's check, by counting: as many values below as the lower middle's rank allows."""
    rank = (len(values) - 1) // 2
    below = sum(1 for value in values if value < candidate)
    not_above = sum(1 for value in values if value <= candidate)
    return below <= rank < not_above


def spread_bps(values: Sequence[Number]) -> int:
    """(max - min) / lower median in basis points, rounded down. Values must be positive."""
    return int((max(values) - min(values)) * BPS // lower_median(values))


def mad_outliers(values: Sequence[Decimal], floor_bps: int) -> list[bool]:
    """For each value, whether it lies further from the median than both 3 scaled MADs and `floor_bps` of the median.

    The floor keeps a rule on few, nearly equal quotes from rejecting honest ones (their MAD is near zero); a rule on
    sigma would not do, because with three values none can ever be rejected.
    """
    ranked = sorted(values)
    centre = lower_median(ranked)
    floor = centre * floor_bps / BPS
    if ranked[-1] - ranked[0] <= floor:  # none is further from the median than that
        return [False] * len(values)
    deviations = [abs(value - centre) for value in values]
    limit = max(lower_median(deviations) * MAD_SCALE * MAD_LIMIT, floor)
    return [deviation > limit for deviation in deviations]


def to_scaled(price: Decimal, decimals: int) -> int:
    """A price as the contract's integer, rounded half to even at `decimals` places."""
    return int(price.scaleb(decimals).to_integral_value())


def from_scaled(value: int, decimals: int) -> Decimal:
    """The contract's integer as a price, with exactly `decimals` places."""
    return Decimal(value).scaleb(-decimals)
