"""Who shares an attempt, and what moment one has."""

from __future__ import annotations

from decimal import Decimal

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from aggregator.attempts import AttemptRecord, Cause
from aggregator.running import JOIN_WITHIN_MS, joins, next_moment
from aggregator.states import State
from core.types import Mode
from tests.support.aggregator import NOW, group

OPEN = AttemptRecord(
    id="a",
    deployment="d",
    mode=Mode.TEST,
    group="majors",
    cause=Cause.REQUEST,
    state=State.COLLECTING,
    started_ms=NOW,
    moment=NOW,
)
ACCEPTED = msgspec.structs.replace(OPEN, state=State.ACCEPTED, ended_ms=NOW + 40)
FAILED = msgspec.structs.replace(OPEN, state=State.FAILED, ended_ms=NOW + 40)
times = st.integers(min_value=NOW - 20_000, max_value=NOW + 20_000)


@given(times)
def test_an_open_attempt_serves_requests_up_to_a_second_younger_than_its_moment(arrived: int) -> None:
    assert joins(OPEN, arrived) == (arrived <= NOW + JOIN_WITHIN_MS)


@given(times)
def test_an_accepted_attempt_serves_only_requests_that_arrived_while_it_was_open(arrived: int) -> None:
    assert joins(ACCEPTED, arrived) == (arrived < NOW + 40)


@given(times)
def test_a_failed_attempt_serves_nobody_any_more(arrived: int) -> None:
    assert not joins(FAILED, arrived)


@given(times)
def test_an_attempt_that_has_no_moment_yet_will_have_a_later_one(arrived: int) -> None:
    assert joins(msgspec.structs.replace(OPEN, state=State.QUEUED, moment=0), arrived)


@given(
    now=st.integers(min_value=0, max_value=2**47),
    after=st.integers(min_value=0, max_value=2**47),
    grid=st.integers(min_value=1, max_value=1_000),
)
def test_a_moment_is_on_the_grid_later_than_the_last_and_no_later_than_it_must_be(
    now: int, after: int, grid: int
) -> None:
    one = group(grid_ms=grid, max_price=Decimal(10))
    moment = next_moment(one, now, after)
    assert moment % grid == 0
    assert moment > after
    assert moment <= now or moment - grid <= after
    assert moment > now - grid or moment > after
