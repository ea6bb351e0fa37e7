"""A signal's declared range and scale."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidSignalError
from core.signals import SignalRange

UNIT = SignalRange(decimals=4, minimum=Decimal(-1), maximum=Decimal(1))


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("0", "0.0000"),
        ("-0.25", "-0.2500"),
        ("-1", "-1.0000"),
        ("0.99995", "1.0000"),
        ("1", "1.0000"),
        ("-0.00001", "0.0000"),
    ],
)
def test_zero_and_negative_numbers_are_signals(value: str, kept: str) -> None:
    assert str(UNIT.checked(Decimal(value))) == kept


@pytest.mark.parametrize("value", ["1.0001", "-1.00000001", "NaN", "sNaN", "Infinity", "-Infinity", "1e999999"])
def test_what_is_out_of_the_range_or_no_number_is_refused(value: str) -> None:
    with pytest.raises(InvalidSignalError):
        UNIT.checked(Decimal(value))


@given(st.integers(0, 18), st.data())
def test_what_is_kept_lies_in_the_range_within_half_a_unit(decimals: int, data: st.DataObject) -> None:
    bounds = st.decimals(-(10**15), 10**15, places=decimals)
    low, high = sorted(data.draw(st.tuples(bounds, bounds)))
    if low == high:
        return
    value = data.draw(st.decimals(low, high, places=20, allow_nan=False))
    kept = SignalRange(decimals=decimals, minimum=low, maximum=high).checked(value)
    assert low <= kept <= high
    assert abs(Fraction(kept) - Fraction(value)) <= Fraction(1, 2 * 10**decimals)
    assert -kept.as_tuple().exponent == decimals  # type: ignore[operator]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"decimals": 19}, "decimals"),
        ({"minimum": Decimal(1), "maximum": Decimal(1)}, "not below"),
        ({"maximum": Decimal("Infinity")}, "maximum"),
        ({"minimum": Decimal("-1e16")}, "minimum"),
        ({"decimals": 2, "minimum": Decimal("-0.125")}, "more than 2 decimals"),
    ],
)
def test_a_range_that_is_none_is_refused(wrong: dict[str, Decimal], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SignalRange(**wrong)  # type: ignore[arg-type]
