"""Runs a group's attempts, one at a time, from the claim of a moment to the answers read back off the chain.

An attempt always ends, and always ends recorded: whatever goes wrong becomes its coded reason.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import msgspec

from aggregator.arrivals import Arrivals
from aggregator.attempts import AttemptRecord, Cause, FailureReason, new_attempt_id
from aggregator.collection import Collection
from aggregator.edges import Chain, Flight, Known, Relayer, observed_of, standing_of
from aggregator.enrolment import Enrolment
from aggregator.errors import AttemptFailedError, ServedElsewhereError
from aggregator.metrics import Metrics
from aggregator.peers import Elsewhere
from aggregator.recorder import Recorder
from aggregator.running import (
    Running,
    difference,
    joins,
    next_moment,
    reason_for,
    refused,
    report_record,
    silent,
    verdicts_so_far,
    with_confirmed,
)
from aggregator.states import State
from aggregator.validation import (
    Expected,
    Fault,
    Validation,
    misconfigured,
    validate,
)
from broker.bus import Bus, Topic
from broker.messages import Job
from contracts.errors import CallRevertedError, ContractError, NodeBehindError
from contracts.readings import GroupReading
from core.clock import Clock
from core.logs import Logger
from core.types import REPORT_RULES, Group, Mode

STATE_TRIES = 3
"""Readings of a group's state and answers: a round may be mined between the two calls."""
CLAIMS = 3
"""Moments tried when other aggregators have them already."""
SAVE_S = 1.0
"""How long the answer to a request waits for the record of a failed attempt to be kept."""
LONGEST_AHEAD_MS = 2_000
"""Reporters refuse a moment further from their own clock than this."""


