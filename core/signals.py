"""Signals: numbers that are no prices. They have a declared range and scale, and may be zero or negative.

A price is checked by `core.types.checked_price`, which refuses zero; a signal has a type of its own, so that no rule of
prices is ever weakened for one.
"""

from __future__ import annotations

from decimal import Context, Decimal

from msgspec import Struct

from core.errors import InvalidSignalError

MAX_SIGNAL = Decimal(10) ** 15
"""A declared range lies within this of zero."""
_DIGITS = Context(prec=40)
"""Room for `MAX_SIGNAL` at 18 decimals: the default's 28 digits have none."""


class SignalRange(Struct, frozen=True, kw_only=True):
    """What a signal can be: `decimals` places (0 to 18), from `minimum` to `maximum`, both included.

    Raises `ValueError` for a range that is empty, endless or absurd, or whose ends have more places than its values.
    """

    decimals: int = 8
    minimum: Decimal = Decimal(-1)
    maximum: Decimal = Decimal(1)

    def __post_init__(self) -> None:
        if not 0 <= self.decimals <= 18:
            raise ValueError(f"decimals: {self.decimals} is not between 0 and 18")
        for name, bound in (("minimum", self.minimum), ("maximum", self.maximum)):
            if not (bound.is_finite() and abs(bound) <= MAX_SIGNAL):
                raise ValueError(f"{name}: {bound} is not a number within {MAX_SIGNAL:E} of zero")
            if bound != bound.quantize(self._unit, context=_DIGITS):
                raise ValueError(f"{name}: {bound} has more than {self.decimals} decimals")
        if self.minimum >= self.maximum:
            raise ValueError(f"minimum: {self.minimum} is not below the maximum, {self.maximum}")

    def checked(self, value: Decimal) -> Decimal:
        """`value` with exactly `decimals` places, rounded half to even; zero has no sign. Raises `InvalidSignalError`:
        not a finite number, or out of the range."""
        if not value.is_finite():
            raise InvalidSignalError(f"{value} is not a finite number")
        if not self.minimum <= value <= self.maximum:
            raise InvalidSignalError(f"{value:.6E} is not between {self.minimum} and {self.maximum}")
        rounded = value.quantize(self._unit, context=_DIGITS)
        return rounded if rounded else abs(rounded)

    @property
    def _unit(self) -> Decimal:
        return Decimal(1).scaleb(-self.decimals)


class SignalReading(Struct, frozen=True, kw_only=True):
    """A signal as its producer gives it. time_ms: the moment the number is of; period_ms: it is made anew so often.

    depends: every name that it is made of, however far down: who asks for it can see whether it would come full circle.
    """

    name: str
    value: Decimal
    time_ms: int
    period_ms: int
    range: SignalRange
    depends: tuple[str, ...] = ()
