"""A window of weight: never exceeded wherever it begins, halved by a refusal, grown back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources.window import LEAST_SHARE, RECOVER_S, Window

steps = st.lists(
    st.tuples(
        st.floats(min_value=0, max_value=7, allow_nan=False),
        st.integers(min_value=1, max_value=9),
        st.sampled_from([1.0, 0.8, 0.5]),
    ),
    max_size=60,
)


@given(steps, st.integers(min_value=1, max_value=20), st.floats(min_value=0.5, max_value=10))
def test_no_interval_of_the_windows_length_holds_more_than_is_allowed(
    asked: list[tuple[float, int, float]], weight: int, window_s: float
) -> None:
    window, now = Window(weight, window_s), 1000.0
    sent: list[tuple[float, int]] = []
    for waited, each, share in asked:
        now += waited
        if window.take(each, now, share):
            sent.append((now, each))
    for end, _ in sent:
        assert sum(each for at, each in sent if end - window_s < at <= end) <= weight


@given(steps, st.integers(min_value=1, max_value=20), st.integers(min_value=1, max_value=20))
def test_what_does_not_fit_now_fits_when_it_is_said_to(
    asked: list[tuple[float, int, float]], weight: int, next_weight: int
) -> None:
    window, now = Window(weight, 5.0), 1000.0
    for waited, each, share in asked:
        now += waited
        window.take(each, now, share)
    due = window.when(min(next_weight, weight), now)
    assert now <= due <= now + 5.0 * 21 / 20 + 1e-6
    assert window.take(min(next_weight, weight), due + 1e-6)


@given(st.lists(st.floats(min_value=0, max_value=60), max_size=200))
def test_memory_is_bounded_however_much_is_sent(waits: list[float]) -> None:
    window, now = Window(10_000, 60.0), 0.0
    for waited in waits:
        now += waited / 10
        window.take(1, now)
        window.used(now)
    assert len(window._sent) <= 22


def test_a_single_request_fits_into_an_empty_window_for_everyone() -> None:
    window = Window(1, 1.0)
    assert window.take(1, 10.0, share=0.5)
    assert not window.take(1, 10.5)
    assert window.take(1, 12.0)


def test_a_refusal_halves_what_was_sent_and_it_grows_back() -> None:
    window = Window(100, 10.0)
    assert window.take(60, 100.0)
    window.refused(100.0, 100.2)
    assert window.allowed(100.2) == 30
    assert window.left(100.2) == 0
    assert window.allowed(100.2 + RECOVER_S / 2) == 65
    assert window.allowed(100.3 + RECOVER_S) == 100


def test_refusals_of_requests_under_way_together_count_once() -> None:
    window = Window(100, 10.0)
    assert window.take(80, 100.0)
    for at in (100.1, 100.2, 100.3):
        window.refused(100.0, at)
    assert window.allowed(100.3) == 40


def test_however_often_it_refuses_something_is_left() -> None:
    window, now = Window(80, 1.0), 100.0
    for _ in range(50):
        now += 2
        window.take(1, now)
        window.refused(now, now + 0.1)
        now += 0.1
    assert window.allowed(now) == 80 // LEAST_SHARE


@pytest.mark.parametrize(("weight", "window_s"), [(0, 1.0), (1, 0.0), (-1, 1.0)])
def test_a_limit_that_lets_nothing_through_is_refused(weight: int, window_s: float) -> None:
    with pytest.raises(ValueError, match="lets nothing through"):
        Window(weight, window_s)
