"""Between rounds: sample the feeds, compare with the standing answers, and say so when one has left its threshold.

A hint is signed and asks for nothing but a round; what that round finds is reported and signed anew. At most one hint
a feed and sample. Where a job ran within the last sampling interval, its observation is used and no source is asked.

Streams are glanced at more often, since that asks nobody: a glance sees what they show and nothing else, and holds it
against the answers that were read last; only where one seems to have left its threshold is the chain read anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from broker import Bus, Hint, Topic
from broker.errors import UnroutableError
from contracts import GroupReading, Signer
from core.clock import Clock
from core.errors import FairmarkError
from core.logs import Logger
from core.median import to_scaled
from core.types import Feed, Group, Mode
from fetchers.asks import Using
from fetchers.candidates import Plan
from fetchers.clocks import ClockWatch
from fetchers.fetch import Fetcher, Observation
from fetchers.jobs import Chain
from fetchers.jumps import standing
from fetchers.metrics import FetcherMetrics
from fetchers.reporter import deviates, sign_hint
from sources import Priority

HINT_TTL_MS = 10_000
"""An aggregator does not listen to older hints."""
MAX_BUDGET_S = 2.0
"""A sample is in no hurry, and must not outlast the interval either."""


class Sampler:
    """Samples the groups of one fetcher every `sample_s` seconds, and glances at its streams every `glance_s`; 0: it
    has none."""

    def __init__(
        self,
        *,
        groups: Sequence[Group],
        plans: Mapping[str, Sequence[Plan]],
        fetcher: Fetcher,
        chain: Chain,
        signer: Signer,
        bus: Bus,
        mode: Mode,
        clock: Clock,
        sample_s: float,
        new_id: Callable[[], str],
        logger: Logger,
        metrics: FetcherMetrics,
        watch: ClockWatch,
        glance_s: float = 0.0,
    ) -> None:
        self._groups = tuple(groups)
        self._plans = plans
        self._fetcher = fetcher
        self._chain = chain
        self._signer = signer
        self._bus = bus
        self._mode = mode
        self._clock = clock
        self._sample_s = sample_s
        self._new_id = new_id
        self._log = logger
        self._metrics = metrics
        self._watch = watch
        self._glance_s = glance_s
        self._recent: dict[str, tuple[float, Observation]] = {}  # by group; on the event loop's clock
        self._sampled: dict[str, float] = {}  # by group: when last, on the same clock
        self._readings: dict[str, GroupReading] = {}  # by group: the last one, as long as no job may have moved it

    def saw(self, group: str, observation: Observation) -> None:
        """An observation that a job has made: the next sample uses it where it is fresh enough."""
        self._recent[group] = (asyncio.get_running_loop().time(), observation)
        self._readings.pop(group, None)

    async def run(self) -> None:
        """Sample until cancelled. What goes wrong is logged, counted, and tried again at the next interval."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        every_s = min(self._sample_s, self._glance_s or self._sample_s)
        self._sampled = {group.name: due for group in self._groups}
        while True:
            due = max(due + every_s, loop.time())
            await asyncio.sleep(due - loop.time())
            for group in self._groups:
                whole = loop.time() - self._sampled[group.name] >= self._sample_s - every_s / 2
                try:
                    if whole:
                        self._sampled[group.name] = loop.time()
                        await self.sample(group)
                    else:
                        await self.glance(group)
                    self._metrics.samples.labels("ok").inc()
                except FairmarkError as error:
                    self._metrics.samples.labels(error.code).inc()
                    self._log.warning("sample_failed", group=group.name, code=error.code, detail=str(error))
                except Exception:  # noqa: BLE001 - a bug in sampling must not end the service's jobs
                    self._metrics.samples.labels("internal").inc()
                    self._log.exception("sample_failed", group=group.name)

    async def sample(self, group: Group) -> tuple[Hint, ...]:
        """Look once, and publish what is to be said. Raises the chain's and the broker's errors.

        With a wrong clock nothing is said: who does not know when he looked, does not know what he saw.
        """
        observation = await self._observe(group)
        if self._watch.wrong() is not None:
            return ()
        return await self._publish(self.hints(group, observation, await self._read(group)), group)

    async def glance(self, group: Group) -> tuple[Hint, ...]:
        """As `sample`, at what is streamed only."""
        observation = await self._look(group)
        if self._watch.wrong() is not None or not observation.answers:
            return ()
        known = self._readings.get(group.name) or await self._read(group)
        if not self._moved(group, observation, known):
            return ()
        return await self._publish(self.hints(group, observation, await self._read(group)), group)

    async def _read(self, group: Group) -> GroupReading:
        reading = self._readings[group.name] = await self._chain.read_group(group.name)
        self._fetcher.learn(standing(reading.answers))
        return reading

    async def _publish(self, hints: tuple[Hint, ...], group: Group) -> tuple[Hint, ...]:
        for hint in hints:
            try:
                await self._bus.publish(Topic.HINTS, hint, ttl_ms=HINT_TTL_MS)
            except UnroutableError:  # no aggregator runs; the next one to start begins with a round anyway
                self._log.debug("nobody_listens", group=group.name)
                return ()
            self._metrics.hints.labels(str(hint.pair)).inc()
            self._log.info("deviation", group=group.name, pair=str(hint.pair), price=hint.price, moment=hint.moment)
        return hints

    def hints(self, group: Group, observation: Observation, reading: GroupReading) -> tuple[Hint, ...]:
        """One signed hint for each feed whose price has left its threshold since its standing answer was observed.

        A feed that never had an answer has none to leave: its first round is started by the aggregator.
        """
        found = []
        for feed, scaled in self._moved(group, observation, reading):
            signature = sign_hint(
                self._signer,
                self._chain.domain,
                group.name,
                feed.pair,
                scaled,
                observation.moment,
                reading.moment,
            )
            found.append(
                Hint(
                    id=self._new_id(),
                    deployment=self._chain.deployment.id,
                    mode=self._mode,
                    group=group.name,
                    pair=feed.pair,
                    price=scaled,
                    moment=observation.moment,
                    previous_moment=reading.moment,
                    reporter=self._signer.address,
                    signature=signature,
                )
            )
        return tuple(found)

    @staticmethod
    def _moved(group: Group, observation: Observation, reading: GroupReading) -> list[tuple[Feed, int]]:
        """The feeds that have left their thresholds, and their scaled prices."""
        found = []
        for feed in group.feeds:
            answer, price = reading.answers.get(feed.pair), observation.answers.get(feed.pair)
            if answer is None or price is None or observation.moment <= answer.observed_ms:
                continue
            scaled = to_scaled(price, answer.decimals)
            if deviates(answer.value, scaled, feed.deviation_bps):
                found.append((feed, scaled))
        return found

    def _just_seen(self, group: Group, within_s: float) -> Observation | None:
        when, recent = self._recent.get(group.name, (0.0, None))
        return recent if asyncio.get_running_loop().time() - when < within_s else None

    async def _look(self, group: Group) -> Observation:
        if (recent := self._just_seen(group, self._glance_s)) is not None:
            return recent
        moment, loop = group.moment_at(self._clock.now_ms()), asyncio.get_running_loop()
        return await self._fetcher.fetch(
            self._plans[group.name], moment, loop.time() + self._glance_s, Priority.HINT, Using.STREAMS
        )

    async def _observe(self, group: Group) -> Observation:
        loop = asyncio.get_running_loop()
        # where nobody told the time for long, all are asked: streams do not say what o'clock it is
        using = Using.ANY if self._watch.known or not self._glance_s else Using.REQUESTS
        if using is Using.ANY and (recent := self._just_seen(group, self._sample_s)) is not None:
            return recent
        deadline = loop.time() + min(MAX_BUDGET_S, self._sample_s)
        observation = await self._fetcher.fetch(
            self._plans[group.name], group.moment_at(self._clock.now_ms()), deadline, Priority.HINT, using
        )
        self._metrics.count(observation)
        return observation
