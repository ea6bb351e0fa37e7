"""The aggregator: its desks and engines, what they hear on the bus, its schedule and its API."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from fastapi import FastAPI

from aggregator.api import build_app
from aggregator.attempts import AttemptRecord, Cause
from aggregator.edges import SubmittingChain
from aggregator.engine import Engine
from aggregator.enrolment import Enrolment
from aggregator.errors import AggregatorError, RoundsFailingError
from aggregator.joining import Desk
from aggregator.leadership import Leadership
from aggregator.metrics import Metrics
from aggregator.ownership import Ownership
from aggregator.peers import Peers, presumed_alive
from aggregator.proofs import Proofs
from aggregator.purse import Purse
from aggregator.recorder import Recorder
from aggregator.running import Running
from aggregator.schedule import Heartbeat, HintOutcome, Hints
from aggregator.store import AttemptStore
from aggregator.submitter import Submitter, presumed_ours
from aggregator.tracker import Tracker
from aggregator.updates import Updates
from broker.bus import Bus, Subscription, Topic
from broker.messages import Hint, Leave, Message, Refusal, Report
from contracts.errors import InvalidSignatureError, MalformedReportError
from contracts.report import Signer, hint_digest, leave_digest, recover
from core.clock import Clock
from core.documents import Documents
from core.errors import FairmarkError, StoreUnavailableError
from core.logs import Logger
from core.ops import Ops
from core.settings import AggregatorSettings, SubmissionSettings
from core.types import REPORT_RULES, Group, Mode

DRAIN_MS = 2_000
OLDEST_LEAVE_MS = 60_000
FLUSH_S = 3.0
OVERHEAD_MS = 3_000
"""What another aggregator's attempt may take beyond its collection and its wait for a block, the clocks' difference
included, before it is closed for it."""
SUBMISSION_MS = 1_000
"""What an attempt takes beyond its collection, for the schedule: simulation, transaction, receipt."""


class AggregatorService:
    """Runs rounds for some groups.

    name, instance: of this process; its queues are its own. bus, chain: connected by who composes, and closed by him.
    store: opened and closed here. submit_key: pays for the rounds; no other process may use it. token: the API's.
    submission: how transactions are paid for, replaced and watched. ownership: sees that no other process sends with
    the key; default: nobody does. order: in which the rules over reports stand. register: where strict groups'
    reporters are kept; opened and closed here. chance: a random number in [0, 1), for the jitter of retries.
    leadership: made with our metrics; says which groups' attempts this process starts by itself; default: all.
    on_state: called with an attempt's record as it enters each state, before anything follows from that.
    """

    def __init__(
        self,
        *,
        settings: AggregatorSettings,
        name: str,
        instance: str,
        groups: Sequence[Group],
        bus: Bus,
        chain: SubmittingChain,
        submit_key: str | Signer,
        store: AttemptStore,
        token: str,
        clock: Clock,
        mode: Mode,
        ops: Ops,
        logger: Logger,
        submission: SubmissionSettings | None = None,
        ownership: Ownership | None = None,
        order: tuple[str, ...] = REPORT_RULES,
        chance: Callable[[], float] = random.random,
        on_state: Callable[[AttemptRecord], None] = lambda _: None,
        leadership: Callable[[Metrics], Leadership] | None = None,
        register: Documents | None = None,
    ) -> None:
        self._settings = settings
        self._queue = f"{name}-{instance}"
        self._bus = bus
        self._chain = chain
        self._store = store
        self._clock = clock
        self._mode = mode
        self._ops = ops
        self._log = logger
        self._deployment = chain.deployment.id
        self._metrics = metrics = Metrics(ops.registry)
        self._open: dict[str, Running] = {}
        submission = submission or SubmissionSettings()
        self.submitter = Submitter(
            chain,
            submit_key,
            logger,
            replace_after_s=submission.replace_after_s,
            owned=ownership.owned if ownership is not None else presumed_ours,
        )
        self.recorder = Recorder(store, self._deployment, metrics, logger)
        self.tracker = Tracker(
            chain,
            self.submitter,
            self.recorder,
            confirmations=submission.confirmations,
            poll_s=submission.watch_s,
            clock=clock,
            metrics=metrics,
            logger=logger,
        )
        self.purse = Purse(
            self.submitter.sender,
            low=submission.low_balance,
            poll_s=submission.balance_s,
            metrics=metrics,
            logger=logger,
        )
        strict = [group for group in groups if group.strict]
        if strict and register is None:
            raise ValueError("strict groups need a register of their reporters")
        self.enrolment = (
            Enrolment(strict, self._deployment, register, clock, metrics, logger)
            if register is not None and strict
            else None
        )
        held = ownership.held if ownership is not None else presumed_alive
        longest_ms = settings.deadline_ms + settings.confirm_timeout_ms + OVERHEAD_MS
        self._peers = Peers(
            chain, self.recorder, held=held, word=store.changed, longest_ms=longest_ms, clock=clock, logger=logger
        )
        self.engines = {
            group.name: Engine(
                group=group,
                mode=mode,
                bus=bus,
                chain=chain,
                relayer=self.submitter,
                recorder=self.recorder,
                clock=clock,
                metrics=metrics,
                logger=logger,
                deadline_ms=settings.deadline_ms,
                grace_ms=settings.grace_ms,
                confirm_timeout_ms=settings.confirm_timeout_ms,
                order=order,
                watch=self.tracker.watch,
                elsewhere=self._peers,
                on_state=on_state,
                enrolment=self.enrolment if group.strict else None,
            )
            for group in groups
        }
        self.desks = {
            name: Desk(engine, metrics, self._opened, settings.min_interval_ms) for name, engine in self.engines.items()
        }
        self._hints = {name: Hints() for name in self.engines}
        attempt_ms = settings.deadline_ms + SUBMISSION_MS
        self._heartbeats = [
            Heartbeat(engine, self.desks[name], clock, attempt_ms, chance, logger, self._leads, self._step_down)
            for name, engine in self.engines.items()
        ]
        for engine in self.engines.values():
            for feed in engine.group.feeds:
                metrics.answer_age.labels(feed.pair).set_function(_age(engine, feed.pair, clock))
                metrics.stale_after.labels(feed.pair).set((feed.heartbeat_ms + engine.group.max_age_ms) / 1000)
        self._leadership = leadership(metrics) if leadership is not None else None
        if self._leadership is not None and settings.heartbeats:
            ops.show("leadership", self._leadership.shown)
        self._ownership = ownership
        if ownership is not None:
            ops.depend("key", ownership.check)
        ops.depend("broker", self._check_broker)
        ops.depend("chain", chain.ping)
        ops.depend("store", self.recorder.check)
        ops.depend("rounds", self._check_rounds, required=False)
        ops.depend("balance", self.purse.check, required=False)
        if self.enrolment is not None:
            ops.depend("reporters", self.enrolment.check, required=False)
        self.app: FastAPI = build_app(
            desks=self.desks,
            open_attempts=self._open,
            recorder=self.recorder,
            ops=ops,
            proofs=Proofs(chain.deployment),
            updates=Updates(chain, self.recorder, self._open, clock),
            clock=clock,
            token=token,
            enrolment=self.enrolment,
        )

    async def run(self) -> None:
        """Run rounds until cancelled; then let open attempts end, save every record, and close the store.

        Servers that are not there yet are waited for: `/ready` says which.
        """
        subscriptions: list[Subscription] = []
        tasks = [asyncio.create_task(self.recorder.run(), name="recorder")]
        try:
            if self._ownership is not None:
                await self._until("the key", self._ownership.hold)
                tasks.append(asyncio.create_task(self._ownership.run(), name="ownership"))
            await self._until("the store of attempts", self._store.open)
            if self.enrolment is not None:
                await self._until("the register of reporters", self.enrolment.open)
            await self._until("the broker", lambda: self._subscribe(subscriptions))
            for engine in self.engines.values():
                await self._until(f"the chain (group {engine.group.name})", engine.refresh)
            await self._until("the fate of what was sent before", self.tracker.recover)
            tasks.append(asyncio.create_task(self.tracker.run(), name="tracker"))
            tasks.append(asyncio.create_task(self.purse.run(), name="purse"))
            tasks.append(asyncio.create_task(self._peers.run(), name="peers"))
            self._ops.set_ready()
            self._log.info("aggregator_ready", groups=sorted(self.engines), relayer=self.submitter.address)
            if self._settings.heartbeats:
                if self._leadership is not None:
                    tasks.append(asyncio.create_task(self._leadership.run(), name="leadership"))
                tasks += [asyncio.create_task(beat.run(), name="heartbeat") for beat in self._heartbeats]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # they never end but by a bug: let it be seen
        finally:
            self._ops.set_not_ready("stopping")
            await self._stop(subscriptions, tasks)

    async def _stop(self, subscriptions: Sequence[Subscription], tasks: Sequence[asyncio.Task[None]]) -> None:
        recorder, *others = tasks
        await _cancelled(others)
        if self._leadership is not None:
            await self._leadership.release()
        limit_s = (self._settings.deadline_ms + DRAIN_MS) / 1000
        await asyncio.gather(*(desk.stop(limit_s) for desk in self.desks.values()))
        await asyncio.gather(*(subscription.cancel() for subscription in subscriptions), return_exceptions=True)
        if not recorder.done():
            await self.recorder.flush(FLUSH_S)
        await _cancelled([recorder])
        await self._store.close()
        if self.enrolment is not None:
            await self.enrolment.close()
        if self._ownership is not None:
            await self._ownership.release()

    async def _until(self, what: str, step: Callable[[], Awaitable[object]]) -> None:
        wait_s = 0.2
        while True:
            try:
                await step()
            except FairmarkError as error:
                self._ops.set_not_ready(f"waiting for {what}: {error}")
                self._log.warning("waiting", what=what, retry_s=wait_s, code=error.code, error=str(error))
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, 5.0)
            else:
                return

    async def _subscribe(self, subscriptions: list[Subscription]) -> None:
        for topic, handler in ((Topic.REPORTS, self._on_report), (Topic.HINTS, self._on_hint))[len(subscriptions) :]:
            subscriptions.append(await self._bus.subscribe(topic, self._queue, handler, prefetch=64, exclusive=True))

    async def _check_broker(self) -> str:
        return f"round trip {await self._bus.ping():.2f} ms"

    async def _check_rounds(self) -> str:
        """What became of each group's last attempt. Raises `RoundsFailingError` where one failed."""
        said = []
        for name in self.engines:
            record = self.recorder.newest(name)
            if record is None:
                said.append(f"{name}: no attempt yet")
            elif record.code is not None:
                raise RoundsFailingError(f"{name}: the last attempt failed: {record.code}, {record.detail}")
            else:
                said.append(f"{name}: round {record.round}, {len(record.reports)} reports")
        return "; ".join(said)

    def _opened(self, running: Running) -> None:
        own = running.id  # it ends with another's, where another's attempt serves those who wait
        self._open[own] = running
        running.done.add_done_callback(lambda _: self._open.pop(own, None))

    async def _on_report(self, message: Message) -> None:
        if not isinstance(message, Report | Refusal) or message.deployment != self._deployment:
            self._metrics.strays.labels("foreign").inc()
            return
        running = self._open.get(message.attempt)
        record = running.record if running is not None else self.recorder.at_hand(message.attempt)
        if record is None:
            self._metrics.strays.labels("unknown").inc()  # another aggregator's, or long ended
            return
        engine = self.engines[record.group]
        collecting = running is not None and running.collection is not None and running.collection.open
        if isinstance(message, Refusal):
            if running is not None and collecting and not engine.arrivals.refuse(running, message):
                self._metrics.strays.labels("duplicate").inc()
        elif running is not None and collecting:
            if not await engine.arrivals.take(running, message):
                self._metrics.strays.labels("duplicate").inc()
        elif not await engine.arrivals.take_late(record, running, message):
            self._metrics.strays.labels("stranger").inc()

    async def _on_leave(self, leave: Leave) -> None:
        """A fetcher's instance stops on purpose. Taken at its word where it signed that, for about now."""
        if self.enrolment is None or leave.deployment != self._deployment:
            return
        try:
            digest = leave_digest(self._chain.domain, leave.instance, leave.moment)
            signer = recover(digest, leave.signature).lower()
        except (InvalidSignatureError, MalformedReportError):
            self._metrics.strays.labels("stranger").inc()
            return
        if abs(self._clock.now_ms() - leave.moment) > OLDEST_LEAVE_MS:
            self._metrics.strays.labels("old").inc()
            return
        with suppress(StoreUnavailableError):  # then its silence says it
            await self.enrolment.leave(signer, leave.instance)

    async def _on_hint(self, message: Message) -> None:
        if isinstance(message, Leave):
            await self._on_leave(message)
            return
        if not isinstance(message, Hint) or (message.deployment, message.mode) != (self._deployment, self._mode):
            self._metrics.strays.labels("foreign").inc()
            return
        engine = self.engines.get(message.group)
        if engine is None or engine.known is None or engine.group.feed(message.pair) is None:
            self._metrics.strays.labels("unknown").inc()
            return
        outcome = self._weigh(message, engine)
        self._metrics.hints.labels(message.group, outcome).inc()
        ours = self._ops.ready and self._settings.heartbeats and self._leads(message.group)
        if outcome is HintOutcome.FIRED and ours:
            self._log.info("deviation", group=message.group, pair=message.pair)
            with suppress(AggregatorError):  # stopping, or too many wait: they bring an attempt anyway
                self.desks[message.group].request(self._clock.now_ms(), Cause.DEVIATION)

    def _step_down(self, group: str) -> None:
        if self._leadership is not None:
            self._leadership.step_down(group)

    def _leads(self, group: str) -> bool:
        return self._leadership is None or self._leadership.leads(group)

    def _weigh(self, hint: Hint, engine: Engine) -> HintOutcome:
        known = engine.known
        try:
            digest = hint_digest(
                self._chain.domain, hint.group, hint.pair, hint.price, hint.moment, hint.previous_moment
            )
            signer = recover(digest, hint.signature).lower()
        except (InvalidSignatureError, MalformedReportError):
            return HintOutcome.STRANGER
        if known is None:
            return HintOutcome.STALE
        return self._hints[hint.group].add(
            signer, hint.pair, hint.moment, hint.previous_moment, known, self._clock.now_ms()
        )


def _age(engine: Engine, pair: str, clock: Clock) -> Callable[[], float]:
    def age() -> float:
        reading = engine.reading
        answer = next((a for p, a in reading.answers.items() if p == pair), None) if reading else None
        return float("nan") if answer is None else (clock.now_ms() - answer.observed_ms) / 1000

    return age


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
