"""What a wrong price may really be: the pair turned over, or the price of another unit. Pure.

The catalogue declares how a source names a pair (`symbols`: XBT is spelled out there), which pairs it lists inverted
(`inverse`), and where a body must name the symbol asked for (`symbol_echo`). A source that changes its mind about any
of them, or an entry that is wrong, shows as a price far from the market's; this says in which way, for the operator.
Nothing is ever corrected by a guess: such a price is refused, and the catalogue is to be mended.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

NEAR = Decimal("0.1")
"""How near, relatively, a turned price must come to what it should have been."""

_UNITS = {
    Decimal(100): "a hundredth of the unit (cents, pence)",
    Decimal(1_000): "a thousand units, as 1000SHIB",
    Decimal(1_000_000): "a million units, as 1MBABYDOGE",
    Decimal(100_000_000): "satoshis",
}


def mix_up(price: Decimal, expected: Decimal) -> str | None:
    """What `price` looks like, given what was expected, both positive; None where it looks like nothing in particular.

    What lies within a factor of two of what was expected is merely wrong.
    """
    if expected / 2 <= price <= expected * 2:
        return None
    return _reading_of(price, lambda other: abs(other - expected) <= expected * NEAR)


def inverse_within(price: Decimal, low: Decimal, high: Decimal) -> bool:
    """Whether a price outside a declared magnitude would lie inside, were its pair turned over."""
    return low <= 1 / price <= high


def _reading_of(price: Decimal, fits: Callable[[Decimal], bool]) -> str | None:
    if fits(1 / price):
        return "the inverse of the pair"
    for factor, unit in _UNITS.items():
        if fits(price / factor) or fits(price * factor):
            return f"a price in {unit}"
    return None
