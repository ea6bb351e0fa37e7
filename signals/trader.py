"""The trader: each feed's answer is the lower median of what its legs produced for a slot, and there is none in error.

A feed publishes once in each period, as soon as every leg that is well has produced for it. A leg that is late holds
it back until it has stopped; then the feed's policy decides. So an answer never mixes two slots.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from core import codec
from core.clock import Clock
from core.errors import StoreUnavailableError
from core.logs import Logger
from core.median import lower_median
from core.reporting import Leg, ReporterState, Standing, order, standings
from signals.metrics import TraderMetrics
from signals.registry import Registered, Registry, SignalFeed

if TYPE_CHECKING:
    from core.documents import Documents  # it imports SQLAlchemy, and reporters need none

LOOKS = 20
"""In each period of the quickest feed: how soon silence is seen."""


class Answer(Struct, frozen=True, kw_only=True):
    """A feed's published value for a slot. data_ms: of the oldest datum in it. contributors: the legs it is made of."""

    feed: str
    value: Decimal
    slot_ms: int
    data_ms: int
    published_ms: int
    contributors: tuple[str, ...]


class FeedState(StrEnum):
    OK = "ok"
    WAITING = "waiting"  # nothing is wrong, and there is no answer yet
    ERROR = "error"


class FeedLook(Struct, frozen=True, kw_only=True):
    """A feed at a time. answer: the last one, published before the error where there is one."""

    feed: SignalFeed
    state: FeedState
    since_ms: int
    standing: Standing
    answer: Answer | None


