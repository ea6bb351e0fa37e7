"""A strategy as the one source of a reporter: its decision is what it quotes, its trouble why it quotes nothing.

A decision is made once for each slot, at its start, whether anybody asks or not; who asks during the slot is given that
one. So a strategy that pulls the same signals says the same in every round of a slot. Where a slot has no decision
yet, asking makes one; where it ended in trouble, asking tries again.
"""

from __future__ import annotations

import asyncio
from typing import NoReturn

from msgspec import Struct

from core.clock import Clock
from core.reporting import Schedule, TroubleCode
from core.types import FailureCode, Pair, SourceFailure
from signals.producer import Made, Make, settle_ms
from sources import Priority, Reading, Ticker

CODES = {
    TroubleCode.UNREACHABLE: FailureCode.CONNECTION,
    TroubleCode.OUTDATED: FailureCode.EXPIRED,
    TroubleCode.INVALID: FailureCode.OUT_OF_RANGE,
}
"""What a strategy's trouble is as a source's failure; any other means that it was shown nothing."""
MARGIN_S = 0.02
"""So long before a fetch's deadline it is told why there is no decision; after it nobody would hear."""


class _Decided(Struct, frozen=True):
    made: Made
    at_ms: int


class Decisions:
    """The decisions of the strategy `name`, on chain called `pair`. `run` it until cancelled.

    It stands where a fetcher has its sources: it is the pool, and the catalogue's one entry.
    """

    kind = "signal"
    relays: tuple[str, ...] = ()

    def __init__(self, name: str, pair: Pair, schedule: Schedule, make: Make, clock: Clock) -> None:
        self.name = name
        self.pairs = (pair,)
        self.base_url = f"signal://{name}"
        self.last: Made | None = None
        self.schedule = schedule
        self._settle_ms = settle_ms(schedule)
        self._make = make
        self._clock = clock
        self._slot = -1
        self._deciding: asyncio.Task[_Decided] | None = None

    def request_path(self, pair: Pair) -> str:
        return f"/{pair.slug}"

    def alias_of(self, pair: str) -> Pair | None:
        """A decision has one name."""
        del pair
        return None

    async def run(self) -> NoReturn:
        """Decide at the start of each slot, when the signals have made their numbers."""
        while True:
            await asyncio.wait({self._decision()})
            now = self._clock.now_ms()
            await asyncio.sleep((self.schedule.next(now - self._settle_ms) + self._settle_ms - now) / 1000)

    async def fetch(
        self, source: str, pair: Pair, *, deadline: float, priority: Priority = Priority.JOB, anyway: bool = False
    ) -> Reading | SourceFailure:
        """The decision of this slot, or why there is none, by `deadline` on the event loop's clock."""
        del priority, anyway
        loop = asyncio.get_running_loop()
        started = loop.time()

        def failed(code: FailureCode, detail: str) -> SourceFailure:
            elapsed_ms = round((loop.time() - started) * 1000)
            return SourceFailure(pair=pair, source=source, code=code, detail=detail[:300], elapsed_ms=elapsed_ms)

        try:
            async with asyncio.timeout_at(deadline - MARGIN_S):
                decided = await asyncio.shield(self._decision())
        except TimeoutError:
            if self.last is None or self.last.trouble is None:
                return failed(FailureCode.TIMEOUT, "its signals have not answered in time")
            made = self.last  # it is being tried again; this is what was wrong
        else:
            made = decided.made
        if made.trouble is not None:
            one = made.trouble
            code = CODES.get(one.code, FailureCode.EMPTY)
            return failed(code, f"{one.who}: {one.code} since {one.since_ms}: {one.detail}")
        if made.value is None:
            return failed(FailureCode.EMPTY, "it decided nothing")
        return Reading(
            source=source,
            pair=pair,
            ticker=Ticker(last=made.value, time_ms=made.data_ms),
            received_ms=decided.at_ms,
            elapsed_ms=round((loop.time() - started) * 1000),
        )

    async def close(self) -> None:
        """Call off what is under way."""
        if self._deciding is not None:
            self._deciding.cancel()
            await asyncio.wait({self._deciding})

    def _decision(self) -> asyncio.Task[_Decided]:
        """The slot's decision, made or under way. A slot counts from when the signals had time for their numbers."""
        slot = self.schedule.slot(self._clock.now_ms() - self._settle_ms)
        if self._deciding is None or (self._deciding.done() and (slot != self._slot or self._failed())):
            self._slot = slot
            self._deciding = asyncio.create_task(self._decide(slot), name=f"decision:{self.name}")
        return self._deciding

    def _failed(self) -> bool:
        task = self._deciding
        return task is not None and (task.cancelled() or bool(task.exception()) or task.result().made.value is None)

    async def _decide(self, slot: int) -> _Decided:
        self.last = made = await self._make(slot)
        return _Decided(made, self._clock.now_ms())
