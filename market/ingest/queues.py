"""A source's queue: bounded, one lane for each symbol, each lane one worker's, so that a symbol's order is kept."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from market.ingest.metrics import SourceMetrics


class Chunk(NamedTuple):
    """Ticks of one symbol that were received together, in order. volume: what was traded, where that is told."""

    received_ms: int
    times: list[int]
    prices: list[Decimal]
    volume: Decimal | None = None


class SourceQueue:
    """What came from one source and was not worked on yet.

    most: ticks that may wait. When it is full, the oldest ticks of the same symbol are dropped for the new ones, and
    counted; where none of them waits, the oldest of the symbol that has most waiting. symbols: the known ones.
    """

    def __init__(self, source: str, *, symbols: Sequence[str], most: int, workers: int, metrics: SourceMetrics) -> None:
        self.source = source
        self.most = most
        self.size = 0
        self._lanes: dict[str, deque[Chunk]] = {symbol: deque() for symbol in symbols}
        self._waiting = dict.fromkeys(symbols, 0)
        self._owner = {symbol: index % workers for index, symbol in enumerate(symbols)}
        self._owned = [[symbol for symbol in symbols if self._owner[symbol] == index] for index in range(workers)]
        self._wakes = [asyncio.Event() for _ in range(workers)]
        self._busy = 0
        self._idle = asyncio.Event()
        self._metrics = metrics

    def knows(self, symbol: str) -> bool:
        return symbol in self._lanes

    def put(self, symbol: str, chunk: Chunk) -> None:
        """Take in what came, at once. Raises `KeyError` for an unknown symbol."""
        count = len(chunk.times)
        self._lanes[symbol].append(chunk)
        self._waiting[symbol] += count
        self.size += count
        if self.size > self.most:
            self._make_room(symbol)
        self._wakes[self._owner[symbol]].set()

    def _make_room(self, symbol: str) -> None:
        lane = self._lanes[symbol]
        while self.size > self.most:
            own = len(lane) > 1 or self.size == self._waiting[symbol]
            victim = symbol if own else max(self._waiting, key=self._waiting.__getitem__)
            chunk = self._lanes[victim].popleft()
            excess = min(self.size - self.most, len(chunk.times))
            if excess < len(chunk.times):
                rest = Chunk(chunk.received_ms, chunk.times[excess:], chunk.prices[excess:], chunk.volume)
                self._lanes[victim].appendleft(rest)
            self.size -= excess
            self._waiting[victim] -= excess
            self._metrics.dropped(self.source, "overflow", excess)

    async def take(self, worker: int) -> tuple[str, list[Chunk]]:
        """All that waits of one of this worker's symbols. The worker says `done` before it takes more."""
        wake = self._wakes[worker]
        while True:
            for symbol in self._owned[worker]:
                if lane := self._lanes[symbol]:
                    chunks = list(lane)
                    lane.clear()
                    self.size -= self._waiting[symbol]
                    self._waiting[symbol] = 0
                    # the next turn is another symbol's, so that a busy one does not keep it waiting
                    self._owned[worker].remove(symbol)
                    self._owned[worker].append(symbol)
                    self._busy += 1
                    return symbol, chunks
            wake.clear()
            await wake.wait()

    def done(self) -> None:
        """What was taken last has been handed on."""
        self._busy -= 1
        if not self._busy and not self.size:
            self._idle.set()

    async def drained(self) -> None:
        """Wait until nothing waits and nothing is worked on."""
        while self.size or self._busy:
            self._idle.clear()
            await self._idle.wait()
