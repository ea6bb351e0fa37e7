"""The fetcher as a service: takes jobs off the bus, answers each in time, samples between rounds, stops cleanly."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence

from broker import Bus, Job, Message, Refusal, Rejected, Report, Subscription, Topic
from broker.errors import BrokerError
from broker.messages import Leave
from contracts import Signer
from contracts.report import leave_digest
from core.clock import Clock
from core.currency import DOLLARS, ConversionGraph, Rate
from core.errors import ConfigurationError
from core.logs import Logger, get_logger
from core.ops import Ops
from core.types import FailureCode, Group, Mode, Pair
from fetchers.asks import HedgeAfter
from fetchers.candidates import Listing, make_plans
from fetchers.clocks import ClockWatch
from fetchers.errors import SourcesDownError, StreamsDownError
from fetchers.evaluate import Rules
from fetchers.fetch import Fetcher, Observation
from fetchers.hints import Sampler
from fetchers.jobs import MAX_BUDGET_MS, Chain, JobDesk
from fetchers.metrics import FetcherMetrics
from fetchers.reader import Pool, PoolReader, Streaming
from fetchers.report_store import ReportStore
from fetchers.reporter import CLOCK_TOLERANCE_MS
from fetchers.rules import PIPELINE
from sources import ChangeTracker, SourceStatus, State

MAX_JOBS = 8
"""Jobs in hand at once; more wait in the queue, where they expire."""
STOP_S = 2.0
"""How long each of what is not a job may take to end when the service stops."""
LEAVE_S = 1.0
LEAVE_TTL_MS = 60_000
"""An aggregator that is away for longer learns of a silence from the silence."""
REPORT_TTL_MS = 30_000
"""A report nobody took for this long is of no use, not even for an attempt's record."""
ANSWERED = frozenset({FailureCode.AGING, FailureCode.DEPENDENT, FailureCode.JUMP})
"""What says nothing against a source's health: fresher ones or its relatives counted instead, or the market jumped."""
PRUNE_EVERY = 500
"""Reports between two cleanings of the store; the first one begins with it."""


