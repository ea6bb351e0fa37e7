"""Whom one fetch has asked, and what each said: every candidate once, whoever needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol

from core.logs import Logger
from core.types import Aggregate, FailureCode, Feed, Pair, Quote, SourceFailure
from fetchers.candidates import Candidate, Plan
from fetchers.reader import judged
from fetchers.strays import Strays
from sources import Priority, Reading

STRAGGLERS_S = 0.02
"""How long cancelled requests may take to end before they are left to themselves."""


class Using(StrEnum):
    """What a fetch reads."""

    ANY = "any"  # what streams showed at the moment, and requests for the rest
    STREAMS = "streams"  # no request is made
    REQUESTS = "requests"  # as if there were no streams


class Reader(Protocol):
    """The edge to the sources: see `fetchers.reader.PoolReader`."""

    def shown(self, candidate: Candidate, moment: int) -> Reading | None:
        """What a stream showed of one market at `moment`, where that is to be believed."""
        ...

    async def read(
        self, candidate: Candidate, deadline: float, priority: Priority, anyway: bool
    ) -> Reading | SourceFailure:
        """What one source says of one market, not yet judged. deadline: on the event loop's clock, seconds. anyway: in
        quarantine too."""
        ...


HedgeAfter = Callable[[str], float | None]
"""From a source to the seconds of silence after which another is asked beside it; None: not known yet."""


class Asks:
    """Every candidate asked in one fetch, once, whoever needs it, and judged for each feed by that feed's own rules.

    Where a plan's quotes are weighed by volume, a candidate whose stream tells none is requested, and what its stream
    showed is taken where no answer comes.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        reader: Reader,
        moment: int,
        deadline: float,
        logger: Logger,
        priority: Priority,
        using: Using,
        hedge_after: HedgeAfter,
    ) -> None:
        self.deadline = deadline
        self._using = using
        weighed = [plan for plan in plans if plan.feed.aggregate is Aggregate.VOLUME and using is Using.ANY]
        self._weighed = {one for plan in weighed for markets in plan.by_source() for one in markets}
        self._shown: dict[Candidate, Reading | None] = {}
        self._priority = priority
        self._hedge_after = hedge_after
        self._reader = reader
        self._moment = moment
        self._log = logger
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[Candidate, asyncio.Task[Reading | SourceFailure]] = {}
        self._started: dict[Candidate, float] = {}
        self._judged: dict[tuple[Candidate, Pair], Quote | SourceFailure] = {}

    def in_order(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Those first whose stream showed a price at the moment; else in the order given."""
        return sorted(candidates, key=lambda each: not self._at_once(each))

    def _streamed(self, candidate: Candidate) -> Reading | None:
        if self._using is Using.REQUESTS:
            return None
        if candidate not in self._shown:
            self._shown[candidate] = self._reader.shown(candidate, self._moment)
        return self._shown[candidate]

    def _at_once(self, candidate: Candidate) -> bool:
        """Whether no request is made for it."""
        shown = self._streamed(candidate)
        return shown is not None and (candidate not in self._weighed or shown.ticker.volume is not None)

    def ask(self, candidate: Candidate, anyway: bool = False) -> asyncio.Task[Reading | SourceFailure]:
        """anyway: though its source is in quarantine. One that was passed over for that is asked then, once."""
        task = self._tasks.get(candidate)
        if task is None or (anyway and passed_over(task)):
            task = self._tasks[candidate] = self._loop.create_task(self._read(candidate, anyway))
        return task

    def hedge_at(self, candidate: Candidate, latest: float) -> float:
        """When another should be asked beside `candidate`, which is asked now. latest: where that is not known."""
        after = None if self._at_once(candidate) else self._hedge_after(candidate.source)
        return latest if after is None else min(latest, self._loop.time() + after)

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

    def leave(self, strays: Strays) -> None:
        """Those that are still under way run on, to their deadline at the latest."""
        strays.leave([task for task in self._tasks.values() if not task.done()], self.deadline + STRAGGLERS_S)

    async def cancel(self) -> None:
        """Call off those that are still under way."""
        late = [task for task in self._tasks.values() if not task.done()]
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=STRAGGLERS_S)

    async def _read(self, candidate: Candidate, anyway: bool) -> Reading | SourceFailure:
        self._started[candidate] = self._loop.time()  # one that is cancelled before this was not asked
        try:
            shown = self._streamed(candidate)
            if shown is not None and self._at_once(candidate):
                return shown
            if self._using is Using.STREAMS:
                return SourceFailure(
                    pair=candidate.pair, source=candidate.source, code=FailureCode.CANCELLED, detail="not streamed"
                )
            read = await self._reader.read(candidate, self.deadline, self._priority, anyway)
            return read if shown is None or isinstance(read, Reading) else shown
        except Exception as error:  # noqa: BLE001 - one reader's bug must not cost the other sources' quotes
            self._log.exception("read_failed", source=candidate.source, pair=str(candidate.pair))
            return SourceFailure(
                pair=candidate.pair,
                source=candidate.source,
                code=FailureCode.INTERNAL,
                detail=f"{type(error).__name__}: {error}"[:200],
                elapsed_ms=round((self._loop.time() - self._started[candidate]) * 1000),
            )


def passed_over(task: asyncio.Task[Reading | SourceFailure]) -> bool:
    """Whether a candidate was not asked because its source is in quarantine."""
    read = task.result() if task.done() and not task.cancelled() else None
    return isinstance(read, SourceFailure) and read.code is FailureCode.QUARANTINED
