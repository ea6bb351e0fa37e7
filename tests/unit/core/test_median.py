"""The rules of the median, as properties: they must hold for every input, so hypothesis chooses the inputs."""

from decimal import Decimal
from statistics import median_low

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.median import (
    BPS,
    MAD_LIMIT,
    MAD_SCALE,
    from_scaled,
    is_lower_median,
    lower_median,
    mad_outliers,
    spread_bps,
    to_scaled,
)

values = st.lists(st.integers(1, 2**64 - 1), min_size=1, max_size=40)
prices = st.lists(
    st.decimals(min_value="0.00000001", max_value="100000000", places=8, allow_nan=False), min_size=1, max_size=20
)


@given(values)
def test_the_median_is_the_standard_librarys_low_median(numbers: list[int]) -> None:
    assert lower_median(numbers) == median_low(numbers)


@given(values)
def test_counting_accepts_the_median_and_nothing_else(numbers: list[int]) -> None:
    accepted = {number for number in numbers if is_lower_median(numbers, number)}
    assert accepted == {median_low(numbers)}


def test_the_median_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing"):
        lower_median([])


@given(st.integers(1, 5).flatmap(lambda f: st.tuples(
    st.lists(st.integers(1, 10**12), min_size=2 * f + 1, max_size=2 * f + 1),
    st.lists(st.integers(1, 2**64 - 1), min_size=0, max_size=f),
)))  # fmt: skip
def test_f_liars_cannot_move_the_median_out_of_the_honest_range(case: tuple[list[int], list[int]]) -> None:
    honest, lies = case
    assert min(honest) <= lower_median(honest + lies) <= max(honest)


@given(prices, st.integers(0, 500))
def test_the_outlier_rule_never_rejects_the_median_nor_what_lies_within_the_floor(
    quotes: list[Decimal], floor_bps: int
) -> None:
    centre = lower_median(quotes)
    for quote, rejected in zip(quotes, mad_outliers(quotes, floor_bps), strict=True):
        if rejected:
            assert abs(quote - centre) > centre * floor_bps / 10_000


@given(prices, st.integers(0, 500))
def test_the_outlier_rule_is_three_scaled_mads_or_the_floor_for_each_quote(
    quotes: list[Decimal], floor_bps: int
) -> None:
    centre = lower_median(quotes)
    away = [abs(quote - centre) for quote in quotes]
    limit = max(lower_median(away) * MAD_SCALE * MAD_LIMIT, centre * floor_bps / BPS)
    assert mad_outliers(quotes, floor_bps) == [each > limit for each in away]


@given(prices)
def test_the_outlier_rule_always_leaves_a_majority(quotes: list[Decimal]) -> None:
    kept = mad_outliers(quotes, 0).count(False)
    assert kept * 2 >= len(quotes)


def test_with_three_quotes_a_tenfold_one_is_rejected() -> None:
    quotes = [Decimal("73369.84"), Decimal("73380.6"), Decimal("733698.4")]
    assert mad_outliers(quotes, 50) == [False, False, True]


def test_nearly_equal_quotes_are_all_kept_by_the_floor() -> None:
    quotes = [Decimal("1.0001"), Decimal("1.0001"), Decimal("1.0002"), Decimal("1.0030")]
    assert mad_outliers(quotes, 50) == [False] * 4


def test_spread_is_in_basis_points_of_the_median_rounded_down() -> None:
    assert spread_bps([10_000, 10_050, 10_100]) == 99  # 100 / 10_050
    assert spread_bps([7]) == 0


@given(st.integers(1, 2**64 - 1), st.integers(0, 18))
def test_scaling_is_exact_both_ways(value: int, decimals: int) -> None:
    assert to_scaled(from_scaled(value, decimals), decimals) == value


def test_scaling_rounds_half_to_even_beyond_the_feeds_decimals() -> None:
    assert to_scaled(Decimal("1.000000015"), 8) == 100_000_002
    assert to_scaled(Decimal("1.000000025"), 8) == 100_000_002
