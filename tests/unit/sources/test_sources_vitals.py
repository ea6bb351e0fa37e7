"""How long a source takes, and when another should be asked beside it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.types import FailureCode
from sources.latency import ENOUGH, KEPT, LEAST_HEDGE_S, MEDIANS, Latency
from sources.quarantine import QuarantinePolicy, State
from sources.vitals import FAIR_S, Vitals


def vitals(*took: float) -> Vitals:
    made = Vitals(QuarantinePolicy())
    for each in took:
        made.ended(made.began(0.0), each, answered=True)
    return made


@given(st.lists(st.floats(min_value=0.0001, max_value=30), min_size=ENOUGH, max_size=3 * KEPT))
def test_percentiles_are_of_the_last_requests_by_nearest_rank(took: list[float]) -> None:
    latency = Latency()
    for each in took:
        latency.took(each)
    last = sorted(took[-KEPT:])
    for percent in (50, 95, 100):
        found = latency.percentile(percent)
        assert found in last
        assert sum(each <= found for each in last) * 100 >= percent * len(last)
        assert sum(each < found for each in last) * 100 < percent * len(last)
    assert latency.hedge_s is not None
    assert LEAST_HEDGE_S <= latency.hedge_s <= max(LEAST_HEDGE_S, min(last[-1], MEDIANS * last[len(last) // 2]))


def test_a_few_requests_are_no_estimate() -> None:
    assert vitals(*[0.05] * (ENOUGH - 1)).hedge_s(0.0) is None
    assert vitals(*[0.05] * ENOUGH).hedge_s(0.0) == pytest.approx(0.05)


def test_a_steady_source_is_hedged_after_its_own_95th_percentile() -> None:
    took = [0.040 + 0.0005 * step for step in range(40)]
    assert vitals(*took).hedge_s(0.0) == pytest.approx(took[37])


def test_one_that_is_slow_once_in_ten_is_not_waited_for_as_long_as_its_slow_answers() -> None:
    source = vitals(*([0.02] * 9 + [0.4]) * 4)
    assert source.latency.percentile(95) == 0.4
    assert source.hedge_s(0.0) == pytest.approx(0.06)


def test_the_jitter_of_the_loop_is_no_slowness() -> None:
    assert vitals(*[0.001] * 20).hedge_s(0.0) == LEAST_HEDGE_S


def test_a_source_that_does_not_answer_has_company_from_the_start() -> None:
    source = vitals(*[0.02] * 20)
    source.ended(source.began(1.0), 0.6, answered=False)
    assert source.hedge_s(2.0) == 0.0
    source.ended(source.began(2.0), 0.02, answered=True)
    assert source.hedge_s(3.0) == pytest.approx(0.02, abs=0.005)


def test_so_has_one_whose_request_under_way_is_late() -> None:
    source = vitals(*[0.02] * 20)
    number = source.began(10.0)
    assert source.hedge_s(10.01) == pytest.approx(0.02)
    assert source.hedge_s(10.05) == 0.0
    source.ended(number, 0.06, answered=None)
    assert source.hedge_s(10.06) == pytest.approx(0.02)


def test_what_was_called_off_or_failed_otherwise_tells_nothing_of_latency() -> None:
    source = vitals(*[0.02] * 20)
    for _ in range(30):
        source.ended(source.began(0.0), 0.0001, answered=None)
    assert source.latency.percentile(50) == 0.02


def test_a_source_is_given_a_fair_chance_by_what_it_usually_takes() -> None:
    assert vitals().fair_s() == FAIR_S
    assert vitals(*[0.2] * 20).fair_s() == 0.4
    assert vitals(*[0.001] * 20).fair_s() == 0.1
    assert vitals(*[0.7] * 20).fair_s() == 0.7, "half its answers take longer than a job's budget"


@pytest.mark.parametrize("usually_s", [0.02, 0.3, 0.45])
@pytest.mark.parametrize("known", [ENOUGH, KEPT])
def test_one_that_hangs_is_at_fault_in_a_jobs_budget_each_time_until_it_is_quarantined(
    usually_s: float, known: int
) -> None:
    source = vitals(*[usually_s] * known)
    for _ in range(QuarantinePolicy().failures):
        assert source.fair_s() <= 0.55, "its own timeouts must not pass for what it usually takes"
        source.ended(source.began(1.0), 0.57, answered=False)


def test_health_decays_with_failures_and_recovers_with_answers() -> None:
    source = vitals()
    seen = [source.health]
    for _ in range(5):
        source.ill(FailureCode.CONNECTION, "refused", 1.0)
        seen.append(source.health)
    assert seen[0] == 1.0
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] < 0.4
    assert source.quarantine.state is State.QUARANTINED
    assert source.last_failure == "connection: refused"
    for _ in range(20):
        source.well(2.0)
    assert 0.95 < source.health <= 1.0
    assert source.quarantine.state is State.OK
