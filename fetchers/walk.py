"""One plan's way along its priority list.

Whose stream showed a price at the moment goes first, in order of priority: that price is there without a request, and
requests fill the rest. So a round of streamed feeds makes none.

The first `wanted_sources` candidates are asked at once. A candidate that fails is replaced at once: by the same
source's next market where only this one was at fault, else by the next source. One that has not answered when its
source usually has (`sources.latency`; where that is not known, after `HEDGE` of the time there was) is kept, and the
next source is asked beside it; one whose source does not answer at all these days has company from the start. A source
in quarantine is passed over, and asked only where the others are too few for a price. A plan is done when it has the
wanted number of quotes or nobody is left to ask. Where the rules then reject so many that a feed has no price, its next
candidates are asked for what is missing, and those that are late may still bring it. Where it has a price that rests on
too few fresh quotes, its next candidates are asked for those, and nobody late is waited for.
"""

from __future__ import annotations

import asyncio
from collections import deque

from core.types import FailureCode, Quote, SourceFailure
from fetchers.asks import Asks, passed_over
from fetchers.candidates import Candidate, Plan
from fetchers.evaluate import Verdict
from fetchers.rules import fresh_quorum
from sources import NO_TICKER, Reading

HEDGE = 0.4
"""After this part of the time to the deadline at the latest, a candidate that is still silent gets company."""
MARKET_FAULTS = NO_TICKER | frozenset(
    {
        FailureCode.EXPIRED,
        FailureCode.FROZEN,
        FailureCode.NOT_TRADED,
        FailureCode.WIDE_SPREAD,
        FailureCode.CROSSED,
        FailureCode.UNSUPPORTED,
    }
)
"""The source answered, and this market is of no use there (unknown, halted, dead, delisted); another one may be."""
NEVER = float("inf")


class Walk:
    """One plan's way along its priority list."""

    def __init__(self, plan: Plan, asks: Asks) -> None:
        self.plan = plan
        self.left = deque(asks.in_order(plan.candidates))
        self._held: deque[Candidate] = deque()  # passed over, being in quarantine
        self._got = 0  # quotes that count, as far as the rules have been asked
        self._others = {source: list(markets) for source, markets in plan.others.items()}
        self._asks = asks
        self._loop = asyncio.get_running_loop()
        self._refreshed = False
        self._patient = True  # the late ones are waited for, too
        # each with the time at which the next one is asked beside it; `NEVER` once that has happened
        self._waiting: dict[asyncio.Task[Reading | SourceFailure], float] = {}
        self._asked: dict[asyncio.Task[Reading | SourceFailure], Candidate] = {}

    async def gather(self, wanted: int) -> bool:
        """Return when `wanted` more quotes are in, nobody is left to ask or waited for, or the deadline has come.

        Whether anyone was waited for: else asking again for as many would change nothing.
        """
        deadline = self._asks.deadline
        hedge_s = max(0.0, deadline - self._loop.time()) * HEDGE
        for _ in range(wanted - sum(due < NEVER for due in self._waiting.values())):
            self._ask_next(hedge_s)
        waited = bool(self._waiting)
        while wanted > 0 and self._waiting:
            now = self._loop.time()
            if now >= deadline or not (self._patient or self._hopeful(now)):
                break
            self._give_company(now, hedge_s)
            until = min([deadline, *(due for due in self._waiting.values() if due > now)])
            done, _ = await asyncio.wait(
                self._waiting, timeout=max(0.0, until - now), return_when=asyncio.FIRST_COMPLETED
            )
            for task in [each for each in self._waiting if each in done]:  # in the order of priority
                replaced = self._waiting.pop(task) == NEVER
                if passed_over(task):
                    self._held.append(self._asked[task])
                result = self._asks.result(self._asked[task], self.plan.feed)
                if isinstance(result, Quote):
                    wanted -= 1
                    self._got += 1
                    continue
                if result is not None and result.code in MARKET_FAULTS and self._others.get(result.source):
                    self.left.appendleft(self._others[result.source].pop(0))
                if not replaced:
                    self._ask_next(hedge_s)
        return waited

    def shortage(self, verdict: Verdict) -> int:
        """How many more quotes the rules need for a price; 0 where there is one, or where nobody can bring one: nobody
        is left to ask, and nobody under way.

        Where there is one that does not rest on enough fresh quotes, others are asked for those, once. What the rules
        rejected counts no more: those in quarantine are asked in its place.
        """
        self._got = len(verdict.accepted)
        self._patient = verdict.answer is None
        others = bool(self.left or self._held)
        if verdict.answer is None:
            return max(1, self.plan.feed.min_sources - self._got) if others or self._waiting else 0
        missing = fresh_quorum(self.plan.feed) - verdict.fresh
        if missing <= 0 or self._refreshed or not others:
            return 0
        self._refreshed = True
        return missing

    def _give_company(self, now: float, hedge_s: float) -> None:
        """Ask another beside each that is late, as far as there are others."""
        late = [task for task, due in self._waiting.items() if due <= now]
        while late and (asked := self._ask_next(hedge_s)) is not None:
            self._waiting[late.pop(0)] = NEVER
            if self._waiting[asked] <= now:
                late.append(asked)

    def _ask_next(self, hedge_s: float) -> asyncio.Task[Reading | SourceFailure] | None:
        """Ask the next in line; of those in quarantine, only where without them there is no price."""
        now = self._loop.time()
        if self.left:
            candidate, anyway = self.left.popleft(), False
        elif self._held and self._got + self._hopeful(now) < self.plan.feed.min_sources:
            candidate, anyway = self._held.popleft(), True
        else:
            return None
        due = self._asks.hedge_at(candidate, now + hedge_s)
        task = self._asks.ask(candidate, anyway)
        self._asked[task] = candidate
        self._waiting[task] = due
        return task

    def _hopeful(self, now: float) -> int:
        """How many of those waited for are not late."""
        return sum(now < due < NEVER for due in self._waiting.values())
