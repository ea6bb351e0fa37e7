"""The record of an attempt, one try to move a group, that is kept whatever becomes of it. Its life is in `states`."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

import msgspec
from msgspec import Struct

from aggregator.errors import InvalidTransitionError
from aggregator.states import CORRECTIONS, STEPS, State
from contracts.readings import Receipt
from core import codec
from core.quality import Quality
from core.types import Mode, Pair, Quote, SignedReport, SourceFailure

MAX_REPORTS = 128
"""Reports that a record keeps, late ones included."""
MAX_OWN = 2
"""Different reports kept of one member: the second proves equivocation, a third proves nothing more."""
FORGED = "evidence_mismatch"
"""The code of a report whose message is not what its signed evidence root commits to."""
MAX_RECORD_BYTES = 2_000_000
"""As JSON. Evidence that would make a record longer is not kept: see `AttemptRecord.bounded`."""


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
    REPORTER_STOPPED = "reporter_stopped"  # a strict feed, and a registered reporter has no price for it
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
    JOINED = "joined"  # another aggregator's attempt served it: the detail names it
    RETIRED = "retired"  # another aggregator took this one for dead, and closed its record
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

    Its signature covers `signed`, all but its `group` and `reporter`; and, by the signed evidence root, `fetcher`,
    `instance`, `elapsed_ms`, `answers`, `quotes`, `failures` and `observed` (see `contracts.evidence`). Where that root
    is of something else, what the message said is not kept: anybody can put a signed report into a message of his own.

    signer: recovered from the signature, or None where there is none to recover. arrived_ms: after the job was sent.
    observed: for each feed or conversion rate, the indexes in `quotes` of those that counted for it. warnings: for a
    feed, why this report's price is suspect though the round counted it (the median bears f of them).
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
    observed: dict[str, tuple[int, ...]] = {}
    warnings: dict[Pair, str] = {}

    @property
    def late(self) -> bool:
        """Whether it came after the collection had ended: counted when it came."""
        return self.verdict is Verdict.LEFT_OUT and self.code is not None


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

    price: the lower median, at the feed's decimals. reporter: whose observation it is. spread_bps: (max - min) /
    median. attested: he called it unchanged, so that the contract keeps the standing answer and its time moves on.
    state: degraded where fewer reporters, or fewer sources behind the middle one of them, than the feed wants;
    confidence: the lesser part of both, 0 to 1. sources: different ones behind all included reports. held: the
    contract's breaker keeps the standing answer, by this rule (`aggregator.validation.feeds`), for the reason why_held.
    confirmed: it is as far as why_held says, and stands all the same: it confirms the candidate that waited.
    """

    price: Decimal
    contributors: int
    spread_bps: int
    reporter: str
    attested: bool = False
    state: Quality = Quality.OK
    confidence: Decimal = Decimal(1)
    sources: int = 0
    held: str = ""
    why_held: str = ""
    confirmed: bool = False


class AttemptRecord(Struct, frozen=True, kw_only=True):
    """Everything that is kept of an attempt, public as it is.

    code: None, or a `FailureReason` once it failed. timings_ms: milliseconds each step took, `total` among them.
    feeds_without_answer: for each feed left alone, why. hints: 0x-hex, for each feed the index of its median among the
    included reports, 255 where it is left alone. reports: in the order of arrival. silent: addresses, in lower case, of
    the registered signers from whom neither report nor refusal has come; empty where the collection was broken off.
    onto_round: the round that stood when it was signed. transactions: every one that was signed for it, newest first,
    with one nonce; `transaction` is the one that was mined, or the newest. settled: nothing becomes of it any
    more: its block has the confirmations that were asked for, or another transaction has its nonce.
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
        if to not in STEPS[self.state]:
            raise InvalidTransitionError(f"attempt {self.id} cannot go from {self.state} to {to}")
        return msgspec.structs.replace(self, state=to, **changes)

    def failed(self, reason: FailureReason, detail: str, at_ms: int) -> AttemptRecord:
        """The record of an attempt that ended without a round."""
        return self.moved(State.FAILED, code=str(reason), detail=detail, ended_ms=at_ms)

    def mined_late(self, receipt: Receipt, at_ms: int) -> AttemptRecord:
        """The record of a sent attempt whose block came after it was given up.

        Raises `InvalidTransitionError` unless it failed with something sent.
        """
        if not self.transactions or self.onto_round is None:
            raise InvalidTransitionError(f"attempt {self.id} cannot be mined late: nothing was sent for it")
        return msgspec.structs.replace(
            self,
            state=self._corrected(State.ACCEPTED),
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
        if self.settled:
            raise InvalidTransitionError(f"attempt {self.id} cannot be reorged: it is settled")
        return msgspec.structs.replace(
            self,
            state=self._corrected(State.FAILED),
            code=str(FailureReason.REORGED),
            detail=detail,
            ended_ms=at_ms,
            round=None,
            block=None,
            block_hash=None,
        )

    def _corrected(self, to: State) -> State:
        if CORRECTIONS.get(self.state) is not to:
            raise InvalidTransitionError(
                f"attempt {self.id} cannot become {to} by the chain's word: it is {self.state}"
            )
        return to

    def with_late(self, report: ReportRecord) -> AttemptRecord:
        """The record with a member's report for its moment that came too late, unless it holds that already, or
        `MAX_OWN` others of its signer, or `MAX_REPORTS`."""
        own = self._said_by(report.signer, report.signed.moment)
        known = any(_said(one) == _said(report.signed) for one in own)
        if known or len(own) >= MAX_OWN or len(self.reports) >= MAX_REPORTS:
            return self
        silent = tuple(address for address in self.silent if address != report.signer)
        return msgspec.structs.replace(self, reports=(*self.reports, report), silent=silent).bounded()

    def contradicts(self, signer: str | None, signed: SignedReport) -> bool:
        """Whether the record holds another report by `signer` for this moment: together they prove equivocation."""
        own = self._said_by(signer, signed.moment)
        return any(_said(one) != _said(signed) and one.group_hash.lower() == signed.group_hash.lower() for one in own)

    def _said_by(self, signer: str | None, moment: int) -> list[SignedReport]:
        """Reports whose evidence was forged are not held against their signer, nor in the place of the honest ones."""
        return [
            one.signed
            for one in self.reports
            if one.signer == signer and one.signed.moment == moment and one.code != FORGED
        ]

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
        late = [at for at, one in enumerate(self.reports) if one.late]
        in_time = [at for at in range(len(reports)) if at not in late]
        room = _dressed(reports, self.reports, in_time, room)
        room = _dressed(refusals, self.refusals, range(len(refusals)), room)
        _dressed(reports, self.reports, late, room)
        return msgspec.structs.replace(self, reports=tuple(reports), refusals=tuple(refusals))


def same_report(one: SignedReport, other: SignedReport) -> bool:
    """Whether two reports are one: whether their signatures cover the very same."""
    return _said(one) == _said(other)


def _said(signed: SignedReport) -> tuple[object, ...]:
    """What a signature covers, so that one report is not two for its letters' case or an unsigned member."""
    numbers = (signed.previous_moment, signed.moment, signed.prices, signed.unchanged)
    return signed.group_hash.lower(), signed.evidence_root.lower(), *numbers


def _bare(one: Sent) -> Sent:
    """Without what its sender says he saw."""
    changes: dict[str, object] = {"quotes": (), "failures": ()}
    if isinstance(one, ReportRecord):
        changes |= {"answers": {}, "observed": {}}
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
