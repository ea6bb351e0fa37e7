"""The window that the service uses: memory answers, Redis gets all of it.

    ticks ──► memory ──► answers
       └────► queue ──► Redis ── fails ──► down: memory goes on alone
                          ▲                  │  every `retry_s`
                          └── all of memory, again ◄┘

Answers never wait for Redis, and nothing is asked of it but after a restart. When it returns it gets the whole window
anew, so that it holds every tick of the retention, whatever it lost meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence

from core.clock import Clock
from core.logs import Logger
from market.errors import WindowUnavailableError
from market.memory import MemoryWindow, Piece
from market.redis_window import RedisWindow
from market.series import Second
from market.ticks import Batch, Tick, scaled
from market.window import Span

AT_ONCE = 5_000
"""Ticks of one round trip to Redis."""
LOAD_MS = 5_000
"""After a restart the window is read in pieces of so much time."""


class MirroredWindow:
    """`Window` in memory with a copy in Redis. `run` writes the copy until cancelled.

    numbers: gives the first of so many new arrival numbers. max_pending: ticks that may wait for Redis; where there are
    more it is left behind, and gets the whole window anew. Whoever adds ticks never waits for it.
    """

    def __init__(
        self,
        memory: MemoryWindow,
        copy: RedisWindow,
        *,
        clock: Clock,
        logger: Logger,
        numbers: Callable[[int], int],
        max_pending: int = 100_000,
        retry_s: float = 0.5,
    ) -> None:
        self.memory = memory
        self._copy = copy
        self._clock = clock
        self._log = logger
        self._numbers = numbers
        self._max_pending = max_pending
        self._retry_s = retry_s
        self._pending: deque[Batch] = deque()
        self._waiting = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._resyncing = False
        self._unread: list[str] = []
        self._read_to: dict[tuple[str, str], int] = {}
        self._read_until = 0
        self.up = False
        self.last_fault = "not reached yet"
        self.written = 0
        """Ticks that Redis has acknowledged, so far."""
        self.resyncs = 0
        self.loaded = 0
        """Ticks that were read back, so far."""

    async def add(self, batches: Sequence[Batch], now_ms: int) -> None:
        self.memory.take(batches, now_ms)
        if not self.up:
            return
        for batch in batches:
            self._pending.append(batch)
            self._waiting += len(batch.times)
        self._idle.clear()
        self._wake.set()
        if self._waiting > self._max_pending:
            self._fail(f"{self._waiting} ticks wait for it: it takes fewer than come in")

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
        await self._copy.ping()
        return f"{self.written} ticks written, {self._waiting} wait"

    @property
    def waiting(self) -> int:
        """Ticks that wait for Redis."""
        return self._waiting

    @property
    def level(self) -> bool:
        """Whether Redis has all that memory has."""
        return self.up and not self._resyncing and not self._waiting

    async def load(self, symbols: Sequence[str]) -> int:
        """After a start: take what Redis still holds into memory; how many ticks.

        Where it is down `run` reads the rest before it writes anything: what it keeps is not replaced by less.
        """
        self._unread = list(symbols)
        self._read_until = self._clock.now_ms()
        before = self.loaded
        try:
            await self._load_rest()
        except WindowUnavailableError as error:
            self.last_fault = str(error)
            self._log.warning("redis_window_unread", error=str(error))
        return self.loaded - before

    async def _load_rest(self) -> None:
        """What `load` has not read yet. Every piece is read once, however often Redis goes away meanwhile."""
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
                await self._resync()
                while self.up:
                    await self._write_pending()
            except WindowUnavailableError as error:
                self._fail(str(error))
            await asyncio.sleep(self._retry_s)

    async def settle(self, timeout_s: float) -> None:
        """Wait until Redis has all there is, or is down, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._resyncing or (self.up and self._waiting):
                    self._idle.clear()
                    await self._idle.wait()

    def _fail(self, why: str) -> None:
        if self.up or self.last_fault != why:
            self._log.warning("redis_down", error=why)
        self.up, self.last_fault = False, why
        self._pending.clear()
        self._waiting = 0
        self._wake.set()
        self._idle.set()

    async def _resync(self) -> None:
        """Write the whole window anew, in passes: each writes what came during the one before.

        Nothing queues until a pass is as small as what may wait. Where ticks come faster than Redis takes them it
        stays down, and the passes go on.
        """
        await self._copy.ping()
        self._resyncing, self.last_fault = True, "it is given the whole window anew"
        try:
            total = await self._write_all()
        finally:
            self._resyncing = False
        self.resyncs += 1
        self._log.info("redis_up", ticks=total)

    async def _write_all(self) -> int:
        known: set[tuple[str, str]] = set()
        written: dict[Second, int] = {}
        total = 0
        while not self.up:  # again where it was left behind during the last pass
            pieces = self.memory.pieces(self._clock.now_ms(), written)
            written = {piece.second: piece.size for piece in pieces}
            left = sum(piece.size - piece.start for piece in pieces)
            self.up = left <= self._max_pending  # then new ticks wait in the queue, behind this last pass
            for own in dict.fromkeys((piece.symbol, piece.exchange) for piece in pieces):
                if own not in known:
                    known.add(own)
                    await self._copy.forget(*own)
            await self._write_pieces(pieces)
            total += left
        return total

    async def _write_pieces(self, pieces: Sequence[Piece]) -> None:
        group: list[Batch] = []
        count = 0
        for batch in (batch for piece in pieces for batch in piece.batches(AT_ONCE, self._numbers)):
            group.append(batch)
            count += len(batch.times)
            if count >= AT_ONCE:
                await self._write(group, count, publish=False)
                group, count = [], 0
        if group:
            await self._write(group, count, publish=False)

    async def _write(self, batches: Sequence[Batch], count: int, *, publish: bool = True) -> None:
        await self._copy.add(batches, self._clock.now_ms(), publish=publish)
        self.written += count

    async def _write_pending(self) -> None:
        if not self._pending:
            self._idle.set()
            self._wake.clear()
            await self._wake.wait()
            return
        batches: list[Batch] = []
        count = 0
        while self._pending and count < AT_ONCE:
            batch = self._pending.popleft()
            count += len(batch.times)
            batches.append(batch)
        await self._write(batches, count)
        self._waiting = max(0, self._waiting - count)

    async def close(self) -> None:
        await self._copy.close()
