"""An attempt: one try to move a group. Its states, and the record that is kept of it whatever becomes of it.

queued → claimed → collecting → validating → submitting → confirming → accepted
   └─────────┴──────────┴────────────┴────────────┴────────────┴────→ failed

A block may come late, and a reorg may take one back: what was sent is watched until it is settled, and only by that may
a failed attempt become accepted, or an accepted one fail.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

import msgspec
from msgspec import Struct

from aggregator.errors import InvalidTransitionError
from contracts.readings import Receipt
from core import codec
from core.types import Mode, Pair, Quote, SignedReport, SourceFailure

MAX_REPORTS = 128
"""Reports that a record keeps, late ones included."""
MAX_OWN = 2
"""Different reports kept of one member: the second proves equivocation, a third proves nothing more."""
MAX_RECORD_BYTES = 2_000_000
"""As JSON. Evidence that would make a record longer is not kept: see `AttemptRecord.bounded`."""


class State(StrEnum):
    """Where an attempt is. `ACCEPTED` and `FAILED` are final."""

    QUEUED = "queued"  # waits for the group's open attempt to end; it has no moment yet
    CLAIMED = "claimed"  # (deployment, group, moment) is ours: no other aggregator runs it
    COLLECTING = "collecting"  # the job is out, reports come in
    VALIDATING = "validating"
    SUBMITTING = "submitting"  # simulated and sent
    CONFIRMING = "confirming"  # sent: a receipt is awaited
    ACCEPTED = "accepted"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        return self in (State.ACCEPTED, State.FAILED)


_NEXT = {
    State.QUEUED: State.CLAIMED,
    State.CLAIMED: State.COLLECTING,
    State.COLLECTING: State.VALIDATING,
    State.VALIDATING: State.SUBMITTING,
    State.SUBMITTING: State.CONFIRMING,
    State.CONFIRMING: State.ACCEPTED,
}


class Cause(StrEnum):
    """Why an attempt was made."""

    REQUEST = "request"
    HEARTBEAT = "heartbeat"
    DEVIATION = "deviation"
    START = "start"


class FailureReason(StrEnum):
    """Why an attempt ended without a round. A closed set: records, metrics and clients see these and no others."""

    NO_QUORUM = "no_quorum"  # fewer valid reports than the threshold
    NO_FEED = "no_feed"  # a quorum of reports, but no feed with enough contributors
    NOT_CONFIGURED = "not_configured"  # the contract does not know the group
    CONFIGURATION_MISMATCH = "configuration_mismatch"  # the contract's feeds are not the configured ones
    HALTED = "halted"  # the contract is paused
    OVERTAKEN = "overtaken"  # somebody else's round has this moment or a later one
    ALREADY_CLAIMED = "already_claimed"  # other aggregators run this group's moments
    BROKER_UNAVAILABLE = "broker_unavailable"
    UNROUTABLE = "unroutable"  # no fetcher has ever listened for jobs
    CHAIN_UNAVAILABLE = "chain_unavailable"
    STORE_UNAVAILABLE = "store_unavailable"
    ROUND_REFUSED = "round_refused"  # by the contract, in simulation: the detail names its error
    SUBMISSION_FAILED = "submission_failed"  # the node did not take the transaction, or it was mined and reverted
    NOT_CONFIRMED = "not_confirmed"  # sent, but in no block within the wait: it may still be mined
    REORGED = "reorged"  # it was accepted, and a reorg took its round away for good
    STOPPED = "stopped"  # the service went down in the middle
    INTERNAL = "internal"  # our own fault: a bug, logged with its cause


class Verdict(StrEnum):
    """What became of a report."""

    INCLUDED = "included"  # in the submission
    LEFT_OUT = "left_out"  # valid, but it came after the collection had ended
    REJECTED = "rejected"  # the code says by which rule


class ReportRecord(Struct, frozen=True, kw_only=True):
    """One report as received, and what became of it.

    Its signature covers `signed`, all but its `group` and `reporter`. `answers`, `quotes` and `failures` are the word
    of whoever sent the message, and so is who he says he is: anybody can put a signed report into a message of his
    own. They are proven only once the signed evidence root commits to them.

    signer: recovered from the signature, or None where there is none to recover. arrived_ms: after the job was sent.
    warnings: for a feed, why this report's price is suspect though the round counted it (the median bears f of them).
    """

    verdict: Verdict
    code: str | None
    detail: str
    signer: str | None
    fetcher: str
    instance: str
    arrived_ms: int
    elapsed_ms: int
    signed: SignedReport
    answers: dict[str, Decimal]
    quotes: tuple[Quote, ...]
    failures: tuple[SourceFailure, ...]
    warnings: dict[Pair, str] = {}


class RefusalRecord(Struct, frozen=True, kw_only=True):
    """A fetcher's word that it does not sign. It is not signed itself: nothing but the wait's end depends on it."""

    fetcher: str
    instance: str
    reporter: str
    code: str
    detail: str
    arrived_ms: int
    elapsed_ms: int
    quotes: tuple[Quote, ...]
    failures: tuple[SourceFailure, ...]


Sent = TypeVar("Sent", ReportRecord, RefusalRecord)


class FeedAnswer(Struct, frozen=True, kw_only=True):
    """What the included reports say of one feed.

    price: the lower median, at the feed's decimals. reporter: whose price it is. spread_bps: (max - min) / median.
    """

    price: Decimal
    contributors: int
    spread_bps: int
    reporter: str


class AttemptRecord(Struct, frozen=True, kw_only=True):
    """Everything that is kept of an attempt, public as it is.

    code: None, or a `FailureReason` once it failed. timings_ms: milliseconds each step took, `total` among them.
    feeds_without_answer: for each feed left alone, why. hints: 0x-hex, for each feed the index of its median among the
    included reports, 255 where it is left alone. reports: in the order of arrival. silent: addresses, in lower case, of
    the registered signers from whom neither report nor refusal has come; empty where the collection was broken off.
    onto_round: the round that stood when it was signed. transactions: every one that was signed for it, newest first,
    with one nonce; `transaction` is the one that was mined, or the newest. settled: its block has the confirmations
    that were asked for.
    """

    id: str
    deployment: str
    mode: Mode
    group: str
    cause: Cause
    state: State
    started_ms: int
    moment: int = 0
    ended_ms: int | None = None
    code: str | None = None
    detail: str = ""
    previous_moment: int | None = None
    timings_ms: dict[str, float] = {}
    reports: tuple[ReportRecord, ...] = ()
    refusals: tuple[RefusalRecord, ...] = ()
    silent: tuple[str, ...] = ()
    hints: str | None = None
    answers: dict[Pair, FeedAnswer] = {}
    feeds_without_answer: dict[Pair, str] = {}
    round: int | None = None
    transaction: str | None = None
    block: int | None = None
    gas_used: int | None = None
    relayer: str | None = None
    onto_round: int | None = None
    nonce: int | None = None
    transactions: tuple[str, ...] = ()
    block_hash: str | None = None
    settled: bool = False

    def moved(self, to: State, **changes: object) -> AttemptRecord:
        """The record in its next state. Raises `InvalidTransitionError` for a step that the diagram does not have."""
        allowed = not self.state.final and (to is State.FAILED or _NEXT.get(self.state) is to)
        if not allowed:
            raise InvalidTransitionError(f"attempt {self.id} cannot go from {self.state} to {to}")
        return msgspec.structs.replace(self, state=to, **changes)

    def failed(self, reason: FailureReason, detail: str, at_ms: int) -> AttemptRecord:
        """The record of an attempt that ended without a round."""
        return self.moved(State.FAILED, code=str(reason), detail=detail, ended_ms=at_ms)

    def mined_late(self, receipt: Receipt, at_ms: int) -> AttemptRecord:
        """The record of a sent attempt whose block came after it was given up.

        Raises `InvalidTransitionError` unless it failed with something sent.
        """
        if self.state is not State.FAILED or not self.transactions or self.onto_round is None:
            raise InvalidTransitionError(f"attempt {self.id} cannot be mined late: it is {self.state}")
        return msgspec.structs.replace(
            self,
            state=State.ACCEPTED,
            code=None,
            detail=f"mined after it was given up ({self.code})",
            round=self.onto_round + 1,
            ended_ms=at_ms,
        ).in_block(receipt)

    def in_block(self, receipt: Receipt) -> AttemptRecord:
        """The record with the block that has its transaction now."""
        return msgspec.structs.replace(
            self,
            transaction=receipt.transaction,
            block=receipt.block_number,
            block_hash=receipt.block_hash,
            gas_used=receipt.gas_used,
        )

    def reorged(self, detail: str, at_ms: int) -> AttemptRecord:
        """The record of an accepted attempt whose round is gone. Raises `InvalidTransitionError` for any other."""
        if self.state is not State.ACCEPTED or self.settled:
            raise InvalidTransitionError(f"attempt {self.id} cannot be reorged: it is {self.state}")
        return msgspec.structs.replace(
            self,
            state=State.FAILED,
            code=str(FailureReason.REORGED),
            detail=detail,
            ended_ms=at_ms,
            round=None,
            block=None,
            block_hash=None,
        )

    def with_late(self, report: ReportRecord) -> AttemptRecord:
        """The record with a member's report for its moment that came too late, unless it holds that already, or
        `MAX_OWN` others of its signer, or `MAX_REPORTS`."""
        moment = report.signed.moment
        own = [one.signed for one in self.reports if one.signer == report.signer and one.signed.moment == moment]
        known = any(_said(one) == _said(report.signed) for one in own)
        if known or len(own) >= MAX_OWN or len(self.reports) >= MAX_REPORTS:
            return self
        silent = tuple(address for address in self.silent if address != report.signer)
        return msgspec.structs.replace(self, reports=(*self.reports, report), silent=silent).bounded()

    def bounded(self) -> AttemptRecord:
        """The record in at most `MAX_RECORD_BYTES`: evidence is kept while there is room for it, that of the reports
        before that of the refusals, and of late reports last. All the rest of each report and refusal stays."""
        if len(codec.encode(self)) <= MAX_RECORD_BYTES:
            return self
        reports = [_bare(one) for one in self.reports]
        refusals = [_bare(one) for one in self.refusals]
        bare = msgspec.structs.replace(self, reports=tuple(reports), refusals=tuple(refusals))
        room = MAX_RECORD_BYTES - len(codec.encode(bare))
        # of an attempt that failed while it collected, reports in time are left out, too, but without a code
        late = [at for at, one in enumerate(self.reports) if one.verdict is Verdict.LEFT_OUT and one.code is not None]
        in_time = [at for at in range(len(reports)) if at not in late]
        room = _dressed(reports, self.reports, in_time, room)
        room = _dressed(refusals, self.refusals, range(len(refusals)), room)
        _dressed(reports, self.reports, late, room)
        return msgspec.structs.replace(self, reports=tuple(reports), refusals=tuple(refusals))


def _said(signed: SignedReport) -> tuple[object, ...]:
    """What a signature covers, so that one report is not two for its letters' case or an unsigned member."""
    numbers = (signed.previous_moment, signed.moment, signed.prices, signed.unchanged)
    return signed.group_hash.lower(), signed.evidence_root.lower(), *numbers


def _bare(one: Sent) -> Sent:
    """Without what its sender says he saw."""
    changes: dict[str, object] = {"quotes": (), "failures": ()}
    if isinstance(one, ReportRecord):
        changes["answers"] = {}
    return msgspec.structs.replace(one, **changes)


def _dressed(bare: list[Sent], whole: Sequence[Sent], indexes: Iterable[int], room: int) -> int:
    """Put evidence back, in the order of `indexes`, where there is room for it. Returns the bytes left."""
    for index in indexes:
        size = len(codec.encode(whole[index])) - len(codec.encode(bare[index]))
        if size <= room:
            bare[index] = whole[index]
            room -= size
    return room


def new_attempt_id() -> str:
    """32 hex digits, unique."""
    return uuid.uuid4().hex
