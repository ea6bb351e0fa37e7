"""The breaker's formula, held to its definition in fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.breaker import beyond

prices = st.integers(1, 2**64 - 1)


@given(prices, prices, st.integers(0, 10**8), st.integers(1, 10**7), st.integers(1, 10_000))
def test_it_is_the_square_root_of_the_time_from_one_heartbeat_to_sixteen(
    value: int, anchor: int, elapsed: int, heartbeat: int, limit: int
) -> None:
    growth = min(max(Fraction(1), Fraction(elapsed, heartbeat)), Fraction(16))
    expected = Fraction(abs(value - anchor) * 10_000, anchor) ** 2 > limit**2 * growth
    assert beyond(value, anchor, elapsed_ms=elapsed, heartbeat_ms=heartbeat, limit_bps=limit) == expected


@pytest.mark.parametrize(("elapsed", "last_within"), [(0, 1_000), (60_000, 1_000), (240_000, 2_000), (10**9, 4_000)])
def test_a_tenth_doubles_after_four_heartbeats_and_grows_to_four_tenths(elapsed: int, last_within: int) -> None:
    def is_beyond(bps: int) -> bool:
        return beyond(10_000 + bps, 10_000, elapsed_ms=elapsed, heartbeat_ms=60_000, limit_bps=1_000)

    assert (is_beyond(last_within), is_beyond(last_within + 1)) == (False, True)


def test_without_a_limit_or_an_answer_nothing_is_beyond() -> None:
    assert not beyond(10**9, 1, elapsed_ms=0, heartbeat_ms=1, limit_bps=0)
    assert not beyond(10**9, 0, elapsed_ms=0, heartbeat_ms=1, limit_bps=1)
