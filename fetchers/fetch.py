"""Ask the sources: all feeds and rates at once, each along its own priority list, never past the deadline.

For each plan the first `wanted_sources` candidates are asked at once. A candidate that fails is replaced at once: by
the same source's next market where only this one was at fault, else by the next source. One that has not answered after
`HEDGE` of the time there was is kept, and the next source is asked beside it. A plan is done when it has the wanted
number of quotes or nobody is left to ask. Where the rules then reject so many that a feed has no price, its next
candidates are asked for what is missing. At the deadline, what is there is taken.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from msgspec import Struct

from core.currency import ConversionGraph, Rate
from core.logs import Logger
from core.types import FailureCode, Feed, Pair, Quote, SourceFailure
from fetchers.candidates import Candidate, Plan
from fetchers.evaluate import Verdict, evaluate, settle
from fetchers.reader import judged
from sources import Reading

HEDGE = 0.4
"""After this part of the time to the deadline, a candidate that is still silent gets company."""
MARKET_FAULTS = frozenset(
    {
        FailureCode.HTTP_STATUS,
        FailureCode.MALFORMED,
        FailureCode.EMPTY,
        FailureCode.INVALID_PRICE,
        FailureCode.EXPIRED,
        FailureCode.WIDE_SPREAD,
        FailureCode.CROSSED,
        FailureCode.UNSUPPORTED,
    }
)
"""The source answered, and this market is of no use there (unknown, halted, dead, delisted); another one may be."""
NEVER = float("inf")
STRAGGLERS_S = 0.02
"""How long cancelled requests may take to end before they are left to themselves."""


class Reader(Protocol):
    """The edge to the sources: see `fetchers.reader.PoolReader`."""

    async def read(self, candidate: Candidate, deadline: float) -> Reading | SourceFailure:
        """What one source says of one market, not yet judged. deadline: on the event loop's clock, seconds."""
        ...


class Observation(Struct, frozen=True, kw_only=True):
    """What one fetch saw. quotes and failures together cover every (source, pair) asked, each exactly once.

    answers: the fetcher's own exact median for each feed that has one, rates that are no feeds of the group left out.
    """

    moment: int
    answers: dict[Pair, Decimal]
    verdicts: tuple[Verdict, ...]
    quotes: tuple[Quote, ...]
    failures: tuple[SourceFailure, ...]


class _Asks:
    """Every candidate asked in one fetch, once, whoever needs it, and judged for each feed by that feed's own rules."""

    def __init__(self, reader: Reader, moment: int, deadline: float, logger: Logger) -> None:
        self.deadline = deadline
        self._reader = reader
        self._moment = moment
        self._log = logger
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[Candidate, asyncio.Task[Reading | SourceFailure]] = {}
        self._started: dict[Candidate, float] = {}
        self._judged: dict[tuple[Candidate, Pair], Quote | SourceFailure] = {}

    def ask(self, candidate: Candidate) -> asyncio.Task[Reading | SourceFailure]:
        task = self._tasks.get(candidate)
        if task is None:
            task = self._tasks[candidate] = self._loop.create_task(self._read(candidate))
        return task

    def result(self, candidate: Candidate, feed: Feed) -> Quote | SourceFailure | None:
        """What a candidate comes to for one feed; None: not asked, or not in so far."""
        task = self._tasks.get(candidate)
        if task is None or not task.done() or task.cancelled():
            return None
        read = task.result()
        if isinstance(read, SourceFailure):
            return read
        found = self._judged.get((candidate, feed.pair))
        if found is None:
            found = self._judged[candidate, feed.pair] = judged(read, feed, self._moment)
        return found

    def results(self, plans: Sequence[Plan]) -> tuple[dict[Pair, dict[Candidate, Quote]], list[SourceFailure]]:
        """What has come in so far: each plan's quotes by its feed's pair, and what failed for any of them."""
        quotes: dict[Pair, dict[Candidate, Quote]] = {}
        failures: list[SourceFailure] = []
        for plan in plans:
            mine = quotes.setdefault(plan.feed.pair, {})
            for markets in plan.by_source():
                for candidate in markets:
                    found = self.result(candidate, plan.feed)
                    if isinstance(found, Quote):
                        mine[candidate] = found
                    elif found is not None:
                        failures.append(found)
        return quotes, failures

    def unanswered(self, because: str) -> list[SourceFailure]:
        """Those that have not come in so far, as failures. because: why nobody waits for them, before the deadline."""
        now = self._loop.time()
        over = now >= self.deadline
        failures = []
        for candidate, started in self._started.items():
            task = self._tasks[candidate]
            if not task.done() or task.cancelled():
                elapsed = round((now - started) * 1000)
                failures.append(
                    SourceFailure(
                        pair=candidate.pair,
                        source=candidate.source,
                        code=FailureCode.TIMEOUT if over else FailureCode.CANCELLED,
                        detail=f"no answer within {elapsed} ms" if over else because,
                        elapsed_ms=elapsed,
                    )
                )
        return failures

    async def close(self) -> None:
        late = [task for task in self._tasks.values() if not task.done()]
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=STRAGGLERS_S)

    async def _read(self, candidate: Candidate) -> Reading | SourceFailure:
        self._started[candidate] = self._loop.time()  # one that is cancelled before this was not asked
        try:
            return await self._reader.read(candidate, self.deadline)
        except Exception as error:  # noqa: BLE001 - one reader's bug must not cost the other sources' quotes
            self._log.exception("read_failed", source=candidate.source, pair=str(candidate.pair))
            return SourceFailure(
                pair=candidate.pair,
                source=candidate.source,
                code=FailureCode.INTERNAL,
                detail=f"{type(error).__name__}: {error}"[:200],
                elapsed_ms=round((self._loop.time() - self._started[candidate]) * 1000),
            )


