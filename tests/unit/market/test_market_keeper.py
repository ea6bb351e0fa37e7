"""Minutes on their way to the database: a write that is cancelled, two at once, and runs that knew what it has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from core.clock import FixedClock
from core.logs import get_logger
from core.types import Mode
from market.errors import StoreUnavailableError
from market.ingest.metrics import SourceMetrics
from market.keeper import MinuteKeeper
from market.minutes import MinuteBook, MinuteRow
from market.spool import Spool
from market.ticks import Batch

START = 1_700_000_040_000
NOW = START + 30_000


class Store:
    """A database by the count rule. down: it refuses; slow: a call waits until `go` is set."""

    def __init__(self, rows: Sequence[MinuteRow] = ()) -> None:
        self.rows = {row.key: row for row in rows}
        self.down = False
        self.slow = False
        self.called = asyncio.Event()
        self.go = asyncio.Event()

    async def _answer(self) -> None:
        if self.down:
            raise StoreUnavailableError("it is down")
        if self.slow:
            self.called.set()
            await self.go.wait()

    async def open(self) -> None:
        await self._answer()

    async def write(self, rows: Sequence[MinuteRow]) -> None:
        await self._answer()
        for row in rows:
            if row.key not in self.rows or row.count >= self.rows[row.key].count:
                self.rows[row.key] = row

    async def read(self, mode: Mode, symbol: str, exchange: str | None, from_ms: int, to_ms: int) -> list[MinuteRow]:
        await self._answer()
        return [row for row in self.rows.values() if row.mode is mode and from_ms <= row.minute_ms < to_ms]

    async def prune(self, before_ms: int) -> None:
        await self._answer()

    async def ping(self) -> str:
        return "answers"

    async def close(self) -> None:
        return None

    def counts(self) -> list[int]:
        return [row.count for row in self.rows.values()]


class Run:
    """One run of the service, as far as minutes go: its spool's file outlives it."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.book = MinuteBook(Mode.TEST, retention_ms=300_000, grace_ms=2_000)
        self.spool = Spool(folder / "spool.jsonl", max_rows=100)
        self.clock = FixedClock(NOW)
        self.keeper = MinuteKeeper(
            store,
            self.spool,
            [self.book],
            clock=self.clock,
            logger=get_logger("market", Mode.TEST),
            metrics=SourceMetrics(CollectorRegistry()),
            symbols=("X",),
            window_ms=300_000,
            retry_s=0,
        )

    def tick(self, price: int) -> None:
        self.book.add([Batch(exchange="one", symbol="X", times=[NOW], prices=[price], digits=0, number=0)])


@pytest.mark.parametrize("ended", [True, False])
async def test_a_write_that_is_cancelled_leaves_its_minutes_to_the_flush(tmp_path: Path, ended: bool) -> None:
    store = Store()
    run = Run(tmp_path, store)
    await run.keeper.start()
    run.tick(5)
    run.clock.advance(60_000)
    store.slow = True
    step = asyncio.create_task(run.keeper.step())
    await store.called.wait()
    step.cancel()
    await asyncio.wait([step])
    assert step.cancelled()
    assert [row.total for row in run.spool.first(9)] == [Decimal(5)]
    if ended:
        store.slow = False
        await run.keeper.flush()
    else:  # it is killed before it can
        store.slow = False
        await Run(tmp_path, store).keeper.start()
    assert [(row.count, row.total) for row in store.rows.values()] == [(1, Decimal(5))]


async def test_a_flush_while_the_database_is_first_read_adds_its_row_once(tmp_path: Path) -> None:
    store = Store()
    first = Run(tmp_path, store)
    await first.keeper.start()
    first.tick(5)
    await first.keeper.flush()
    store.down = True
    run = Run(tmp_path, store)
    await run.keeper.start()
    run.tick(7)
    store.down, store.slow = False, True
    step = asyncio.create_task(run.keeper.step())
    await store.called.wait()
    flush = asyncio.create_task(run.keeper.flush())
    await asyncio.sleep(0)
    store.go.set()
    await asyncio.gather(step, flush)
    await run.keeper.flush()
    assert [(row.count, row.total) for row in store.rows.values()] == [(2, Decimal(12))]


async def test_a_cancelled_step_that_waits_for_another_write_loses_nothing(tmp_path: Path) -> None:
    store = Store()
    run = Run(tmp_path, store)
    await run.keeper.start()
    run.tick(5)
    store.slow = True
    flush = asyncio.create_task(run.keeper.flush())
    await store.called.wait()
    run.tick(6)
    run.clock.advance(60_000)
    step = asyncio.create_task(run.keeper.step())
    await asyncio.sleep(0)
    step.cancel()
    await asyncio.wait([step])
    store.go.set()
    await flush
    assert store.counts() == [2]
    assert len(run.spool) == 0


async def test_a_minute_that_holds_the_databases_row_is_never_added_to_it_again(tmp_path: Path) -> None:
    store = Store()
    first = Run(tmp_path, store)
    await first.keeper.start()
    first.tick(5)
    await first.keeper.flush()
    store.down = True
    first.tick(6)
    await first.keeper.flush()  # to the spool: 2 ticks, the database's one among them
    second = Run(tmp_path, store)
    await second.keeper.start()
    second.tick(7)
    await second.keeper.flush()
    assert [(row.count, row.alone) for row in second.spool.first(9)] == [(3, False)]
    store.down = False
    second.tick(8)
    await second.keeper.flush()
    await second.keeper.flush()
    assert [(row.count, row.total) for row in store.rows.values()] == [(4, Decimal(26))]