class Engine:
    """One group's attempts. `run` is called for one attempt at a time; `known` and `reading` are as last read."""

    def __init__(
        self,
        *,
        group: Group,
        mode: Mode,
        bus: Bus,
        chain: Chain,
        relayer: Relayer,
        recorder: Recorder,
        clock: Clock,
        metrics: Metrics,
        logger: Logger,
        deadline_ms: int,
        grace_ms: int,
        confirm_timeout_ms: int,
        watch: Callable[[AttemptRecord, Flight], None],
        elsewhere: Elsewhere,
        order: tuple[str, ...] = REPORT_RULES,
        on_state: Callable[[AttemptRecord], None] = lambda _: None,
        enrolment: Enrolment | None = None,
    ) -> None:
        """watch: called with each ended attempt of which something is on the chain, or may come there. elsewhere: knows
        of other aggregators' attempts. order: in which the rules over reports stand. on_state: called as an attempt
        enters a state, before anything follows from it.
        enrolment: the reporters that a strict group's rounds wait for; None: the group is not strict.
        """
        self.group = group
        self.mode = mode
        self.known: Known | None = None
        self.reading: GroupReading | None = None
        self.deployment = chain.deployment.id
        self._bus = bus
        self._chain = chain
        self._relayer = relayer
        self._recorder = recorder
        self._clock = clock
        self._metrics = metrics
        self._log = logger.bind(group=group.name)
        self._deadline_ms = deadline_ms
        self._grace_ms = grace_ms if enrolment is None else deadline_ms  # strict: whoever is in time is heard
        self._enrolment = enrolment
        self._confirm_timeout_ms = confirm_timeout_ms
        self._watch = watch
        self._elsewhere = elsewhere
        self._on_state = on_state
        self._order = order
        self.arrivals = Arrivals(
            group=group,
            mode=mode,
            deployment=self.deployment,
            domain=chain.domain,
            known=lambda: self.known,
            recorder=recorder,
            clock=clock,
            metrics=metrics,
            logger=self._log,
        )
        self._last_attempted = 0
        self._publishing: set[asyncio.Task[None]] = set()

    def prepare(self, cause: Cause) -> Running:
        """A new attempt, not begun."""
        record = AttemptRecord(
            id=new_attempt_id(),
            deployment=self.deployment,
            mode=self.mode,
            group=self.group.name,
            cause=cause,
            state=State.QUEUED,
            started_ms=self._clock.now_ms(),
            relayer=self._relayer.address,
        )
        self._on_state(record)
        return Running(record, asyncio.get_running_loop().create_future())

    async def refresh(self) -> Known:
        """Read the group's state and answers off the chain, both of one round.

        Raises `AttemptFailedError` or `ContractError`.
        """
        name = self.group.name
        for _ in range(STATE_TRIES):
            try:
                state, reading = await asyncio.gather(self._chain.group_state(name), self._chain.read_group(name))
            except CallRevertedError as error:
                raise AttemptFailedError(
                    FailureReason.NOT_CONFIGURED, f"the contract does not know group {name}: {error}"
                ) from error
            if (state.last_moment, state.group_hash) == (reading.moment, reading.group_hash):
                self.reading = reading
                return self._learnt(Known.of(state, reading))
        raise NodeBehindError(f"the nodes show group {name} at two rounds, {STATE_TRIES} times in a row")

    async def read(self) -> GroupReading:
        """Read the group's answers off the chain. Raises `ContractError`."""
        self.reading = reading = await self._chain.read_group(self.group.name)
        if self.known is not None and reading.moment >= self.known.last_moment:
            self._learnt(
                replace(
                    self.known,
                    last_moment=reading.moment,
                    round=reading.round,
                    standing=standing_of(reading),
                    observed_ms=observed_of(reading),
                )
            )
        return reading

    def _learnt(self, known: Known) -> Known:
        self.known = known
        self._metrics.last_round.labels(self.group.name).set(known.round)
        return known

    async def run(self, running: Running) -> AttemptRecord:
        """Make the attempt. Returns its final record, which the recorder has; raises nothing but a cancellation."""
        running.record = msgspec.structs.replace(running.record, started_ms=self._clock.now_ms())
        started = time.perf_counter()
        try:
            await self._attempt(running)
        except asyncio.CancelledError:
            self._end(running, started, FailureReason.STOPPED, "the service was stopped")
            raise
        except ServedElsewhereError as error:
            self._served(running, error.record)
        except Exception as error:  # noqa: BLE001 - an attempt ends recorded, whatever happened to it
            reason = reason_for(error)
            if reason is FailureReason.INTERNAL:
                self._log.exception("attempt_error", attempt=running.id)
            self._end(running, started, reason, str(error) or type(error).__name__)
            if not running.record.moment and reason is not FailureReason.STORE_UNAVAILABLE:
                await self._recorder.saved(running.id, SAVE_S)  # it has no row yet, and a client may be told its id
        else:
            self._end(running, started, None, running.record.detail)
        return running.record

    def _served(self, running: Running, by: AttemptRecord) -> None:
        """Another aggregator's attempt is what those who wait for this one get."""
        if running.announced:
            detail = f"attempt {by.id} of another aggregator has served it"
            self._recorder.keep(running.record.failed(FailureReason.JOINED, detail, self._clock.now_ms()))
        self._metrics.attempts.labels(by.group, running.record.cause, FailureReason.JOINED).inc()
        self._log.info("joined_elsewhere", attempt=running.id, by=by.id, round=by.round)
        running.record = by

    def retire(self, running: Running) -> AttemptRecord:
        """End an attempt that never began, because the service stops."""
        self._end(running, time.perf_counter(), FailureReason.STOPPED, "the service was stopped")
        return running.record

    async def _attempt(self, running: Running) -> None:
        known = self.known
        if known is None or known.paused or misconfigured(self.group, known):
            with self._timed(running, "state"):
                known = await self.refresh()
            self._check(known, moment=None)
        collection = await self._claim(running, known)
        validation = await self._collect(running, collection)
        running.record = msgspec.structs.replace(
            running.record,
            reports=tuple(report_record(judged) for judged in validation.judged) + running.record.reports,
            refusals=tuple(collection.refusals),
            silent=self._still_silent(running, collection),
            feeds_without_answer=validation.without,
            previous_moment=collection.expected.known.last_moment,
        )
        if validation.reason is FailureReason.NO_QUORUM:
            running.check_published()
        stopped = await self._stopped(validation, collection)
        if validation.reason is not None:
            raise AttemptFailedError(validation.reason, validation.detail + refused(collection.refusals))
        if stopped:
            raise AttemptFailedError(FailureReason.REPORTER_STOPPED, stopped)
        self._move(
            running,
            State.SUBMITTING,
            answers=validation.answers,
            hints="0x" + validation.hints.hex(),
            onto_round=collection.expected.known.round,
        )
        await self._submit(running, validation, collection.expected.known)

    async def _claim(self, running: Running, known: Known) -> Collection:
        for _ in range(CLAIMS):
            after = max(known.last_moment, self._last_attempted)
            moment = next_moment(self.group, self._clock.now_ms(), after)
            if (ahead := moment - self._clock.now_ms()) > LONGEST_AHEAD_MS:
                raise AttemptFailedError(
                    FailureReason.OVERTAKEN,
                    f"the group's last moment lies {ahead} ms ahead of this clock: check the clocks of all aggregators",
                )
            if ahead > 0:
                await asyncio.sleep(ahead / 1000)
            self._last_attempted = moment
            claimed = running.record.moved(State.CLAIMED, moment=moment)
            with self._timed(running, "claim"):
                in_the_way = await self._recorder.claim(claimed, running.arrived_ms)
            if in_the_way is None:
                running.record = claimed
                self._on_state(claimed)
                expected = Expected(self.deployment, self.mode, self.group, moment, known, self._order)
                running.collection = Collection(expected)
                return running.collection
            known = await self._after(in_the_way, running, known)
        raise AttemptFailedError(
            FailureReason.ALREADY_CLAIMED, f"other aggregators have claimed {CLAIMS} moments in a row; ask them"
        )

    async def _after(self, other: AttemptRecord, running: Running, known: Known) -> Known:
        """Wait for the end of another aggregator's attempt. Raises `ServedElsewhereError` where it serves ours, too."""
        if other.state.final and not joins(other, running.arrived_ms):
            return known
        with self._timed(running, "elsewhere"):
            ended = await self._elsewhere.ended(other)
        self._recorder.learn(ended)
        if ended.state is State.ACCEPTED:
            with suppress(ContractError):  # as good as it can be had: the record is there
                await self.read()
            if joins(ended, running.arrived_ms):
                raise ServedElsewhereError(ended)
        return await self.refresh()

    async def _collect(self, running: Running, collection: Collection) -> Validation:
        self._move(running, State.COLLECTING)
        running.published_at = time.perf_counter()
        deadline = asyncio.get_running_loop().time() + self._deadline_ms / 1000
        running.published = published = self._publish(running)
        state = asyncio.create_task(self.refresh())  # beside the job, so that it costs no time
        try:
            with self._timed(running, "state"):
                known = await state
        finally:
            if not state.done():
                state.cancel()
            await asyncio.gather(state, return_exceptions=True)
        self._check(known, running.record.moment)
        collection.expect(known)
        with self._timed(running, "collect"):
            ended = await collection.wait(deadline, self._grace_ms / 1000, published)
        self._move(running, State.VALIDATING, detail=f"collection ended: {ended}")
        with self._timed(running, "validate"):
            validation = validate(collection.received, collection.expected, self._clock.now_ms())
            if validation.reason is not None and validation.stale:
                # reporters saw another state than we: one more look decides who is behind
                known = await self.refresh()
                self._check(known, running.record.moment)
                collection.expect(known)
                validation = validate(collection.received, collection.expected, self._clock.now_ms())
        collection.open = False
        return validation

    def _publish(self, running: Running) -> asyncio.Task[None]:
        """The job, published beside all that follows: nobody need wait for the broker's confirm who has his reports."""

        async def publish() -> None:
            with self._timed(running, "publish"):
                await self._bus.publish(Topic.JOBS, self._job(running.record), ttl_ms=self._deadline_ms)

        task = asyncio.create_task(publish(), name=f"job:{running.id}")
        self._publishing.add(task)
        task.add_done_callback(self._published)
        return task

    def _published(self, task: asyncio.Task[None]) -> None:
        self._publishing.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._log.warning("job_not_published", error=str(error))

    async def _stopped(self, validation: Validation, collection: Collection) -> str:
        """Which registered reporters of a strict group have no price for a feed; empty: none. Raises
        `StoreUnavailableError`."""
        if self._enrolment is None:
            return ""
        return await self._enrolment.judge(validation, collection.expected, collection.refusals)

    def _check(self, known: Known, moment: int | None) -> None:
        if known.paused:
            raise AttemptFailedError(FailureReason.HALTED, "the contract is paused: its owner can unpause it")
        if difference := misconfigured(self.group, known):
            raise AttemptFailedError(FailureReason.CONFIGURATION_MISMATCH, difference)
        if moment is not None and known.last_moment >= moment:
            raise AttemptFailedError(
                FailureReason.OVERTAKEN,
                f"round {known.round} of moment {known.last_moment} came before moment {moment}",
            )

    async def _submit(self, running: Running, validation: Validation, known: Known) -> None:
        reports = [one.report.signed for one in validation.included]
        calldata = self._chain.build_submission(self.group.name, reports, validation.hints)
        record = running.record
        running.flight = flight = Flight(running.id, self.group.name, known.last_moment, record.moment, calldata)

        async def note(flight: Flight) -> None:
            running.record = msgspec.structs.replace(
                running.record, transaction=flight.hashes[0], transactions=flight.hashes, nonce=flight.nonce
            )
            with self._timed(running, "note"):
                ours = await self._recorder.note(running.record, flight.sent[0].raw)
            if not ours:
                raise AttemptFailedError(
                    FailureReason.RETIRED, "another aggregator took this one for dead and closed the attempt"
                )

        with self._timed(running, "simulate"):
            await self._relayer.simulate(flight)
        with self._timed(running, "submit"):
            await self._relayer.send(flight, note)
        self._move(running, State.CONFIRMING)
        with self._timed(running, "confirm"):
            receipt = await self._relayer.receipt(flight, note, self._confirm_timeout_ms / 1000)
        running.record = running.record.in_block(receipt)
        # the contract takes a round only on top of the one it was signed for, so this is its number
        round_ = known.round + 1
        self._learnt(replace(known, last_moment=running.record.moment, round=round_))
        detail, answers = "", running.record.answers
        try:
            with self._timed(running, "read_back"):
                reading = await self.read()
                detail, answers = difference(reading, round_, validation), with_confirmed(reading, round_, answers)
        except ContractError as error:
            detail = f"accepted, but the answers could not be read back: {error}"
        if detail:
            self._log.warning("read_back", attempt=running.id, detail=detail)
        self._move(
            running,
            State.ACCEPTED,
            round=round_,
            detail=detail,
            answers=answers,
            ended_ms=self._clock.now_ms(),
        )

    def _move(self, running: Running, to: State, **changes: object) -> None:
        running.record = running.record.moved(to, **changes)
        self._on_state(running.record)

    def _job(self, record: AttemptRecord) -> Job:
        return Job(
            id=record.id,
            attempt=record.id,
            deployment=self.deployment,
            mode=self.mode,
            group=self.group.name,
            moment=record.moment,
            budget_ms=self._deadline_ms,
        )

    def _end(self, running: Running, started: float, reason: FailureReason | None, detail: str) -> None:
        """Close the record, hand it to the recorder, count it."""
        total = time.perf_counter() - started
        running.timings_ms["total"] = round(total * 1000, 2)
        collection = running.collection
        if collection is not None:
            collection.open = False
        record = running.record
        if reason is not None:
            record = record.failed(reason, detail, self._clock.now_ms())
            self._on_state(record)
            if collection is not None and not record.reports and not record.refusals:  # it failed while it collected
                judged = verdicts_so_far(collection, self._clock.now_ms())
                record = msgspec.structs.replace(
                    record,
                    reports=tuple(report_record(one) for one in judged),
                    refusals=tuple(collection.refusals),
                )
        running.record = record = msgspec.structs.replace(record, timings_ms=dict(running.timings_ms)).bounded()
        self._recorder.keep(record)
        flight = running.flight
        if flight is not None and (record.state is State.ACCEPTED or self._relayer.airborne(flight)):
            self._watch(record, flight)
        self._metrics.attempts.labels(record.group, record.cause, record.code or "accepted").inc()
        if record.state is State.ACCEPTED:
            for pair, answer in record.answers.items():
                self._metrics.confidence.labels(pair).set(float(answer.confidence))
        for step, ms in record.timings_ms.items():
            self._metrics.step_seconds.labels(record.group, step).observe(ms / 1000)
        for one in record.reports:
            if not one.late:
                self._metrics.reports.labels(record.group, one.verdict, one.code or "").inc()
        for signer in {one.signer for one in record.reports if one.code == Fault.EQUIVOCATION and not one.late}:
            self._log.error("equivocation", attempt=record.id, signer=signer, moment=record.moment)
            self._metrics.equivocations.labels(record.group, signer or "").inc()
        tell = self._log.info if record.code is None else self._log.warning
        tell(
            "attempt",
            attempt=record.id,
            cause=record.cause,
            state=record.state,
            code=record.code,
            detail=record.detail,
            moment=record.moment,
            round=record.round,
            reports=len(record.reports),
            transaction=record.transaction,
            total_ms=running.timings_ms["total"],
        )

    def _still_silent(self, running: Running, collection: Collection) -> tuple[str, ...]:
        """Those whom neither the collection heard, nor anybody since."""
        late = {one.signer for one in running.record.reports}
        return tuple(address for address in silent(collection) if address not in late)

    @contextmanager
    def _timed(self, running: Running, step: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = (time.perf_counter() - started) * 1000
            running.timings_ms[step] = round(running.timings_ms.get(step, 0.0) + spent, 2)
