"""One fetch, from plans to an observation: all feeds and rates at once, each along its own priority list
(`fetchers.walk`), never past the deadline, at which what is there is taken.

Requests that were outrun run on by themselves (`fetchers.strays`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal

from msgspec import Struct

from core.currency import ConversionGraph, Rate
from core.logs import Logger
from core.types import Pair, Quote, SourceFailure
from fetchers.asks import Asks, HedgeAfter, Reader, Using
from fetchers.candidates import Plan
from fetchers.evaluate import Rules, Verdict, evaluate, settle
from fetchers.jumps import Standing
from fetchers.rules import PIPELINE
from fetchers.strays import Strays
from fetchers.walk import Walk
from sources import Priority


class Observation(Struct, frozen=True, kw_only=True):
    """What one fetch saw. quotes and failures together cover every (source, pair) asked, each exactly once.

    answers: the fetcher's own exact median for each feed that has one, rates that are no feeds of the group left out.
    """

    moment: int
    answers: dict[Pair, Decimal]
    verdicts: tuple[Verdict, ...]
    quotes: tuple[Quote, ...]
    failures: tuple[SourceFailure, ...]


class Fetch:
    """One fetch under way: `run` it once. `so_far` tells at any time what it has seen."""

    def __init__(
        self,
        plans: Sequence[Plan],
        asks: Asks,
        moment: int,
        graph: ConversionGraph,
        given: Mapping[Pair, Rate] | None,
        last: Mapping[Pair, Standing],
        strays: Strays,
        rules: Rules = PIPELINE,
    ) -> None:
        self._rules = rules
        self._plans = plans
        self._asks = asks
        self._moment = moment
        self._graph = graph
        self._given = given
        self._last = last
        self._strays = strays

    async def run(self) -> Observation:
        """Ask, and conclude. Returns by the deadline; cancelled, it leaves no request behind."""
        try:
            seen = await self._run()
        except BaseException:
            await self._asks.cancel()
            raise
        self._asks.leave(self._strays)
        return seen

    async def _run(self) -> Observation:
        walks = [Walk(plan, self._asks) for plan in self._plans]
        needs = [plan.feed.wanted_sources for plan in self._plans]
        loop = asyncio.get_running_loop()
        while True:
            async with asyncio.TaskGroup() as group:
                under_way = [
                    group.create_task(walk.gather(need)) for walk, need in zip(walks, needs, strict=True) if need
                ]
            seen = self.so_far("enough others answered first")
            over = loop.time() >= self._asks.deadline
            short = [walk.shortage(each) for walk, each in zip(walks, seen.verdicts, strict=True)]
            if over or not any(short) or not any(each.result() for each in under_way):
                return seen
            needs = short

    def so_far(self, because: str) -> Observation:
        """What is known by now; whoever was asked and has not answered ends as a failure. because: why nobody waits."""
        quotes, failures = self._asks.results(self._plans)
        verdicts = evaluate(self._plans, quotes, self._graph, self._moment, self._given, self._last, self._rules)
        found = {candidate: quote for mine in quotes.values() for candidate, quote in mine.items()}
        kept, lost = settle(verdicts, found.values(), [*failures, *self._asks.unanswered(because)])
        return Observation(
            moment=self._moment,
            answers={each.plan.feed.pair: each.answer for each in verdicts if each.answer and not each.plan.leg},
            verdicts=verdicts,
            quotes=kept,
            failures=lost,
        )


class Fetcher:
    """Asks `reader` and draws the conclusions. Close it in the end: requests that were outrun may still be under way.

    given: conversion rates from elsewhere, for replays of recorded days. hedge_after: see `HedgeAfter`.
    """

    def __init__(
        self,
        reader: Reader,
        graph: ConversionGraph,
        logger: Logger,
        given: Mapping[Pair, Rate] | None = None,
        rules: Rules = PIPELINE,
        hedge_after: HedgeAfter = lambda _: None,
    ) -> None:
        self._rules = rules
        self._hedge_after = hedge_after
        self._strays = Strays()
        self._reader = reader
        self._graph = graph
        self._log = logger
        self._given = given
        self._last: dict[Pair, Standing] = {}

    def learn(self, answers: Mapping[Pair, Standing]) -> None:
        """Take note of standing answers, read from this fetcher's own node: quotes are held against them."""
        self._last.update(answers)

    def begin(
        self,
        plans: Sequence[Plan],
        moment: int,
        deadline: float,
        priority: Priority = Priority.JOB,
        using: Using = Using.ANY,
    ) -> Fetch:
        """A fetch of what the prices were at `moment`; nobody is asked before it runs. deadline, priority: as for
        `fetch`."""
        asks = Asks(plans, self._reader, moment, deadline, self._log, priority, using, self._hedge_after)
        return Fetch(plans, asks, moment, self._graph, self._given, self._last, self._strays, self._rules)

    async def fetch(
        self,
        plans: Sequence[Plan],
        moment: int,
        deadline: float,
        priority: Priority = Priority.JOB,
        using: Using = Using.ANY,
    ) -> Observation:
        """What the prices were at `moment`. Returns by `deadline`, on the event loop's clock in seconds.

        priority: who goes first where a source's rate limit has no room for all.
        """
        return await self.begin(plans, moment, deadline, priority, using).run()

    async def close(self) -> None:
        """Call off what was outrun and is still under way."""
        await self._strays.close()
