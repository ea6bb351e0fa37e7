"""What a worker does with the chunks of a symbol: whose time counts, what is a price, whole numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from market.ingest.collector import Collector
from market.ingest.metrics import SourceMetrics
from market.ingest.queues import Chunk, SourceQueue
from market.ticks import Batch, scaled, settled, sound


class Numbers:
    """Arrival numbers, rising, and never used twice: they begin at the wall clock's microseconds."""

    def __init__(self, first: int | None = None) -> None:
        self._next = time.time_ns() // 1_000 if first is None else first

    def __call__(self, count: int) -> int:
        """The first of `count` new ones."""
        first = self._next
        self._next += count
        return first


class Refinery:
    """Makes chunks into batches. It remembers how finely each symbol is priced, so that batches are scaled alike."""

    def __init__(
        self, source: str, *, retention_ms: int, numbers: Callable[[int], int], metrics: SourceMetrics
    ) -> None:
        self._source = source
        self._retention_ms = retention_ms
        self._numbers = numbers
        self._metrics = metrics
        self._digits: dict[str, int] = {}

    def batches(self, symbol: str, chunks: Sequence[Chunk]) -> list[Batch]:
        """In the order in which they came; what is late, ahead or no price is counted and left out."""
        made = []
        least = self._digits.get(symbol, 0)
        for chunk in chunks:
            timed = settled(chunk.times, chunk.prices, received_ms=chunk.received_ms, retention_ms=self._retention_ms)
            if timed.late or timed.ahead:
                self._metrics.dropped(self._source, "late", timed.late)
                self._metrics.dropped(self._source, "ahead", timed.ahead)
            times, prices = timed.times, timed.prices
            if not prices:
                continue
            found = scaled(prices, least)
            if found is None:
                kept = [(when, price) for when, price in zip(times, prices, strict=True) if sound(price)]
                self._metrics.dropped(self._source, "invalid", len(prices) - len(kept))
                times, prices = [when for when, _ in kept], [price for _, price in kept]
                found = scaled(prices, least) if kept else None
                if found is None:
                    continue
            whole, digits = found
            least = self._digits[symbol] = digits
            made.append(
                Batch(
                    exchange=self._source,
                    symbol=symbol,
                    times=times,
                    prices=whole,
                    digits=digits,
                    number=self._numbers(len(times)),
                    volume=chunk.volume,
                )
            )
        return made


async def work(index: int, queue: SourceQueue, refinery: Refinery, collector: Collector) -> None:
    """One worker of a source, until cancelled."""
    while True:
        symbol, chunks = await queue.take(index)
        try:
            if batches := refinery.batches(symbol, chunks):
                await collector.put(batches)
        finally:
            queue.done()
