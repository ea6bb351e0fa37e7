"""A group's reports and refusals as they come off the bus: looked at, and put where they belong, late ones too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from aggregator.attempts import AttemptRecord, Verdict
from aggregator.edges import Known
from aggregator.metrics import Metrics
from aggregator.recorder import Recorder
from aggregator.running import Running, report_record
from aggregator.validation import Expected, Fault, Judged, Received, identify, statement_of
from broker.messages import Refusal, Report
from contracts.report import Domain
from core.clock import Clock
from core.logs import Logger
from core.types import Group, Mode


class Arrivals:
    """known: the group as it was last read."""

    def __init__(
        self,
        *,
        group: Group,
        mode: Mode,
        deployment: str,
        domain: Domain,
        known: Callable[[], Known | None],
        recorder: Recorder,
        clock: Clock,
        metrics: Metrics,
        logger: Logger,
    ) -> None:
        self._group = group
        self._mode = mode
        self._deployment = deployment
        self._domain = domain
        self._known = known
        self._recorder = recorder
        self._clock = clock
        self._metrics = metrics
        self._log = logger

    def refuse(self, running: Running, refusal: Refusal) -> bool:
        """A fetcher's word that it does not sign; False when it is a copy, or one too many, or too late."""
        collection = running.collection
        if collection is None or not collection.open:
            return False
        self._metrics.refusals.labels(self._group.name).inc()
        return collection.refuse(refusal, self._since_job(running))

    async def _identify(self, report: Report, arrived_ms: int) -> Received:
        """Who signed it, and whether its evidence is what was signed: off the event loop where there is much of it."""
        if statement_of(report).small:
            return identify(report, self._domain, arrived_ms)
        return await asyncio.to_thread(identify, report, self._domain, arrived_ms)

    async def take(self, running: Running, report: Report) -> bool:
        """A report for an open attempt; False when it is a copy, or one too many. One that is too late is kept, too."""
        received = await self._identify(report, self._since_job(running))
        collection = running.collection
        if collection is None or not collection.open:  # it closed while the evidence was looked at
            return self._keep_late(running.record, running, received)
        return collection.add(received)

    async def take_late(self, record: AttemptRecord, running: Running | None, report: Report) -> bool:
        """A member's report for an attempt that does not collect any more: it belongs into its record all the same.

        False when no member signed it, with its evidence, for the record's moment and the group as it is known now.
        """
        received = await self._identify(report, self._clock.now_ms() - record.started_ms)
        return self._keep_late(record, running, received)

    def _keep_late(self, record: AttemptRecord, running: Running | None, arrived: Received) -> bool:
        if (known := self._known()) is None:
            return False
        expected = Expected(self._deployment, self._mode, self._group, record.moment, known)
        if expected.foreign(arrived) or not expected.own(arrived):
            return False
        record = running.record if running is not None else self._recorder.at_hand(record.id) or record
        guilty = record.contradicts(arrived.signer, arrived.report.signed)
        if arrived.unproven and not guilty:
            return False  # somebody else's message around the report
        judged = Judged(arrived, Verdict.LEFT_OUT, Fault.LATE, "came after the collection had ended")
        if guilty:
            judged = replace(
                judged, code=Fault.EQUIVOCATION, detail="late, and another report for this moment is signed"
            )
        late = report_record(judged)
        longer = record.with_late(late)
        if longer is record:
            return True  # it is there already
        if guilty:
            self._log.error("equivocation", attempt=record.id, signer=arrived.signer, moment=record.moment)
            self._metrics.equivocations.labels(self._group.name, arrived.signer or "").inc()
        self._metrics.reports.labels(self._group.name, late.verdict, late.code).inc()
        if running is None or running.record.state.final:
            self._recorder.late(record.id, late)
        else:
            running.record = longer
        return True

    @staticmethod
    def _since_job(running: Running) -> int:
        return int((time.perf_counter() - running.published_at) * 1000)
