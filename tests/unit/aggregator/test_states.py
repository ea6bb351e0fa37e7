"""The state machine of an attempt: what always holds, whatever is tried."""

from __future__ import annotations

from contextlib import suppress

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from aggregator.attempts import AttemptRecord, Cause, FailureReason, new_attempt_id
from aggregator.errors import InvalidTransitionError
from aggregator.states import CORRECTIONS, FINAL, OPEN, STEPS, WAY, State
from contracts.readings import Receipt
from core.types import Mode

RECEIPT = Receipt("0xaa", 5, "0xbb", 21_000, True)


def queued(*, sent: bool) -> AttemptRecord:
    return AttemptRecord(
        id=new_attempt_id(),
        deployment="1:0x:0x",
        mode=Mode.TEST,
        group="majors",
        cause=Cause.REQUEST,
        state=State.QUEUED,
        started_ms=1,
        onto_round=4 if sent else None,
        transactions=("0xaa",) if sent else (),
    )


def tried(record: AttemptRecord, what: object) -> AttemptRecord:
    """The record after a step, or as it is where that is not allowed."""
    with suppress(InvalidTransitionError):
        if what == "mined":
            return record.mined_late(RECEIPT, 7)
        if what == "reorged":
            return record.reorged("gone", 8)
        if what == "settled":
            return msgspec.structs.replace(record, settled=record.state is State.ACCEPTED)
        if what is State.FAILED:
            return record.failed(FailureReason.STOPPED, "", 6)
        return record.moved(State(what), **({"round": 5} if what is State.ACCEPTED else {}))
    return record


attempts = st.lists(st.sampled_from([*State, "mined", "reorged", "settled"]), max_size=40)


@given(attempts, st.booleans())
def test_whatever_is_tried_an_attempt_goes_only_where_the_table_lets_it(tries: list[object], sent: bool) -> None:
    record = queued(sent=sent)
    for what in tries:
        after = tried(record, what)
        if after.state is not record.state:
            step = after.state in STEPS[record.state]
            corrected = what in ("mined", "reorged") and CORRECTIONS.get(record.state) is after.state
            assert step or corrected
        if record.settled:
            assert after == record or what == "settled"  # what the chain has settled stays
        if record.state is State.FAILED and not sent:
            assert after.state is State.FAILED  # nothing was sent: no block can bring it back
        assert (after.code is not None) == (after.state is State.FAILED)
        assert (after.round is not None) == (after.state is State.ACCEPTED)
        record = after


@given(st.sampled_from(list(State)))
def test_from_every_state_a_final_one_is_reached_in_one_step_and_left_in_none(state: State) -> None:
    assert (STEPS[state] == frozenset()) == (state in FINAL) == state.final
    if state not in FINAL:
        assert State.FAILED in STEPS[state]


def test_every_state_has_its_place() -> None:
    assert STEPS.keys() == set(State)
    assert {State.QUEUED} | OPEN | FINAL == set(State)
    assert not OPEN & FINAL
    assert set(WAY) == set(State) - {State.FAILED}
