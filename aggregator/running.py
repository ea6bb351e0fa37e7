"""The parts of an attempt that need no I/O: its moment, what is in hand of it, its reports' records, its reasons."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from aggregator.attempts import AttemptRecord, FailureReason, FeedAnswer, RefusalRecord, ReportRecord, Verdict
from aggregator.collection import Collection
from aggregator.edges import Flight
from aggregator.errors import AttemptFailedError, KeyInUseError
from aggregator.states import State
from aggregator.validation import Fault, Judged, Validation, validate
from broker.errors import BrokerError, BrokerUnavailableError, UnroutableError
from broker.messages import MAX_DETAIL, MOMENT_TOO_FAR
from contracts.errors import (
    ContractError,
    InvalidSignatureError,
    MalformedReportError,
    ReceiptTimeoutError,
    RoundRefusedError,
    TransactionFailedError,
)
from contracts.readings import GroupReading
from core.errors import StoreUnavailableError
from core.types import Group, Pair

_REASONS: tuple[tuple[type[Exception], FailureReason], ...] = (
    (UnroutableError, FailureReason.UNROUTABLE),
    (BrokerError, FailureReason.BROKER_UNAVAILABLE),
    (StoreUnavailableError, FailureReason.STORE_UNAVAILABLE),
    (KeyInUseError, FailureReason.SUBMISSION_FAILED),
    (RoundRefusedError, FailureReason.ROUND_REFUSED),
    (ReceiptTimeoutError, FailureReason.NOT_CONFIRMED),
    (TransactionFailedError, FailureReason.SUBMISSION_FAILED),
    (MalformedReportError, FailureReason.INTERNAL),
    (InvalidSignatureError, FailureReason.INTERNAL),
    (ContractError, FailureReason.CHAIN_UNAVAILABLE),
)


def reason_for(error: Exception) -> FailureReason:
    """The coded reason of an attempt that an error ended."""
    if isinstance(error, AttemptFailedError):
        return FailureReason(error.reason)
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), FailureReason.INTERNAL)


def next_moment(group: Group, now_ms: int, after_ms: int) -> int:
    """The group's moment for now, or, where that is not later than `after_ms`, the first on the grid that is."""
    moment = group.moment_at(now_ms)
    return moment if moment > after_ms else group.moment_at(after_ms) + group.grid_ms


JOIN_WITHIN_MS = 1_000
"""A request joins an attempt whose moment is not older than the request by more than this."""


def joins(record: AttemptRecord, arrived_ms: int) -> bool:
    """Whether a request that arrived then is served by this attempt.

    It must have been open at that time, and its moment no more than a second older. An attempt that has ended since
    counts only if it was accepted: who comes with a failure behind him gets a new try. (A request may reach us later
    than it arrived at the front; an attempt without a moment yet will have one later than that.)
    """
    if record.state is State.FAILED:
        return False
    if record.ended_ms is not None and record.ended_ms <= arrived_ms:
        return False
    return record.moment == 0 or arrived_ms - record.moment <= JOIN_WITHIN_MS


@dataclass(eq=False)
class Running:
    """An attempt that is queued or open, or has just ended. `done` carries its final record: another's, where an
    attempt of another aggregator has served those who wait.

    arrived_ms: when the last of them arrived. announced: a client was told its id before it had a moment.
    """

    record: AttemptRecord
    done: asyncio.Future[AttemptRecord]
    published: asyncio.Future[None] | None = None  # its job
    published_at: float = 0.0  # on the monotonic clock, seconds
    collection: Collection | None = None
    flight: Flight | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    arrived_ms: int = 0
    announced: bool = False

    @property
    def id(self) -> str:
        return self.record.id

    def check_published(self) -> None:
        """Raises a `BrokerError` unless the broker has confirmed its job."""
        if self.published is not None:
            if not self.published.done():
                raise BrokerUnavailableError("the broker has not confirmed the job before the deadline")
            self.published.result()


def verdicts_so_far(collection: Collection, now_ms: int) -> tuple[Judged, ...]:
    """The verdicts so far, of an attempt that ended before its validation: none of its reports was submitted."""
    return tuple(
        replace(one, verdict=Verdict.LEFT_OUT) if one.verdict is Verdict.INCLUDED else one
        for one in validate(collection.received, collection.expected, now_ms).judged
    )


def silent(collection: Collection) -> tuple[str, ...]:
    """The registered signers from whom neither report nor refusal has come, in ascending order.

    A refusal is not signed: whoever sends one in another's name makes that one seem less silent than it is.
    """
    expected = collection.expected
    signed = {one.signer for one in collection.received if expected.own(one)}
    refused = {refusal.reporter.lower() for refusal in collection.refusals}
    return tuple(sorted(expected.known.signers - signed - refused))


def refused(refusals: Sequence[RefusalRecord]) -> str:
    """The codes of those that did not sign, to stand behind what came of that."""
    return f" (refused: {', '.join(sorted(one.code for one in refusals))})" if refusals else ""


def clock_off(record: AttemptRecord, f: int) -> bool:
    """Whether an attempt has no quorum, and more than f reporters say, unsigned, that our clock is wrong."""
    said = {one.reporter for one in record.refusals if one.code == MOMENT_TOO_FAR}
    return record.code == FailureReason.NO_QUORUM and len(said) > f


def report_record(judged: Judged) -> ReportRecord:
    """What is kept of a report. Of one that no member signed for this moment, or whose evidence is not what he signed,
    only the report itself: the rest could be anything, and anybody can send an old report again."""
    received = judged.received
    report = received.report
    stranger = judged.code in (Fault.BAD_SIGNATURE, Fault.NOT_A_MEMBER, Fault.WRONG_MOMENT) or received.unproven
    return ReportRecord(
        verdict=judged.verdict,
        code=judged.code,
        detail=judged.detail[:MAX_DETAIL],
        signer=received.signer,
        fetcher=report.fetcher,
        instance=report.instance,
        arrived_ms=received.arrived_ms,
        elapsed_ms=report.elapsed_ms,
        signed=report.signed,
        answers={} if stranger else report.answers,
        quotes=() if stranger else report.quotes,
        failures=() if stranger else report.failures,
        observed={} if stranger else report.observed,
        warnings=judged.warnings,
    )


def difference(reading: GroupReading, round_: int, validation: Validation) -> str:
    """How the chain's answers differ from ours, or why that is not known; empty where they agree, and when a later
    round, which followed on ours, is there already."""
    if reading.round < round_:
        return f"accepted, but not read back: the node still shows round {reading.round}"
    if reading.round > round_:
        return ""
    for pair, ours in validation.answers.items():
        theirs = reading.answers.get(pair)
        if ours.held:
            continue  # it waits as a candidate: the standing answer stands
        if theirs is None or theirs.price != ours.price:
            return f"the chain's answer for {pair} is {theirs.price if theirs else None}, ours {ours.price}"
    return ""


def with_confirmed(reading: GroupReading, round_: int, answers: Mapping[Pair, FeedAnswer]) -> dict[Pair, FeedAnswer]:
    """The answers, those beyond a limit that the contract took in this round no longer as held: only it knows whether a
    candidate waited that they confirm."""
    return {
        pair: msgspec.structs.replace(ours, held="", confirmed=True)
        if ours.held and (theirs := reading.answers.get(pair)) is not None and theirs.round == round_
        else ours
        for pair, ours in answers.items()
    }
