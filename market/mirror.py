"""The window that the service uses: memory answers, Redis gets all of it.

    ticks ──► memory ──► answers
       │        └─ seconds that Redis has not got whole, newest first ─┐
       └────► queue, what is new ──────────────────────────────────────┴─► Redis

Answers never wait for Redis, and nothing is asked of it but after a restart. What is new comes first. A second is
missing in Redis where ticks of it were left out, because more came than Redis takes; when it returns after it was away
they all are. Missing seconds are written anew from memory as far as Redis has the time. So a Redis that is slower than
the ticks has the latest prices and a window with gaps, for as long as it is slower, and a whole one soon after.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence

from prometheus_client import Counter

from core.clock import Clock
from core.logs import Logger
from market.errors import WindowUnavailableError
from market.memory import MemoryWindow
from market.redis_window import RedisWindow
from market.series import SECOND_MS
from market.ticks import Batch, Tick, scaled
from market.window import Slot, Span

AT_ONCE = 5_000
"""Ticks of one round trip to Redis."""
LOAD_MS = 5_000
"""After a restart the window is read in pieces of so much time."""

CONFIRM_S = 5.0
"""While nothing comes Redis is asked so often whether it still has what it was given."""


class MirroredWindow:
    """`Window` in memory with a copy in Redis. `run` writes the copy until cancelled.

    symbols: those that are read back from Redis after a restart. numbers: gives the first of so many new arrival
    numbers. max_pending: ticks that may wait for Redis; where there are more the newest of each exchange and symbol
    stay, and the others are left out, counted in `left_out`. Whoever adds ticks never waits for Redis.
    """

    def __init__(
        self,
        memory: MemoryWindow,
        copy: RedisWindow,
        *,
        symbols: Sequence[str],
        clock: Clock,
        logger: Logger,
        numbers: Callable[[int], int],
        left_out: Counter,
        max_pending: int = 100_000,
        retry_s: float = 0.5,
    ) -> None:
        self.memory = memory
        self._copy = copy
        self._clock = clock
        self._log = logger
        self._numbers = numbers
        self._counted = left_out
        self._max_pending = max_pending
        self._retry_s = retry_s
        self._pending: deque[Batch] = deque()
        self._missing: dict[int, set[tuple[str, str]]] = {}  # by second: symbol and exchange
        self._because = ""
        self._busy = False
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._unread = list(symbols)
        self._read_to: dict[tuple[str, str], int] = {}
        self._read_until: int | None = None
        self.up = False
        """Whether Redis answers."""
        self.last_fault = "not reached yet"
        self.waiting = 0
        """New ticks that wait for Redis."""
        self.written = 0
        """Ticks that Redis has acknowledged, so far; some of them twice."""
        self.left_out = 0
        """Ticks that were not written when they came, because too many waited, so far."""
        self.loaded = 0
        """Ticks that were read back, so far."""

    async def add(self, batches: Sequence[Batch], now_ms: int) -> None:
        self.memory.take(batches, now_ms)
        if not self.up:
            return
        self._pending.extend(batches)
        self.waiting += sum(len(batch.times) for batch in batches)
        self._wake.set()
        if self.waiting > self._max_pending:
            self._leave_out()

    async def latest(self, symbol: str, exchange: str | None, now_ms: int) -> Tick | None:
        return self.memory.newest(symbol, exchange, now_ms)

    async def span(self, symbol: str, exchange: str | None, since_ms: int, now_ms: int) -> Span | None:
        return self.memory.of(symbol, exchange, since_ms, now_ms)

    async def ticks(self, symbol: str, exchange: str, since_ms: int, now_ms: int) -> list[Tick]:
        return await self.memory.ticks(symbol, exchange, since_ms, now_ms)

    async def check(self) -> str:
        """For `/health`. Raises `WindowUnavailableError`."""
        if not self.up:
            raise WindowUnavailableError(f"{self.last_fault}; the window in memory goes on, Redis is tried again")
        if missing := sum(map(len, self._missing.values())):
            raise WindowUnavailableError(
                f"{self._because}: {missing} seconds of its window are not whole, {self.left_out} ticks were left out "
                "so far; the window in memory is whole"
            )
        await self._copy.ping()
        return f"{self.written} ticks written, {self.waiting} wait"

    @property
    def level(self) -> bool:
        """Whether Redis has all that memory has."""
        return self.up and not (self._missing or self._pending or self._busy)

    async def load(self) -> int:
        """At the start: take what Redis still holds into memory; how many ticks.

        Where it is down `run` reads the rest before it writes anything: what it keeps is not replaced by less.
        """
        before = self.loaded
        try:
            await self._load_rest()
        except WindowUnavailableError as error:
            self.last_fault = str(error)
            self._log.warning("redis_window_unread", error=str(error))
        return self.loaded - before

    async def _load_rest(self) -> None:
        """What `load` has not read yet. Every piece is read once, however often Redis goes away meanwhile."""
        if self._read_until is None:
            self._read_until = self._clock.now_ms()
        while self._unread:
            symbol = self._unread[-1]
            for exchange in await self._copy.exchanges(symbol):
                own = (symbol, exchange)
                since_ms = max(self._read_to.get(own, 0), self._clock.now_ms() - self.memory.retention_ms)
                while since_ms < self._read_until:
                    until_ms = min(since_ms + LOAD_MS, self._read_until)
                    ticks = await self._copy.ticks(symbol, exchange, since_ms, until_ms)
                    self.memory.take(self._batches(ticks), self._clock.now_ms())
                    self.loaded += len(ticks)
                    since_ms = self._read_to[own] = until_ms
            self._unread.pop()

    def _batches(self, ticks: Sequence[Tick]) -> list[Batch]:
        found = []
        for start in range(0, len(ticks), AT_ONCE):
            some = ticks[start : start + AT_ONCE]
            prices = scaled([tick.price for tick in some])
            if prices is None:
                continue  # somebody else wrote what is no price
            found.append(
                Batch(
                    exchange=some[0].exchange,
                    symbol=some[0].symbol,
                    times=[tick.time_ms for tick in some],
                    prices=prices[0],
                    digits=prices[1],
                    number=self._numbers(len(some)),
                )
            )
        return found

    async def run(self) -> None:
        """Keep Redis like memory, until cancelled."""
        while True:
            try:
                await self._load_rest()
                await self._copy.begin()
                self._begin()
                while True:
                    await self._step()
            except WindowUnavailableError as error:
                self._fail(str(error))
            await asyncio.sleep(self._retry_s)

    async def settle(self, timeout_s: float) -> None:
        """Wait until Redis has all there is, or is down, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.up and not self.level:
                    self._idle.clear()
                    await self._idle.wait()

    def _begin(self) -> None:
        """It answers, and may have lost anything while it did not: all of the window is written anew."""
        for slot in self.memory.slots(self._clock.now_ms()):
            self._miss(slot)
        self.up, self._because = True, "it is given the window anew" if self._missing else ""
        self._log.info("redis_up", seconds=sum(map(len, self._missing.values())))

    def _fail(self, why: str) -> None:
        if self.up or self.last_fault != why:
            self._log.warning("redis_down", error=why)
        self.up, self.last_fault, self._busy = False, why, False
        self._pending.clear()
        self._missing.clear()
        self.waiting = 0
        self._idle.set()

    def _miss(self, slot: Slot) -> None:
        own = self._missing.get(slot.second)
        if own is None:
            own = self._missing[slot.second] = set()
        own.add((slot.symbol, slot.exchange))

    def _leave_out(self) -> None:
        """Keep the newest batch of each exchange and symbol: Redis is to have the latest prices, if not every tick."""
        newest = {(batch.symbol, batch.exchange): batch for batch in self._pending}
        for batch in self._pending:
            if batch is not newest[batch.symbol, batch.exchange]:
                for second in {time_ms // SECOND_MS for time_ms in batch.times}:
                    self._miss(Slot(second, batch.symbol, batch.exchange))
        self._pending = deque(newest.values())
        waiting = sum(len(batch.times) for batch in self._pending)
        gone, self.waiting = self.waiting - waiting, waiting
        self.left_out += gone
        self._counted.inc(gone)
        behind = "it takes fewer ticks than come in"
        if self._because != behind:
            self._because = behind
            self._log.warning("redis_behind", left_out=gone)
        self._forget_old()

    def _forget_old(self) -> None:
        oldest = (self._clock.now_ms() - self.memory.retention_ms) // SECOND_MS
        for second in [second for second in self._missing if second < oldest]:
            del self._missing[second]

    async def _step(self) -> None:
        """A round trip: what is new, then, where that was all, what is missing."""
        batches, count = self._new()
        slots, again = ([], []) if self._pending else self._cut()
        if not batches and not again:
            if self._because:
                self._because = ""
                self._log.info("redis_level", left_out=self.left_out)
            self._idle.set()
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONFIRM_S):
                    await self._wake.wait()
                    return
            await self._copy.confirm()
            return
        self._busy = True
        if batches:
            await self._write(batches, count, publish=True)
        if again:
            await self._copy.forget(slots)
            await self._write_again(again)
        self._busy = False

    def _new(self) -> tuple[list[Batch], int]:
        batches: list[Batch] = []
        count = 0
        while self._pending and count < AT_ONCE:
            batch = self._pending.popleft()
            count += len(batch.times)
            batches.append(batch)
        self.waiting -= count
        return batches, count

    def _cut(self) -> tuple[list[Slot], list[Batch]]:
        """Missing seconds, the newest first, as they are in memory now: whatever of them is written before is replaced,
        and what comes of them from now on is written behind."""
        self._forget_old()
        slots: list[Slot] = []
        batches: list[Batch] = []
        count = 0
        while self._missing and count < AT_ONCE:
            second = max(self._missing)
            own = self._missing[second]
            slot = Slot(second, *own.pop())
            if not own:
                del self._missing[second]
            if found := self.memory.batches(slot, AT_ONCE, self._numbers):
                slots.append(slot)
                batches += found
                count += sum(len(batch.times) for batch in found)
        return slots, batches

    async def _write_again(self, batches: Sequence[Batch]) -> None:
        group: list[Batch] = []
        count = 0
        for batch in batches:
            if group and count + len(batch.times) > AT_ONCE:
                await self._write(group, count, publish=False)
                group, count = [], 0
            group.append(batch)
            count += len(batch.times)
        await self._write(group, count, publish=False)

    async def _write(self, batches: Sequence[Batch], count: int, *, publish: bool) -> None:
        await self._copy.add(batches, self._clock.now_ms(), publish=publish)
        self.written += count

    async def close(self) -> None:
        await self._copy.close()
