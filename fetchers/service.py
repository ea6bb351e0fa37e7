"""The fetcher as a service: takes jobs off the bus, answers each in time, samples between rounds, stops cleanly."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence

from broker import Bus, Job, Message, Refusal, Rejected, Report, Topic
from broker.errors import BrokerError
from contracts import Signer
from core.clock import Clock
from core.currency import DOLLARS, ConversionGraph, Rate
from core.errors import ConfigurationError
from core.logs import Logger, get_logger
from core.ops import Ops
from core.types import Group, Mode, Pair
from fetchers.candidates import Listing, make_plans
from fetchers.errors import SourcesDownError
from fetchers.fetch import Fetcher, Observation
from fetchers.hints import Sampler
from fetchers.jobs import Chain, JobDesk
from fetchers.metrics import FetcherMetrics
from fetchers.reader import Pool, PoolReader
from fetchers.report_store import ReportStore
from fetchers.reporter import CLOCK_TOLERANCE_MS

MAX_JOBS = 8
"""Jobs in hand at once; more wait in the queue, where they expire."""
DRAIN_S = 2.0
"""How long jobs in hand may take to end when the service stops."""
REPORT_TTL_MS = 30_000
"""A report nobody took for this long is of no use, not even for an attempt's record."""
PRUNE_EVERY = 500
"""Reports between two cleanings of the store; the first one begins with it."""


class FetcherService:
    """One fetcher: `run` it until cancelled.

    name: of the fetcher, and of the queue that its instances share. sources: in order of priority. pool, bus, chain and
    store are used, not owned: whoever made them starts and closes them (the store is started here, if it is new).
    sample_s: seconds between samples for deviation hints; 0: none. given: conversion rates from elsewhere, where no
    source makes them: replays only. Raises `ConfigurationError` when no feed of a group has a source to ask.
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
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self.name = name
        self._bus = bus
        self._chain = chain
        self._store = store
        self._clock = clock
        self.ops = ops
        self._log = (logger or get_logger(name, mode)).bind(fetcher=name, instance=instance)
        self._metrics = FetcherMetrics(ops.registry)
        graph = graph or ConversionGraph(DOLLARS)
        plans = {group.name: make_plans(group.feeds, sources, catalogue, graph) for group in groups}
        self._thin = _thin(
            name, groups, {group: {p.feed.pair: len(p.candidates) for p in plans[group]} for group in plans}
        )
        fetcher = Fetcher(PoolReader(pool), graph, self._log, given)
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
        )
        self._samples = sample_s > 0
        self._health: dict[str, dict[str, str]] = {}  # by group, then source: "ok", or its last failure's code
        self._reports = 0
        self._pruning: asyncio.Task[None] | None = None
        self._depend()

    async def run(self) -> None:
        """Serve until cancelled; then finish the jobs in hand, for two seconds at most.

        Raises `ReportStoreError` or `BrokerUnavailableError` when it cannot start.
        """
        await self._store.start()
        await self._desk.start()
        for pair, count, least in self._thin:
            self._log.warning("few_sources", pair=pair, sources=count, needed=least)
        subscription = await self._bus.subscribe(Topic.JOBS, self.name, self._on_message, prefetch=MAX_JOBS)
        self.ops.set_ready()
        self._log.info("ready", deployment=self._chain.deployment.id)
        try:
            if self._samples:
                await self._sampler.run()
            await asyncio.Event().wait()
        finally:
            self.ops.set_not_ready("stopping")
            await self._drain(subscription.cancel())

    async def _drain(self, cancelling: Coroutine[object, object, None]) -> None:
        try:
            async with asyncio.timeout(DRAIN_S):
                await cancelling
        except (TimeoutError, BrokerError) as error:
            self._log.warning("not_drained", detail=f"{type(error).__name__}: {error}")
        if self._pruning is not None:
            await asyncio.wait([self._pruning], timeout=DRAIN_S)

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
            return f"{len(merged) - len(failing)} of {len(merged)} gave a price for the last job{listed}"

        self.ops.depend("broker", broker)
        self.ops.depend("chain", self._chain.ping)
        self.ops.depend("store", self._store.ping)
        self.ops.depend("sources", sources, required=False)


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
