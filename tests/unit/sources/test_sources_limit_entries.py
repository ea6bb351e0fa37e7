"""A declared limit, divided among those who ask from one address."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from sources.limit_entries import LimitFormat


@st.composite
def limits(draw: st.DrawFn) -> LimitFormat:
    weight = draw(st.integers(1, 10_000))
    return LimitFormat(
        weight=weight,
        window_s=draw(st.integers(1, 3_600)),
        ticker=draw(st.integers(1, weight)),
        batch=draw(st.none() | st.integers(1, weight)),
    )


@given(limits(), st.integers(1, 100))
def test_all_parts_together_never_exceed_the_whole_on_average(whole: LimitFormat, processes: int) -> None:
    part = whole.shared_by(processes)
    assert processes * Fraction(part.weight, part.window_s) <= Fraction(whole.weight, whole.window_s)


@given(limits(), st.integers(1, 100))
def test_each_part_lets_the_heaviest_request_through_and_weighs_it_as_before(
    whole: LimitFormat, processes: int
) -> None:
    part = whole.shared_by(processes)
    assert part.weight >= max(part.ticker, part.batch_weight)
    assert (part.ticker, part.batch_weight) == (whole.ticker, whole.batch_weight)


@given(limits(), st.integers(1, 100))
def test_where_each_part_holds_a_request_the_whole_is_kept_in_every_window(whole: LimitFormat, processes: int) -> None:
    part = whole.shared_by(processes)
    if whole.weight // processes >= max(whole.ticker, whole.batch_weight):
        assert part.weight * processes <= whole.weight
        assert part.window_s == whole.window_s


def test_the_parts_of_limits_that_exchanges_declare() -> None:
    kraken = LimitFormat(weight=15, window_s=15)
    assert kraken.shared_by(1) == kraken
    assert (kraken.shared_by(4).weight, kraken.shared_by(4).window_s) == (3, 15)
    coingecko = LimitFormat(weight=10, window_s=60, batch=3)
    assert (coingecko.shared_by(5).weight, coingecko.shared_by(5).window_s) == (3, 90)  # 5 x 3 in 90 s: 10 in 60 s
