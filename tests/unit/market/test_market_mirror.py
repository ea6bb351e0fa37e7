"""The window's copy in Redis: what it is given, and when; ticks come in whatever it does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal

import pytest
from prometheus_client import CollectorRegistry

from core.clock import FixedClock
from core.logs import get_logger
from core.types import Mode
from market.errors import WindowUnavailableError
from market.ingest.metrics import SourceMetrics
from market.ingest.workers import Numbers
from market.memory import MemoryWindow
from market.mirror import MirroredWindow
from market.redis_window import RedisWindow
from market.ticks import Batch, Tick
from market.window import Slot
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
        self.forgotten: list[Slot] = []

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

    async def forget(self, slots: Sequence[Slot]) -> None:
        self._call()
        self.forgotten += slots
        for second, symbol, exchange in slots:
            own = self.kept.get((symbol, exchange), [])
            own[:] = [tick for tick in own if tick.time_ms // 1_000 != second]

    async def begin(self) -> None:
        self._call()

    async def confirm(self) -> None:
        self._call()

    async def ping(self) -> str:
        self._call()
        return "answers"

    def prices(self) -> list[int]:
        return [int(tick.price) for own in self.kept.values() for tick in own]


def mirrored(copy: Copy, max_pending: int = 100, clock: FixedClock | None = None) -> MirroredWindow:
    return MirroredWindow(
        MemoryWindow(retention_ms=RETENTION_MS, max_ticks=10_000),
        copy,
        symbols=["X"],
        clock=clock or FixedClock(NOW),
        logger=get_logger("market", Mode.TEST),
        numbers=Numbers(),
        left_out=SourceMetrics(CollectorRegistry()).left_out.labels("test"),
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
    assert await mirror.load() == 1
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
        await until(lambda: mirror.level, "the window in Redis")
        await mirror.add([batch(3)], NOW)
        await mirror.settle(5)
        assert (copy.prices(), copy.told) == ([1, 2, 3], [3])


async def test_what_comes_while_the_window_is_given_anew_waits_for_no_one_and_is_told() -> None:
    copy = Copy()
    mirror = mirrored(copy)
    await mirror.add([batch(*range(1, 31))], NOW)
    copy.may_write.clear()
    async with copying(mirror):
        await until(lambda: copy.writes == 1, "the window")
        async with asyncio.timeout(1):
            await mirror.add([batch(31, 32)], NOW)
        assert (mirror.up, mirror.waiting, mirror.level) == (True, 2, False)
        copy.may_write.set()
        await mirror.settle(5)
        assert mirror.level
        assert (copy.prices(), copy.told) == (list(range(1, 33)), [31, 32])


async def test_what_is_too_much_is_left_out_but_for_the_newest_and_written_once_there_is_time() -> None:
    copy = Copy()
    mirror = mirrored(copy, max_pending=10)
    async with copying(mirror):
        await until(lambda: mirror.level, "Redis")
        copy.may_write.clear()
        await mirror.add([batch(1, 2, before_ms=2_000)], NOW)
        await until(lambda: copy.writes == 1, "a write")
        async with asyncio.timeout(1):
            for first in range(3, 43, 4):
                await mirror.add([batch(*range(first, first + 4), before_ms=1_000)], NOW)
        assert (mirror.up, mirror.level, mirror.waiting) == (True, False, 8)
        assert mirror.left_out == 32  # of ten batches of four the last of each three that were too many, and the tenth
        with pytest.raises(WindowUnavailableError, match=r"it takes fewer .*1 seconds .*32 ticks were left out"):
            await mirror.check()
        copy.may_write.set()
        await mirror.settle(5)
        assert await mirror.check() == f"{mirror.written} ticks written, 0 wait"
        assert copy.prices() == list(range(1, 43))
        assert copy.told[-1] == 42
        assert copy.forgotten == [Slot(NOW // 1_000 - 1, "X", "one")]  # the second before it stays as it was


async def test_a_redis_that_is_always_too_slow_has_the_latest_price_and_is_never_given_the_window_anew() -> None:
    copy = Copy()
    clock = FixedClock(NOW)
    mirror = mirrored(copy, max_pending=10, clock=clock)
    async with copying(mirror):
        await until(lambda: mirror.level, "Redis")
        copy.may_write.clear()
        for second in range(60):  # three windows' time
            price = 20 * second
            for first in range(price, price + 20, 4):
                await mirror.add([batch(*range(first + 1, first + 5), before_ms=NOW - clock.now_ms())], clock.now_ms())
            writes = copy.writes
            copy.may_write.set()
            await until(lambda writes=writes: copy.writes > writes, "a write")  # type: ignore[misc]
            copy.may_write.clear()
            clock.advance(1_000)
        assert mirror.left_out > 500
        assert len(mirror._missing) <= RETENTION_MS // 1_000 + 1
        assert mirror.memory.newest("X", None, clock.now_ms()).price == 1_200  # type: ignore[union-attr]
        copy.may_write.set()
        await mirror.settle(5)
        since = clock.now_ms() - RETENTION_MS
        kept = [int(tick.price) for tick in copy.kept["X", "one"] if tick.time_ms > since]
        assert sorted(kept) == [int(tick.price) for tick in await mirror.ticks("X", "one", since, clock.now_ms())]
        assert copy.told[-1] == 1_200
        assert len(copy.forgotten) == len(set(copy.forgotten))


async def test_a_redis_that_goes_away_is_given_all_of_it_when_it_returns() -> None:
    copy = Copy()
    mirror = mirrored(copy)
    async with copying(mirror):
        await mirror.add([batch(1, before_ms=3_000), batch(2)], NOW)
        await until(lambda: mirror.level, "Redis")
        copy.left = 0
        await mirror.add([batch(3)], NOW)
        await until(lambda: not mirror.up, "its loss")
        copy.kept.clear()
        await mirror.add([batch(4)], NOW)
        assert mirror.waiting == 0
        copy.left = None
        await until(lambda: mirror.level, "Redis")
        assert sorted(copy.prices()) == [1, 2, 3, 4]


async def test_a_second_that_is_written_anew_is_numbered_below_what_comes_after_it() -> None:
    mirror = mirrored(Copy())
    await mirror.add([batch(1, 2, 3)], NOW)
    numbers = Numbers()
    slot = Slot(NOW // 1_000, "X", "one")
    first, second = mirror.memory.batches(slot, 2, numbers)
    assert (list(first.prices), list(second.prices)) == ([1, 2], [3])
    assert second.number == first.number + 2 < numbers(1)