class Trader:
    """Judges and publishes. What it published last outlives it in `documents`, which is opened by who composes."""

    def __init__(
        self, registry: Registry, documents: Documents, clock: Clock, metrics: TraderMetrics, logger: Logger
    ) -> None:
        """Raises `CyclicFeedsError`."""
        self.registry = registry
        self._documents = documents
        self._clock = clock
        self._metrics = metrics
        self._log = logger
        self._rules = {name: feed.rule for name, feed in registry.feeds.items()}
        self._order = order({name: rule.feeds for name, rule in self._rules.items()})
        self._answers: dict[str, Answer] = {}
        self._unkept: set[str] = set()  # feeds whose last answer is not in the documents
        self._keeps = True
        started = clock.now_ms()
        self._states = dict.fromkeys(self._order, (FeedState.WAITING, started))

    async def load(self) -> None:
        """Take up what was published last, as far as it is an answer of the feeds as they are configured now. Raises
        `StoreUnavailableError`."""
        now = self._clock.now_ms()
        for body in (await self._documents.all(self._scope)).values():
            answer = codec.decode(body, Answer)
            feed = self.registry.feeds.get(answer.feed)
            if feed is None or answer.slot_ms > now or feed.schedule.slot(answer.slot_ms) != answer.slot_ms:
                continue
            if feed.range.minimum <= answer.value <= feed.range.maximum:
                self._answers[answer.feed] = answer

    def look(self, name: str) -> FeedLook:
        """A feed as it is now. Raises `KeyError`."""
        now = self._clock.now_ms()
        return self._looked(name, self._standings(now)[name], now)

    def looks(self) -> list[FeedLook]:
        now = self._clock.now_ms()
        found = self._standings(now)
        return [self._looked(name, found[name], now) for name in sorted(found)]

    def depends(self, name: str) -> tuple[str, ...]:
        """Every name a feed is made of, its own first."""
        closure = dict.fromkeys([f"{self.registry.name}/{name}"])
        for feed in self._rules[name].feeds:
            closure |= dict.fromkeys(self.depends(feed))
        for one in self.registry.of(name):
            if one.seen.deregistered_ms is None:
                closure |= dict.fromkeys((one.name, *one.depends))
        return tuple(closure)

    def settle(self) -> None:
        """Publish what is due, and note which feeds are in error since now, or no more."""
        now = self._clock.now_ms()
        found = self._standings(now)
        for name in self._order:  # a feed may be published because one was that it follows
            standing = found[name]
            if standing.ok:
                self._publish(self.registry.feeds[name], standing, now)
            self._note(name, self._looked(name, standing, now))

    async def run(self) -> None:
        """Settle for ever, often enough to see silence."""
        pause_s = min(feed.schedule.period_ms for feed in self.registry.feeds.values()) / LOOKS / 1000
        while True:
            self.settle()
            self._measure()
            await self.keep()
            await asyncio.sleep(min(max(pause_s, 0.01), 1.0))

    async def keep(self) -> None:
        """Write what was published since the last time. While the store is down it is published all the same: the next
        answer takes its place."""
        for name in sorted(self._unkept):
            answer = self._answers[name]
            try:
                await self._documents.put(self._scope, name, codec.encode(answer).decode())
            except StoreUnavailableError as error:
                if self._keeps:
                    self._log.warning("not_kept", feed=name, error=str(error))
                self._keeps = False
                return
            self._keeps = True
            if self._answers[name] is answer:
                self._unkept.discard(name)

    @property
    def _scope(self) -> str:
        return f"{self.registry.name}/answers"

    def _standings(self, now: int) -> dict[str, Standing]:
        legs: dict[str, Sequence[Leg]] = {}
        for name in self._rules:
            legs[name] = [self._leg(one, now) for one in self.registry.of(name) if one.seen.deregistered_ms is None]
        return standings(self._rules, legs, {name: since for name, (_, since) in self._states.items()})

    def _leg(self, one: Registered, now: int) -> Leg:
        found = self.registry.condition(one, now)
        return Leg(one.name, found.counts, found.trouble)

    def _publish(self, feed: SignalFeed, standing: Standing, now: int) -> None:
        slot = feed.schedule.slot(now)
        last = self._answers.get(feed.name)
        if last is not None and last.slot_ms >= slot:
            return
        words = [word for name in standing.counted if (word := self._word(feed, name, slot)) is not None]
        if not words or len(words) < len(standing.counted):
            return
        self._answers[feed.name] = answer = Answer(
            feed=feed.name,
            value=feed.range.checked(lower_median([value for value, _ in words])),
            slot_ms=slot,
            data_ms=min(data_ms for _, data_ms in words),
            published_ms=now,
            contributors=standing.counted,
        )
        self._unkept.add(feed.name)
        self._metrics.published.labels(feed.name).inc()
        self._log.info("published", feed=feed.name, value=str(answer.value), slot=slot, of=list(answer.contributors))

    def _word(self, feed: SignalFeed, leg: str, slot: int) -> tuple[Decimal, int] | None:
        """A leg's value for the slot and its data's time, or None while it has not come."""
        if leg in feed.rule.feeds:
            answer = self._answers.get(leg)
            return None if answer is None or answer.slot_ms < slot else (answer.value, answer.data_ms)
        one = self.registry.get(feed.name, leg)
        if one.seen.slot_ms is None or one.seen.slot_ms < slot or one.value is None or one.seen.data_ms is None:
            return None
        return one.value, one.seen.data_ms

    def _looked(self, name: str, standing: Standing, now: int) -> FeedLook:
        feed, answer = self.registry.feeds[name], self._answers.get(name)
        if standing.error:
            state = FeedState.ERROR
        elif answer is None or now >= feed.schedule.stopped_at(answer.slot_ms):
            state = FeedState.WAITING
        else:
            state = FeedState.OK
        before, since = self._states[name]
        return FeedLook(
            feed=feed,
            state=state,
            since_ms=since if state is before else now,
            standing=standing,
            answer=answer,
        )

    def _note(self, name: str, look: FeedLook) -> None:
        before, _ = self._states[name]
        if look.state is before:
            return
        self._states[name] = (look.state, look.since_ms)
        self._metrics.in_error.labels(name).set(look.state is FeedState.ERROR)
        if look.state is FeedState.ERROR:
            for one in look.standing.troubles:
                self._log.error(
                    "feed_error", feed=name, who=one.who, code=one.code, since_ms=one.since_ms, via=list(one.via)
                )
        elif before is FeedState.ERROR:
            self._log.info("feed_recovered", feed=name)

    def _measure(self) -> None:
        now = self._clock.now_ms()
        for feed in self._rules:
            counts = dict.fromkeys(ReporterState, 0)
            for one in self.registry.of(feed):
                counts[self.registry.condition(one, now).state] += 1
                heard = one.seen.received_ms or one.seen.registered_ms
                self._metrics.silence.labels(feed, one.name).set((now - heard) / 1000)
            for state, count in counts.items():
                self._metrics.reporters.labels(feed, state).set(count)
