"""Ten times the ticks that are taken, over a real socket: bounded, counted, in order, and the latest price is right."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from core.clock import FixedClock
from market.ingest.collector import MAX_WAITING
from market.ticks import Batch
from market.window import Window
from tests.support.market import Sender, line, running, settings_for, until

NOW = 1_700_000_070_000
QUEUE_TICKS = 2_000
A_STEP = 10_000
STEPS = 40
SYMBOLS = ("BTCUSDT", "ETHUSDT")


class Rationed:
    """The way into a window that takes no more ticks than it was given leave for."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._leave = 0
        self._more = asyncio.Event()

    def give(self, ticks: int) -> None:
        self._leave += ticks
        self._more.set()

    async def add(self, batches: Sequence[Batch], now_ms: int) -> None:
        await self._window.add(batches, now_ms)
        self._leave -= sum(len(batch.times) for batch in batches)
        while self._leave < 0:
            self._more.clear()
            await self._more.wait()


async def test_ten_times_the_ticks_that_are_taken_are_bounded_counted_and_in_order(tmp_path: Path) -> None:
    sender = await Sender().start()
    settings = settings_for({"exchange1": sender}, queue_ticks=QUEUE_TICKS)
    async with running(settings, tmp_path, clock=FixedClock(NOW)) as market:
        intake, metrics = market.service._intake, market.service.metrics
        collector, queue = intake.collector, intake.queues["exchange1"]
        rationed = Rationed(collector._window)
        collector._window = rationed  # type: ignore[assignment]
        in_workers = QUEUE_TICKS * len(SYMBOLS)  # each symbol's worker may have a full queue in hand

        def seen() -> int:
            return market.counted() + queue.size + collector.waiting

        sent = 0
        for _ in range(STEPS):
            rationed.give(A_STEP // 10)
            await sender.send(
                b"".join(line(SYMBOLS[price % 2], price, NOW) for price in range(sent + 1, sent + A_STEP + 1))
            )
            sent += A_STEP
            await until(lambda: seen() >= sent - in_workers, "the step", 60)  # noqa: B023 - awaited in the step
            assert queue.size <= QUEUE_TICKS
            assert collector.waiting <= MAX_WAITING + in_workers
        taken = metrics.taken["exchange1"]
        assert sent == 400_000
        assert sent // 12 <= taken <= sent // 10 + MAX_WAITING
        assert (await market.get("/health"))["sources"]["exchange1"]["dropped"]["overflow"] > sent // 2

        rationed.give(sent)
        await market.arrived(sent)
        dropped = metrics.refused["exchange1", "overflow"]
        assert metrics.taken["exchange1"] + dropped == sent
        counts = 0
        for symbol in SYMBOLS:
            ticks = await market.service._side.memory.ticks(symbol, "exchange1", NOW - 1_000, NOW)
            assert all(one.price < other.price for one, other in pairwise(ticks))
            counts += len(ticks)
            answer = await market.get(f"/prices/average/{symbol}")
            assert answer["count"] == len(ticks)
            last = max(price for price in (sent - 1, sent) if SYMBOLS[price % 2] == symbol)
            assert (await market.get(f"/prices/latest/{symbol}"))["price"] == str(last)
        assert counts == metrics.taken["exchange1"]
    await sender.stop()
