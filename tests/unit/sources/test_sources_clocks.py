"""The time that sources tell by the way: from Date headers, without those of caches, and not for ever."""

from __future__ import annotations

import pytest

from core.clock import FixedClock
from sources.clocks import FRESH_MS, SourceClocks

NOW = 1_710_328_245_000
DATE = "Wed, 13 Mar 2024 11:10:45 GMT"  # NOW


def noted(headers: dict[str, str], *, ours: int, trip_ms: int = 0) -> dict[str, float]:
    clock = FixedClock(ours)
    clocks = SourceClocks(clock)
    clock.advance(trip_ms)
    clocks.note("kraken", headers, ours)
    return clocks.offsets()


def test_a_date_lies_on_average_half_a_second_back() -> None:
    assert noted({"date": DATE}, ours=NOW + 500) == {"kraken": 0}
    assert noted({"date": DATE}, ours=NOW - 3_000) == {"kraken": 3_500}
    assert noted({"date": DATE}, ours=NOW + 3_000) == {"kraken": -2_500}


def test_half_the_trip_is_the_answers_way_back() -> None:
    assert noted({"date": DATE}, ours=NOW + 300, trip_ms=400) == {"kraken": 0}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"date": "yesterday"},
        {"date": ""},
        {"date": "Wed, 99 Mar 2024 11:10:45 GMT"},
        {"date": DATE, "age": "30"},
        {"date": DATE, "age": "x"},
    ],
)
def test_an_answer_that_does_not_tell_the_time_says_nothing(headers: dict[str, str]) -> None:
    assert noted(headers, ours=NOW) == {}


def test_an_age_of_nothing_is_no_cache() -> None:
    assert noted({"date": DATE, "age": "0"}, ours=NOW + 500) == {"kraken": 0}


def test_what_was_said_is_forgotten_and_said_again() -> None:
    clock = FixedClock(NOW)
    clocks = SourceClocks(clock)
    clocks.note("kraken", {"date": DATE}, NOW)
    clock.advance(900)
    clocks.note("kraken", {"date": DATE}, NOW + 900)  # too soon to listen again
    assert clocks.offsets() == {"kraken": 500}
    clock.advance(100)
    clocks.note("kraken", {"date": DATE}, NOW + 1_000)
    assert clocks.offsets() == {"kraken": -500}
    clock.advance(FRESH_MS + 1)
    assert clocks.offsets() == {}
