"""Ticks: whose time counts, and prices as whole numbers without a rounding."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.types import MAX_PRICE, MIN_PRICE
from market.ticks import MAX_AHEAD_MS, MAX_DIGITS, scaled, settled, sound, unscaled
from market.totals import Totals, average_of

PRICES = st.decimals(min_value=MIN_PRICE, max_value=MAX_PRICE, places=15).filter(lambda price: price >= MIN_PRICE)
NOW = 1_700_000_000_000


@given(st.lists(PRICES, min_size=1, max_size=30), st.integers(0, MAX_DIGITS))
def test_scaling_loses_nothing(prices: list[Decimal], least: int) -> None:
    found = scaled(prices, least)
    assert found is not None
    values, digits = found
    assert digits >= least
    assert [unscaled(value, digits) for value in values] == prices


@pytest.mark.parametrize(
    "text", ["0", "-1", "NaN", "Infinity", "-Infinity", "sNaN", "1E+16", "1E-16", "1." + "0" * 18 + "1"]
)
def test_what_is_no_price_is_refused_also_among_others(text: str) -> None:
    assert not sound(Decimal(text))
    assert scaled([Decimal(1), Decimal(text), Decimal(2)]) is None


def test_a_number_of_very_many_digits_is_refused_not_rounded() -> None:
    assert scaled([Decimal("1." + "1" * 5_000)]) is None
    assert scaled([Decimal("123456789012345"), Decimal("1E-15"), Decimal("1." + "0" * 200 + "1")]) is None


def test_a_price_in_powers_of_ten_is_a_whole_number() -> None:
    assert scaled([Decimal("1E+5")]) == ([100_000], 0)
    assert unscaled(6_500_010, 2) == Decimal("65000.1")


@given(st.lists(st.lists(PRICES, min_size=1, max_size=8), min_size=1, max_size=8))
def test_totals_of_parts_are_the_totals_of_the_whole(parts: list[list[Decimal]]) -> None:
    together = Totals()
    for part in parts:
        own = Totals()
        found = scaled(part)
        assert found is not None
        own.add(*found)
        together.merge(own)
    prices = [price for part in parts for price in part]
    total = sum(Fraction(price) for price in prices)
    assert (together.count, together.lowest, together.highest) == (len(prices), min(prices), max(prices))
    assert Fraction(together.total) == total
    assert abs(Fraction(together.average) - total / len(prices)) <= Fraction(1, 2 * 10**18)


def test_an_average_is_rounded_once_half_to_even() -> None:
    assert average_of(Decimal(1), 3) == Decimal("0.333333333333333333")
    assert str(average_of(Decimal(200), 2)) == "100"
    assert average_of(Decimal("0.000000000000000001"), 2) == 0
    assert average_of(Decimal("0.000000000000000003"), 2) == Decimal("0.000000000000000002")


def test_a_tick_counts_at_its_senders_time_but_never_in_the_future() -> None:
    times = [NOW - 5, NOW, NOW + 1_270, NOW + MAX_AHEAD_MS, NOW + MAX_AHEAD_MS + 1, NOW - 300_000, NOW - 299_999]
    prices = [Decimal(number) for number in range(1, 8)]
    found = settled(times, prices, received_ms=NOW, retention_ms=300_000)
    assert list(found.times) == [NOW - 5, NOW, NOW, NOW, NOW - 299_999]
    assert list(found.prices) == [Decimal(number) for number in (1, 2, 3, 4, 7)]
    assert (found.ahead, found.late) == (1, 1)


def test_an_ordinary_batch_is_left_as_it_is() -> None:
    times, prices = [NOW - 2, NOW - 1], [Decimal(1), Decimal(2)]
    found = settled(times, prices, received_ms=NOW, retention_ms=300_000)
    assert found.times is times
    assert found.prices is prices
