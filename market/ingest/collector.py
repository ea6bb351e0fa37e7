"""Where all sources come together: one task that gives ticks to the window and the book of minutes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from core.clock import Clock
from core.types import Mode
from market.ingest.metrics import SourceMetrics
from market.minutes import MinuteBook
from market.ticks import Batch
from market.window import Window

MAX_WAITING = 50_000
"""Ticks that may wait for the collector. Workers wait beyond it, their queues fill, and the oldest ticks go there."""
_AT_ONCE = 10_000
"""Ticks between turns of the event loop: a few milliseconds."""


class Collector:
    """The way into one mode's window and minutes. `run` until cancelled."""

    def __init__(self, *, mode: Mode, window: Window, book: MinuteBook, clock: Clock, metrics: SourceMetrics) -> None:
        self._mode = str(mode)
        self._window = window
        self._book = book
        self._clock = clock
        self._metrics = metrics
        self._pending: list[Batch] = []
        self.waiting = 0
        """Ticks that wait."""
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._busy = False

    async def put(self, batches: Sequence[Batch]) -> None:
        """Hand over ticks in order; waits while too many wait."""
        while self.waiting >= MAX_WAITING:
            self._room.clear()
            await self._room.wait()
        self._pending.extend(batches)
        self.waiting += sum(len(batch.times) for batch in batches)
        self._wake.set()

    async def run(self) -> None:
        while True:
            if not self._pending:
                self._busy = False
                self._room.set()
                self._wake.clear()
                await self._wake.wait()
            self._busy = True
            pending, self._pending = self._pending, []
            start = count = 0
            for index, batch in enumerate(pending, 1):
                count += len(batch.times)
                if count >= _AT_ONCE or index == len(pending):
                    await self._collect(pending[start:index])
                    self.waiting -= count
                    self._room.set()
                    start, count = index, 0
                    await asyncio.sleep(0)

    async def _collect(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            self._metrics.took(batch.exchange, self._mode, len(batch.times))
        self._book.add(batches)
        await self._window.add(batches, self._clock.now_ms())

    async def drained(self) -> None:
        """Wait until all that was put has been collected."""
        while self._pending or self._busy:
            self._room.clear()
            await self._room.wait()
