"""The attempt's states and its record."""

from __future__ import annotations

from itertools import pairwise

import pytest

from aggregator.attempts import AttemptRecord, Cause, FailureReason, State, new_attempt_id
from aggregator.errors import InvalidTransitionError
from core import codec
from core.types import Mode

WAY = [
    State.QUEUED,
    State.CLAIMED,
    State.COLLECTING,
    State.VALIDATING,
    State.SUBMITTING,
    State.CONFIRMING,
    State.ACCEPTED,
]


def record(state: State) -> AttemptRecord:
    return AttemptRecord(
        id=new_attempt_id(),
        deployment="1:0x:0x",
        mode=Mode.TEST,
        group="majors",
        cause=Cause.REQUEST,
        state=state,
        started_ms=1,
    )


def test_an_attempt_goes_its_way_step_by_step() -> None:
    one = record(State.QUEUED)
    for state in WAY[1:]:
        one = one.moved(state)
    assert one.state is State.ACCEPTED


@pytest.mark.parametrize("state", WAY[:-1])
def test_it_can_fail_at_every_step_but_the_last(state: State) -> None:
    failed = record(state).failed(FailureReason.NO_QUORUM, "2 of 3", 5)
    assert (failed.state, failed.code, failed.detail, failed.ended_ms) == (State.FAILED, "no_quorum", "2 of 3", 5)


@pytest.mark.parametrize(
    ("state", "to"),
    [(a, b) for a in State for b in State if b is not State.FAILED and (a, b) not in list(pairwise(WAY))]
    + [(State.ACCEPTED, State.FAILED), (State.FAILED, State.FAILED)],
)
def test_no_other_step_is_taken(state: State, to: State) -> None:
    with pytest.raises(InvalidTransitionError):
        record(state).moved(to)


def test_a_record_survives_json_to_the_byte() -> None:
    one = record(State.CONFIRMING)
    assert codec.encode(codec.decode(codec.encode(one), AttemptRecord)) == codec.encode(one)
