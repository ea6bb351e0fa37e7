"""The window's copy in Redis: what it is given, and when; ticks come in whatever it does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal

from core.clock import FixedClock
from core.logs import get_logger
from core.types import Mode
from market.errors import WindowUnavailableError
from market.ingest.workers import Numbers
from market.memory import MemoryWindow
from market.mirror import MirroredWindow
from market.redis_window import RedisWindow
from market.ticks import Batch, Tick
from tests.support.market import until

NOW = 1_700_000_000_000
RETENTION_MS = 20_000


class Copy(RedisWindow):
    """A Redis that keeps prices in the order in which they came. left: calls until it is down; None: it stays up."""

    def __init__(self) -> None:
        super().__init__("redis://nowhere", prefix="x", mode=Mode.TEST, retention_ms=RETENTION_MS)
        self.kept: dict[tuple[str, str], list[Tick]] = {}
        self.told: list[Decimal] = []
        self.left: int | None = None
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.writes = 0

    def _call(self) -> None:
        if self.left is not None:
            if self.left == 0:
                raise WindowUnavailableError("Redis: down")
            self.left -= 1

    async def add(self, batches: Sequence[Batch], now_ms: int, *, publish: bool = True) -> None:
        self._call()
        self.writes += 1
        await self.may_write.wait()
        for batch in batches:
            own = self.kept.setdefault((batch.symbol, batch.exchange), [])
            for time_ms, price in zip(batch.times, batch.prices, strict=True):
                own.append(Tick(exchange=batch.exchange, symbol=batch.symbol, price=Decimal(price), time_ms=time_ms))
                if publish:
                    self.told.append(Decimal(price))

    async def exchanges(self, symbol: str) -> list[str]:
        self._call()
        return sorted(exchange for own, exchange in self.kept if own == symbol)

    async def ticks(self, symbol: str, exchange: str, since_ms: int, now_ms: int) -> list[Tick]:
        self._call()
        return [tick for tick in self.kept[symbol, exchange] if since_ms < tick.time_ms <= now_ms]

    async def forget(self, symbol: str, exchange: str) -> None:
        self._call()
        self.kept.pop((symbol, exchange), None)

    async def ping(self) -> str:
        self._call()
        return "answers"

    def prices(self) -> list[int]:
        return [int(tick.price) for own in self.kept.values() for tick in own]


def mirrored(copy: Copy, max_pending: int = 100) -> MirroredWindow:
    return MirroredWindow(
        MemoryWindow(retention_ms=RETENTION_MS, max_ticks=10_000),
        copy,
        clock=FixedClock(NOW),
        logger=get_logger("market", Mode.TEST),
        numbers=Numbers(),
        max_pending=max_pending,
        retry_s=0.01,
    )


def batch(*prices: int, before_ms: int = 0) -> Batch:
    times = [NOW - before_ms] * len(prices)
    return Batch(exchange="one", symbol="X", times=times, prices=list(prices), digits=0, number=prices[0])


@contextlib.asynccontextmanager
async def copying(mirror: MirroredWindow) -> AsyncIterator[None]:
    task = asyncio.create_task(mirror.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_window_that_was_half_read_when_redis_went_away_is_read_to_its_end_and_not_wiped() -> None:
    copy = Copy()
    await copy.add([batch(1, before_ms=18_000), batch(2, before_ms=12_000), batch(3, before_ms=500)], NOW)
    copy.told.clear()
    mirror = mirrored(copy)
    copy.left = 2  # which exchanges there are, and the first of four pieces
    assert await mirror.load(["X"]) == 1
    async with copying(mirror):
        await mirror.add([batch(4)], NOW)
        copy.left = None
        await until(lambda: mirror.up, "Redis")
        await mirror.settle(5)
    assert sorted(copy.prices()) == [1, 2, 3, 4]
    assert [int(tick.price) for tick in await mirror.ticks("X", "one", NOW - RETENTION_MS, NOW)] == [1, 2, 3, 4]
    assert copy.told == []


async def test_what_is_written_anew_is_old_news_and_what_comes_after_is_told() -> None:
    copy = Copy()
    mirror = mirrored(copy)
    await mirror.add([batch(1, 2)], NOW)
    async with copying(mirror):
        await until(lambda: mirror.resyncs == 1, "the window in Redis")
        await mirror.add([batch(3)], NOW)
        await mirror.settle(5)
        assert (copy.prices(), copy.told) == ([1, 2, 3], [3])


async def test_during_a_resync_ticks_come_in_without_waiting_and_are_written_in_passes() -> None:
    copy = Copy()
    mirror = mirrored(copy, max_pending=10)
    await mirror.add([batch(*range(1, 31))], NOW)
    copy.may_write.clear()
    async with copying(mirror):
        await until(lambda: copy.writes == 1, "the first pass")
        assert (mirror.up, mirror.last_fault) == (False, "it is given the whole window anew")
        async with asyncio.timeout(1):
            await mirror.add([batch(*range(31, 51))], NOW)
        assert (mirror.up, mirror.waiting) == (False, 0)
        copy.may_write.set()
        assert not mirror.level
        await mirror.settle(5)
        assert (mirror.level, mirror.resyncs) == (True, 1)
        assert copy.prices() == list(range(1, 51))


async def test_a_redis_that_takes_fewer_than_come_in_is_left_behind_and_given_all_of_it_later() -> None:
    copy = Copy()
    mirror = mirrored(copy, max_pending=10)
    async with copying(mirror):
        await until(lambda: mirror.resyncs == 1, "Redis")
        copy.may_write.clear()
        async with asyncio.timeout(1):
            for first in range(1, 41, 4):
                await mirror.add([batch(*range(first, first + 4))], NOW)
        assert (mirror.up, mirror.waiting) == (False, 0)
        assert "takes fewer than come in" in mirror.last_fault
        copy.may_write.set()
        await until(lambda: mirror.resyncs == 2, "the window in Redis")
        await mirror.settle(5)
        assert copy.prices() == list(range(1, 41))


async def test_a_redis_that_is_left_behind_in_the_last_pass_gets_another() -> None:
    copy = Copy()
    mirror = mirrored(copy, max_pending=10)
    await mirror.add([batch(1, 2, 3)], NOW)
    copy.may_write.clear()
    async with copying(mirror):
        await until(lambda: copy.writes == 1, "the last pass")
        assert mirror.up
        await mirror.add([batch(*range(4, 20))], NOW)
        assert not mirror.up
        copy.may_write.set()
        await until(lambda: mirror.resyncs == 1, "the window in Redis")
        await mirror.settle(5)
        assert copy.prices() == list(range(1, 20))