class _Walk:
    """One plan's way along its priority list."""

    def __init__(self, plan: Plan, asks: _Asks) -> None:
        self.plan = plan
        self.left = deque(plan.candidates)
        self._others = {source: list(markets) for source, markets in plan.others.items()}
        self._asks = asks
        self._loop = asyncio.get_running_loop()
        # each with the time at which the next one is asked beside it; `NEVER` once that has happened
        self._waiting: dict[asyncio.Task[Reading | SourceFailure], float] = {}
        self._asked: dict[asyncio.Task[Reading | SourceFailure], Candidate] = {}

    async def gather(self, wanted: int) -> None:
        """Return when `wanted` more quotes are in, nobody is left to ask, or the deadline has come."""
        deadline = self._asks.deadline
        hedge_s = max(0.0, deadline - self._loop.time()) * HEDGE
        for _ in range(wanted - sum(due < NEVER for due in self._waiting.values())):
            self._ask_next(hedge_s)
        while wanted > 0 and self._waiting:
            now = self._loop.time()
            if now >= deadline:
                return
            until = min([deadline, *self._waiting.values()]) if self.left else deadline
            done, _ = await asyncio.wait(
                self._waiting, timeout=max(0.0, until - now), return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                replaced = self._waiting.pop(task) == NEVER
                result = self._asks.result(self._asked[task], self.plan.feed)
                if isinstance(result, Quote):
                    wanted -= 1
                    continue
                if result is not None and result.code in MARKET_FAULTS and self._others.get(result.source):
                    self.left.appendleft(self._others[result.source].pop(0))
                if not replaced:
                    self._ask_next(hedge_s)
            now = self._loop.time()
            for task, due in list(self._waiting.items()):
                if due <= now and self.left:
                    self._waiting[task] = NEVER
                    self._ask_next(hedge_s)

    def shortage(self, verdict: Verdict) -> int:
        """How many more quotes the rules need for a price; 0 where there is one, or where nobody is left to ask."""
        if verdict.answer is not None or not self.left:
            return 0
        return max(1, self.plan.feed.min_sources - len(verdict.accepted))

    def _ask_next(self, hedge_s: float) -> None:
        if self.left:
            candidate = self.left.popleft()
            task = self._asks.ask(candidate)
            self._asked[task] = candidate
            self._waiting[task] = self._loop.time() + hedge_s


class Fetch:
    """One fetch under way: `run` it once. `so_far` tells at any time what it has seen."""

    def __init__(
        self, plans: Sequence[Plan], asks: _Asks, moment: int, graph: ConversionGraph, given: Mapping[Pair, Rate] | None
    ) -> None:
        self._plans = plans
        self._asks = asks
        self._moment = moment
        self._graph = graph
        self._given = given

    async def run(self) -> Observation:
        """Ask, and conclude. Returns by the deadline; cancelled, it leaves no request behind."""
        walks = [_Walk(plan, self._asks) for plan in self._plans]
        needs = [plan.feed.wanted_sources for plan in self._plans]
        loop = asyncio.get_running_loop()
        try:
            while True:
                async with asyncio.TaskGroup() as group:
                    for walk, need in zip(walks, needs, strict=True):
                        if need:
                            group.create_task(walk.gather(need))
                seen = self.so_far("enough others answered first")
                over = loop.time() >= self._asks.deadline
                short = [walk.shortage(each) for walk, each in zip(walks, seen.verdicts, strict=True)]
                if over or not any(short):
                    return seen
                needs = short
        finally:
            await self._asks.close()

    def so_far(self, because: str) -> Observation:
        """What is known by now; whoever was asked and has not answered ends as a failure. because: why nobody waits."""
        quotes, failures = self._asks.results(self._plans)
        verdicts = evaluate(self._plans, quotes, self._graph, self._moment, self._given)
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
    """Asks `reader` and draws the conclusions. given: conversion rates from elsewhere, for replays of recorded days."""

    def __init__(
        self, reader: Reader, graph: ConversionGraph, logger: Logger, given: Mapping[Pair, Rate] | None = None
    ) -> None:
        self._reader = reader
        self._graph = graph
        self._log = logger
        self._given = given

    def begin(self, plans: Sequence[Plan], moment: int, deadline: float) -> Fetch:
        """A fetch of what the prices were at `moment`; nobody is asked before it runs. deadline: as for `fetch`."""
        asks = _Asks(self._reader, moment, deadline, self._log)
        return Fetch(plans, asks, moment, self._graph, self._given)

    async def fetch(self, plans: Sequence[Plan], moment: int, deadline: float) -> Observation:
        """What the prices were at `moment`. Returns by `deadline`, on the event loop's clock in seconds."""
        return await self.begin(plans, moment, deadline).run()
