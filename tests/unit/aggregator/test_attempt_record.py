"""The attempt's states and its record."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import msgspec
import pytest

from aggregator.attempts import (
    MAX_RECORD_BYTES,
    AttemptRecord,
    Cause,
    FailureReason,
    RefusalRecord,
    ReportRecord,
    Verdict,
    new_attempt_id,
)
from aggregator.errors import InvalidTransitionError
from aggregator.states import State
from core import codec
from core.types import Mode, Pair, Quote
from tests.support.aggregator import NOW, SIGNERS, group, report

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


def evidence(size: int) -> tuple[Quote, ...]:
    return (Quote(pair=Pair("BTC/USD"), source="s" * size, price=Decimal(1), received_ms=1),)


def sent(number: int, size: int, code: str | None = None, prices: tuple[int, int] = (1, 1)) -> ReportRecord:
    one = report(SIGNERS[number], prices, group())
    return ReportRecord(
        verdict=Verdict.LEFT_OUT if code else Verdict.INCLUDED,
        code=code,
        detail="",
        signer=SIGNERS[number].address.lower(),
        fetcher=f"fetcher-{number}",
        instance="1",
        arrived_ms=1,
        elapsed_ms=1,
        signed=one.signed,
        answers={"BTC/USD": Decimal(1)},
        quotes=evidence(size),
        failures=(),
    )


def refused(number: int, size: int) -> RefusalRecord:
    return RefusalRecord(
        fetcher=f"fetcher-{number}",
        instance="1",
        reporter=SIGNERS[number].address,
        code="no_prices",
        detail="why",
        arrived_ms=1,
        elapsed_ms=1,
        quotes=evidence(size),
        failures=(),
    )


def collected(reports: tuple[ReportRecord, ...] = (), refusals: tuple[RefusalRecord, ...] = ()) -> AttemptRecord:
    return msgspec.structs.replace(record(State.COLLECTING), moment=NOW, reports=reports, refusals=refusals)


def test_a_record_within_its_bytes_is_kept_as_it_is() -> None:
    one = collected((sent(0, 400_000), sent(1, 400_000)), (refused(2, 400_000), refused(3, 400_000)))
    assert one.bounded() is one


def test_evidence_beyond_a_records_bytes_is_dropped_late_first_then_that_of_refusals_and_no_report() -> None:
    whole = collected(
        (sent(0, 700_000, "late"), sent(1, 900_000), sent(2, 900_000)), (refused(3, 900_000), refused(4, 50_000))
    )
    one = whole.bounded()
    assert len(codec.encode(one)) <= MAX_RECORD_BYTES
    assert [bool(each.quotes) for each in one.reports] == [False, True, True]
    assert [bool(each.quotes) for each in one.refusals] == [False, True]
    assert [each.signed for each in one.reports] == [each.signed for each in whole.reports]
    assert [(each.code, each.detail) for each in one.refusals] == [("no_prices", "why")] * 2
    assert one.bounded() is one


def test_a_late_report_brings_its_evidence_only_where_there_is_room() -> None:
    one = collected((sent(0, 900_000), sent(1, 900_000)))
    longer = one.with_late(sent(2, 100_000, "late")).with_late(sent(3, 900_000, "late"))
    assert [bool(each.quotes) for each in longer.reports] == [True, True, True, False]
    assert [bool(each.answers) for each in longer.reports] == [True, True, True, False]
    assert len(codec.encode(longer)) <= MAX_RECORD_BYTES


def test_one_report_in_other_letters_or_for_another_name_is_no_second_one() -> None:
    one = collected((sent(0, 1),))
    late = sent(0, 2, "late")
    for changes in (
        {"group_hash": late.signed.group_hash.upper().replace("0X", "0x")},
        {"reporter": "0x"},
        {"signature": late.signed.signature.upper()},
    ):
        again = msgspec.structs.replace(late, signed=msgspec.structs.replace(late.signed, **changes))
        assert one.with_late(again) is one


def test_of_one_signer_two_reports_are_kept_and_no_third() -> None:
    one = collected((sent(0, 1),)).with_late(sent(0, 1, "late", (1, 2)))
    assert len(one.reports) == 2
    assert one.with_late(sent(0, 1, "late", (1, 3))) is one