class FetcherService:
    """One fetcher: `run` it until cancelled.

    name: of the fetcher, and of the queue that its instances share. sources: in order of priority. pool, bus, chain and
    store are used, not owned: whoever made them starts and closes them (the store is started here, if it is new).
    sample_s: seconds between samples for deviation hints; 0: none. streams: what its sources show by themselves; run
    here. changes: where the streams note all that they show. glance_s: seconds between looks at them, for hints. given:
    conversion rates from elsewhere, where no source makes them: replays only. clock_offsets: by source, how far its
    clock is ahead of ours, in milliseconds. hedge_after: see `fetchers.asks.HedgeAfter`. status: how each source is.
    rules: over quotes, in the configured order. drain_s: seconds that jobs in hand may take to end when the service
    stops; none takes longer than its own budget.
    Raises `ConfigurationError` when no feed of a group has a source to ask.
    """

    def __init__(
        self,
        *,
        name: str,
        instance: str,
        groups: Sequence[Group],
        sources: Sequence[str],
        catalogue: Mapping[str, Listing],
        pool: Pool,
        bus: Bus,
        chain: Chain,
        signer: Signer,
        store: ReportStore,
        clock: Clock,
        mode: Mode,
        ops: Ops,
        logger: Logger | None = None,
        sample_s: float = 5.0,
        graph: ConversionGraph | None = None,
        given: Mapping[Pair, Rate] | None = None,
        clock_offsets: Callable[[], Mapping[str, float]] = dict,
        hedge_after: HedgeAfter = lambda _: None,
        status: Callable[[], Sequence[SourceStatus]] = tuple,
        streams: Streaming | None = None,
        changes: ChangeTracker | None = None,
        glance_s: float = 1.0,
        rules: Rules = PIPELINE,
        drain_s: float = MAX_BUDGET_MS / 1000,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self.name = name
        self._instance = instance
        self._signer = signer
        self._mode = mode
        self._new_id = new_id
        self._strict = any(group.strict for group in groups)
        self._bus = bus
        self._chain = chain
        self._store = store
        self._clock = clock
        self.ops = ops
        self._log = (logger or get_logger(name, mode)).bind(instance=instance)  # the service is the fetcher's name
        self._metrics = FetcherMetrics(ops.registry)
        self._watch = ClockWatch(clock_offsets, self._metrics, self._log)
        graph = graph or ConversionGraph(DOLLARS)
        plans = {group.name: make_plans(group.feeds, sources, catalogue, graph) for group in groups}
        self._thin = _thin(name, groups, {group: {p.feed.pair: p.independent for p in plans[group]} for group in plans})
        self._streams = streams
        if streams is not None:
            for plan in (plan for each in plans.values() for plan in each):
                for markets in plan.by_source():
                    streams.want(markets[0].source, [candidate.pair for candidate in markets])
        self._status = status
        self._fetcher = fetcher = Fetcher(
            PoolReader(pool, changes, streams), graph, self._log, given, rules, hedge_after=hedge_after
        )
        self._sampler = Sampler(
            groups=groups,
            plans=plans,
            fetcher=fetcher,
            chain=chain,
            signer=signer,
            bus=bus,
            mode=mode,
            clock=clock,
            sample_s=sample_s,
            new_id=new_id,
            logger=self._log,
            metrics=self._metrics,
            watch=self._watch,
            glance_s=0 if streams is None else glance_s,
        )
        self._desk = JobDesk(
            name=name,
            instance=instance,
            mode=mode,
            groups=groups,
            plans=plans,
            fetcher=fetcher,
            chain=chain,
            signer=signer,
            store=store,
            clock=clock,
            logger=self._log,
            new_id=new_id,
            saw=self._saw,
            watch=self._watch,
        )
        self._pairs = {group.name: [feed.pair for feed in group.feeds] for group in groups}
        self._samples = sample_s > 0
        self._drain_s = drain_s
        self._health: dict[str, dict[str, str]] = {}  # by group, then source: "ok", or its last failure's code
        self._reports = 0
        self._pruning: asyncio.Task[None] | None = None
        self._depend()

    async def run(self) -> None:
        """Serve until cancelled; then finish the jobs in hand, for `drain_s` at most. Cancelled again, stop at once.

        Raises `ReportStoreError` or `BrokerUnavailableError` when it cannot start.
        """
        await self._store.start()
        await self._desk.start()
        for pair, count, least in self._thin:
            self._log.warning("few_sources", pair=pair, sources=count, needed=least)
        subscription = await self._bus.subscribe(Topic.JOBS, self.name, self._on_message, prefetch=MAX_JOBS)
        self.ops.set_ready()
        self._log.info("ready", deployment=self._chain.deployment.id)
        streaming = None if self._streams is None else asyncio.create_task(self._keep_streaming(self._streams))
        stopped = False
        try:
            if self._samples:
                await self._sampler.run()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped = True  # on purpose: whatever else ends it is a crash, and says nothing
            raise
        finally:
            self.ops.set_not_ready("stopping")
            await self._drain(subscription)
            await self._fetcher.close()
            if stopped and self._strict:
                await self._leave()
            if streaming is not None:
                streaming.cancel()
                await asyncio.wait([streaming], timeout=STOP_S)

    async def _leave(self) -> None:
        """Tell the aggregators that this instance stops, so that nobody waits for it."""
        deployment, moment = self._chain.deployment, self._clock.now_ms()
        digest = leave_digest(self._chain.domain, self._instance, moment)
        leave = Leave(
            id=self._new_id(),
            deployment=deployment.id,
            mode=self._mode,
            fetcher=self.name,
            instance=self._instance,
            reporter=self._signer.address,
            moment=moment,
            signature=self._signer.sign(digest),
        )
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._bus.publish(Topic.HINTS, leave, ttl_ms=LEAVE_TTL_MS)
        except (TimeoutError, BrokerError) as error:
            self._log.warning("not_deregistered", detail=f"{type(error).__name__}: {error}")

    async def _keep_streaming(self, streams: Streaming) -> None:
        try:
            await streams.run()
        except Exception:  # noqa: BLE001 - without streams there are still requests
            self._log.exception("streams_failed_inside")

    async def _drain(self, subscription: Subscription) -> None:
        """Let the jobs in hand end: each does by the end of its budget. What is cut off goes to another instance."""
        try:
            async with asyncio.timeout(self._drain_s + 2 * STOP_S):
                await subscription.cancel(self._drain_s)
        except (TimeoutError, BrokerError) as error:
            self._log.warning("not_drained", detail=f"{type(error).__name__}: {error}")
        if self._pruning is not None:
            await asyncio.wait([self._pruning], timeout=STOP_S)

    async def _on_message(self, message: Message) -> None:
        if not isinstance(message, Job):
            raise Rejected(f"a {type(message).__name__} does not belong on {Topic.JOBS!r}")
        age_ms = self._clock.now_ms() - message.moment
        if age_ms > message.budget_ms + CLOCK_TOLERANCE_MS:
            # It lay in the queue while nobody was here. Its attempt is over, and nobody waits for a refusal either.
            self._metrics.jobs.labels("expired").inc()
            self._log.info("job_expired", attempt=message.attempt, age_ms=age_ms, budget_ms=message.budget_ms)
            return
        with self._metrics.job_seconds.time():
            answer = await self._desk.answer(message)
            outcome = "report" if isinstance(answer, Report) else answer.code
            try:
                await self._bus.publish(Topic.REPORTS, answer, ttl_ms=REPORT_TTL_MS)
            except BrokerError as error:
                # Handing the job back would not help: its budget is over before it comes again.
                self._log.error("answer_unpublished", attempt=message.attempt, answer=outcome, detail=str(error))
                outcome = "unpublished"
        self._metrics.jobs.labels(outcome).inc()
        self._say(message, answer)

    def _say(self, job: Job, answer: Report | Refusal) -> None:
        known = {"attempt": job.attempt, "group": job.group, "moment": job.moment, "elapsed_ms": answer.elapsed_ms}
        if isinstance(answer, Refusal):
            self._log.warning("refused", code=answer.code, detail=answer.detail, **known)
            return
        for index, pair in enumerate(self._pairs[job.group]):
            if answer.signed.unchanged >> index & 1:
                self._metrics.unchanged.labels(pair).inc()
        self._log.info(
            "reported", prices=len(answer.answers), quotes=len(answer.quotes), failures=len(answer.failures), **known
        )
        if self._reports % PRUNE_EVERY == 0 and (self._pruning is None or self._pruning.done()):
            self._pruning = asyncio.create_task(self._prune())
        self._reports += 1

    async def _prune(self) -> None:
        try:
            self._log.debug("pruned", reports=await self._store.prune())
        except Exception as error:  # noqa: BLE001 - a store that cannot forget shows in /health; jobs go on
            self._log.warning("prune_failed", detail=f"{type(error).__name__}: {error}")

    def _saw(self, group: str, observation: Observation) -> None:
        self._sampler.saw(group, observation)
        self._metrics.count(observation)
        health = dict.fromkeys((quote.source for quote in observation.quotes), "ok")
        for failure in observation.failures:
            # one that was not needed, or disagrees with the others, has answered
            if failure.code in ANSWERED:
                health.setdefault(failure.source, "ok")
        for failure in observation.failures:
            if failure.code is not FailureCode.CANCELLED:  # it may only have been slower than the others
                health.setdefault(failure.source, failure.code.value)
        self._health[group] = health

    def _depend(self) -> None:
        async def broker() -> str:
            return f"{await self._bus.ping():.1f} ms there and back"

        async def sources() -> str:
            merged = {source: state for health in self._health.values() for source, state in health.items()}
            failing = [f"{source} {state}" for source, state in sorted(merged.items()) if state != "ok"]
            if merged and len(failing) == len(merged):
                raise SourcesDownError(f"none of {len(merged)} answers: {', '.join(failing)}")
            listed = f"; failing: {', '.join(failing)}" if failing else ""
            out = [each.source for each in self._status() if each.state is not State.OK]
            listed += f"; in quarantine: {', '.join(out)}" if out else ""
            return f"{len(merged) - len(failing)} of {len(merged)} gave a price for the last job{listed}"

        async def streaming() -> str:
            states = () if self._streams is None else self._streams.states()
            down = [f"{each.source} {each.last_loss or 'not up so far'}" for each in states if not each.up]
            if states and len(down) == len(states):
                raise StreamsDownError(f"none of {len(states)} is up: {'; '.join(down)}")
            return f"{len(states) - len(down)} of {len(states)} up{'; ' if down else ''}{'; '.join(down)}"

        if self._streams is not None:
            self.ops.depend("streams", streaming, required=False)
        self.ops.depend("broker", broker)
        self.ops.depend("chain", self._chain.ping)
        self.ops.depend("store", self._store.ping)
        self.ops.depend("sources", sources, required=False)
        self.ops.depend("clock", self._watch.health)


def _thin(name: str, groups: Sequence[Group], counts: Mapping[str, Mapping[Pair, int]]) -> list[tuple[Pair, int, int]]:
    """Feeds with fewer sources than they need, with both numbers: this fetcher will never have a price for them."""
    thin = [
        (feed.pair, counts[group.name][feed.pair], feed.min_sources)
        for group in groups
        for feed in group.feeds
        if counts[group.name][feed.pair] < feed.min_sources
    ]
    problems = [
        f"fetchers.{name}.sources: too few of them serve any feed of group {group.name!r}; add some"
        for group in groups
        if all(feed.pair in {pair for pair, _, _ in thin} for feed in group.feeds)
    ]
    if problems:
        raise ConfigurationError(problems)
    return thin
