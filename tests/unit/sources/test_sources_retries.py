"""Retries are a share of what is asked, whatever fails."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.types import FailureCode
from sources.errors import NoRoomError, RequestError
from sources.retries import RESERVE, RESERVE_PER_S, RetryBudget, is_transient


@given(
    st.lists(st.tuples(st.floats(min_value=0, max_value=5), st.integers(min_value=0, max_value=4)), max_size=100),
    st.floats(min_value=0, max_value=1),
)
def test_retries_stay_below_their_share_and_the_reserve(asked: list[tuple[float, int]], share: float) -> None:
    budget, now, retries = RetryBudget(share), 1000.0, 0
    for first, (waited, wanted) in enumerate(asked, 1):
        now += waited
        budget.asked(now)
        retries += sum(budget.spend(now) for _ in range(wanted))
        assert retries <= RESERVE + share * first + RESERVE_PER_S * (now - 1000.0) + 1e-6


def test_a_source_that_is_down_is_soon_asked_once_each_time() -> None:
    budget = RetryBudget(0.1)
    sent = []
    for _ in range(200):
        budget.asked(50.0)
        sent.append(1 + sum(budget.spend(50.0) for _ in range(2)))
    assert sum(sent[:10]) >= 20
    assert sum(sent[100:]) <= 111


def test_a_pause_fills_the_reserve_up() -> None:
    budget = RetryBudget(0.0)
    assert [budget.spend(10.0) for _ in range(11)] == [True] * 10 + [False]
    assert not budget.spend(15.0)
    assert budget.spend(21.0)


def test_what_was_never_sent_is_not_sent_again() -> None:
    assert is_transient(RequestError(FailureCode.RATE_LIMITED, "HTTP 429"))
    assert not is_transient(NoRoomError("its limit is used up"))
    assert not is_transient(RequestError(FailureCode.HTTP_STATUS, "HTTP 404"))
    assert not is_transient(KeyError("a bug"))
