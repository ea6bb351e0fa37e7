"""When a source is asked no more, and how soon it is again."""

from __future__ import annotations

from typing import ClassVar

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sources.quarantine import Quarantine, QuarantinePolicy, State

POLICY = QuarantinePolicy()
BACK_WITHIN_S = 30.0


def quarantined(at: float = 100.0) -> Quarantine:
    quarantine = Quarantine(POLICY)
    for _ in range(POLICY.failures):
        quarantine.failed(at)
    assert quarantine.state is State.QUARANTINED
    return quarantine


def test_four_failures_in_a_row_are_not_enough_and_the_fifth_is() -> None:
    quarantine = Quarantine(POLICY)
    assert [quarantine.failed(100.0 + second) for second in range(5)] == [False] * 4 + [True]
    assert quarantine.state is State.QUARANTINED
    assert quarantine.probe_at == 104.0 + POLICY.pause_s


def test_a_success_between_them_begins_the_row_anew() -> None:
    quarantine = Quarantine(POLICY)
    for second in range(3):
        quarantine.failed(second)
    assert not quarantine.succeeded(4)
    assert [quarantine.failed(5 + second) for second in range(4)] == [False] * 4


def test_one_that_fails_every_other_time_is_quarantined_by_its_error_rate() -> None:
    quarantine, asked = Quarantine(POLICY), 0
    while quarantine.state is State.OK and asked < 50:
        asked += 1
        (quarantine.failed if asked % 2 else quarantine.succeeded)(float(asked))
    assert quarantine.state is State.QUARANTINED
    assert asked == POLICY.recent // 2 + 1


def test_one_that_fails_once_in_ten_is_not() -> None:
    quarantine = Quarantine(POLICY)
    for asked in range(1_000):
        (quarantine.succeeded if asked % 10 else quarantine.failed)(float(asked))
    assert quarantine.state is State.OK


def test_what_was_long_ago_does_not_count() -> None:
    quarantine = Quarantine(POLICY)
    for asked in range(9):
        (quarantine.failed if asked % 2 else quarantine.succeeded)(float(asked))
    quarantine.succeeded(1_000.0)
    assert not quarantine.failed(1_001.0)
    assert quarantine.error_rate(1_001.0) == 0.5


def test_a_probe_that_goes_well_brings_it_back_with_a_clean_sheet() -> None:
    quarantine = quarantined()
    quarantine.probing()
    assert (quarantine.state, quarantine.probe_at) == (State.PROBING, None)
    assert quarantine.succeeded(103.0)
    assert quarantine.state is State.OK
    assert quarantine.error_rate(103.0) == 0
    assert [quarantine.failed(104.0) for _ in range(4)] == [False] * 4


def test_pauses_between_probes_grow_and_stay_below_the_longest() -> None:
    quarantine, pauses = quarantined(), []
    for _ in range(8):
        assert quarantine.probe_at is not None
        pauses.append(quarantine.probe_at - 100.0)
        quarantine.probing()
        quarantine.probe_failed(100.0)
    assert pauses == [2, 4, 8, 15, 15, 15, 15, 15]


def test_one_who_falls_ill_again_soon_is_probed_less_often_and_one_who_was_well_for_long_is_not() -> None:
    for later, pause in ((10.0, 4.0), (100.0, 2.0)):
        quarantine = quarantined()
        quarantine.probing()
        quarantine.succeeded(102.0)
        for _ in range(POLICY.failures):
            quarantine.failed(102.0 + later)
        assert quarantine.probe_at == 102.0 + later + pause


def test_any_answer_ends_it_and_other_failures_do_not_prolong_it() -> None:
    quarantine = quarantined()
    due = quarantine.probe_at
    assert not quarantine.failed(101.0)
    assert quarantine.probe_at == due
    assert quarantine.succeeded(101.5), "asked as a last resort, it answered"
    assert quarantine.state is State.OK


@given(st.floats(min_value=0, max_value=3_600), st.floats(min_value=0, max_value=1.5))
def test_a_source_is_back_within_thirty_seconds_of_its_recovery(ill_for_s: float, probe_takes_s: float) -> None:
    """Whenever it recovers, and however long the probe takes."""
    quarantine = quarantined(0.0)
    recovered, now = ill_for_s, 0.0
    while quarantine.state is not State.OK:
        assert quarantine.probe_at is not None
        now = quarantine.probe_at
        quarantine.probing()
        sent, now = now, now + probe_takes_s
        if sent >= recovered:
            quarantine.succeeded(now)
        else:
            quarantine.probe_failed(now)
    assert now - recovered <= BACK_WITHIN_S


class Machine(RuleBasedStateMachine):
    """Whatever happens in whatever order: a quarantined source always has a probe due within the longest pause."""

    waits: ClassVar = st.floats(min_value=0, max_value=40)

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.quarantine = Quarantine(POLICY)
        self.row = 0

    @rule(wait=waits)
    def succeed(self, wait: float) -> None:
        self.now += wait
        was = self.quarantine.state
        assert self.quarantine.succeeded(self.now) is (was is not State.OK)
        assert self.quarantine.state is State.OK
        self.row = 0

    @rule(wait=waits)
    def fail(self, wait: float) -> None:
        self.now += wait
        was = self.quarantine.state
        began = self.quarantine.failed(self.now)
        if was is State.OK:
            self.row += 1
            assert began or self.row < POLICY.failures
        else:
            assert not began
            assert self.quarantine.state is was

    @precondition(lambda self: self.quarantine.probe_at is not None)
    @rule()
    def probe(self) -> None:
        self.now = max(self.now, self.quarantine.probe_at)
        self.quarantine.probing()
        assert self.quarantine.state is State.PROBING

    @rule(wait=waits)
    def probe_fails(self, wait: float) -> None:
        self.now += wait
        was = self.quarantine.state
        self.quarantine.probe_failed(self.now)
        assert self.quarantine.state is (State.QUARANTINED if was is State.PROBING else was)

    @invariant()
    def a_probe_is_due_soon_or_under_way_or_none_is_needed(self) -> None:
        due = self.quarantine.probe_at
        assert (due is not None) is (self.quarantine.state is State.QUARANTINED)
        assert due is None or due <= self.now + POLICY.longest_pause_s


TestMachine = Machine.TestCase
