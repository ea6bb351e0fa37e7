"""What every window promises: each tick counts once, for as long as it is retained, exactly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from uuid import uuid4

import pytest
import redis.asyncio as redis

from core.types import Mode
from market.memory import MemoryWindow
from market.redis_window import RedisWindow
from market.ticks import Batch, scaled
from market.window import Window

NOW = 1_700_000_100_000
RETENTION_MS = 300_000


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.needs_redis)])
async def window(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Window]:
    if request.param == "memory":
        yield MemoryWindow(retention_ms=RETENTION_MS, max_ticks=1_000_000)
        return
    prefix = f"test-{uuid4().hex[:12]}"
    kept = RedisWindow(redis_url, prefix=prefix, mode=Mode.TEST, retention_ms=RETENTION_MS, timeout_s=5)
    yield kept
    await kept.close()
    client: redis.Redis = redis.Redis.from_url(redis_url)
    if keys := [key async for key in client.scan_iter(f"{prefix}:*")]:
        await client.unlink(*keys)
    await client.aclose()


_arrived = 0


def batch(*ticks: tuple[int, str], exchange: str = "one", symbol: str = "BTCUSDT") -> Batch:
    """Ticks as (milliseconds before NOW, price), arriving now."""
    global _arrived  # noqa: PLW0603 - arrival numbers rise over all batches, as the collector's do
    found = scaled([Decimal(price) for _, price in ticks])
    assert found is not None
    _arrived += len(ticks)
    return Batch(
        exchange=exchange,
        symbol=symbol,
        times=[NOW - before for before, _ in ticks],
        prices=found[0],
        digits=found[1],
        number=_arrived - len(ticks),
    )


async def summary(window: Window, period_ms: int, exchange: str | None = None, at_ms: int = NOW) -> tuple[str, ...]:
    """Count, average, lowest, highest over a period."""
    span = await window.span("BTCUSDT", exchange, at_ms - period_ms, at_ms)
    if span is None:
        return ()
    totals = span.totals
    return str(totals.count), str(totals.average), str(totals.lowest), str(totals.highest)


async def test_a_window_without_ticks_has_no_answer(window: Window) -> None:
    assert await window.latest("BTCUSDT", None, NOW) is None
    assert await window.span("BTCUSDT", None, NOW - 60_000, NOW) is None
    assert await window.ticks("BTCUSDT", "one", NOW - 60_000, NOW) == []


async def test_a_period_is_open_at_its_old_end_and_closed_at_now(window: Window) -> None:
    await window.add([batch((1_000, "1"), (999, "2"), (0, "4"))], NOW)
    assert await summary(window, 1_000) == ("2", "3", "2", "4")
    assert await summary(window, 1_001) == ("3", "2.333333333333333333", "1", "4")


async def test_a_thousand_ticks_of_equal_price_and_time_count_a_thousand(window: Window) -> None:
    for _ in range(10):
        await window.add([batch(*[(10, "7.5")] * 100)], NOW)
    assert await summary(window, 1_000) == ("1000", "7.5", "7.5", "7.5")


async def test_averages_are_exact_whatever_the_digits(window: Window) -> None:
    await window.add([batch((5, "0.1"), (4, "0.2")), batch((3, "0.000000000000001")), batch((2, "3"))], NOW)
    count, average, lowest, highest = await summary(window, 1_000)
    assert (count, lowest, highest) == ("4", "1E-15", "3")
    assert average == "0.82500000000000025"
    await window.add([batch((1, "999999999999999.123456789012345678"))], NOW)
    assert (await summary(window, 1_000))[3] == "999999999999999.123456789012345678"


async def test_each_exchange_is_kept_by_itself(window: Window) -> None:
    await window.add([batch((5, "1")), batch((5, "3"), exchange="two"), batch((5, "9"), symbol="ETHUSDT")], NOW)
    assert await summary(window, 1_000, "one") == ("1", "1", "1", "1")
    assert await summary(window, 1_000, "two") == ("1", "3", "3", "3")
    assert await summary(window, 1_000) == ("2", "2", "1", "3")
    assert await summary(window, 1_000, "three") == ()


async def test_the_latest_is_the_newest_by_time_then_arrival_and_says_whose_it_is(window: Window) -> None:
    await window.add([batch((50, "1"), (10, "2"), (30, "3"))], NOW)
    await window.add([batch((20, "4"), exchange="two")], NOW)
    found = await window.latest("BTCUSDT", None, NOW)
    assert found is not None
    assert (found.exchange, found.price, found.time_ms) == ("one", Decimal(2), NOW - 10)
    await window.add([batch((10, "5"), exchange="two")], NOW)
    found = await window.latest("BTCUSDT", None, NOW)
    assert found is not None
    assert (found.exchange, found.price) == ("two", Decimal(5))
    await window.add([batch((40, "6"), exchange="two")], NOW)
    late = await window.latest("BTCUSDT", "two", NOW)
    assert late is not None
    assert late.price == Decimal(5)


async def test_what_comes_late_and_out_of_order_counts_where_it_belongs(window: Window) -> None:
    await window.add([batch((100, "1"), (2_500, "5"))], NOW)
    await window.add([batch((61_000, "3"), (2_700, "7"), (1_500, "9"))], NOW)
    assert await summary(window, 1_000) == ("1", "1", "1", "1")
    assert await summary(window, 2_600) == ("3", "5", "1", "9")
    assert await summary(window, 120_000) == ("5", "5", "1", "9")
    times = [tick.time_ms for tick in await window.ticks("BTCUSDT", "one", NOW - 120_000, NOW)]
    assert times == [NOW - 61_000, NOW - 2_700, NOW - 2_500, NOW - 1_500, NOW - 100]


async def test_ticks_of_one_time_come_back_in_the_order_of_arrival(window: Window) -> None:
    await window.add([batch((10, "9"), (10, "1"), (10, "5"))], NOW)
    await window.add([batch((10, "3"))], NOW)
    assert [str(tick.price) for tick in await window.ticks("BTCUSDT", "one", NOW - 100, NOW)] == ["9", "1", "5", "3"]


async def test_old_entries_are_forgotten(window: Window) -> None:
    await window.add([batch((1_000, "1"), (0, "2"))], NOW)
    assert await summary(window, RETENTION_MS, at_ms=NOW + RETENTION_MS - 1_001) == ("2", "1.5", "1", "2")
    assert await summary(window, RETENTION_MS, at_ms=NOW + RETENTION_MS - 1) == ("1", "2", "2", "2")
    assert await summary(window, RETENTION_MS, at_ms=NOW + RETENTION_MS) == ()
    assert await window.latest("BTCUSDT", None, NOW + RETENTION_MS) is None
    later = NOW + 2 * RETENTION_MS
    await window.add([batch((-2 * RETENTION_MS, "3"))], later)
    assert len(await window.ticks("BTCUSDT", "one", 0, later)) == 1


@pytest.mark.needs_redis
async def test_redis_holds_no_entry_that_is_older_than_the_retention(redis_url: str) -> None:
    prefix = f"test-{uuid4().hex[:12]}"
    kept = RedisWindow(redis_url, prefix=prefix, mode=Mode.TEST, retention_ms=1_000, timeout_s=5)
    client: redis.Redis = redis.Redis.from_url(redis_url, decode_responses=True)
    listener = client.pubsub()
    await listener.subscribe(f"{prefix}:test:prices:BTCUSDT")
    await kept.add([batch((900, "1"), (0, "65000.10"))], NOW)
    key = f"{prefix}:test:ticks:one:BTCUSDT"
    assert [(m[17:], score) for m, score in await client.zrange(key, 0, -1, withscores=True)] == [
        ("100e-2", NOW - 900.0),
        ("6500010e-2", float(NOW)),
    ]
    assert await client.get(f"{prefix}:test:latest:BTCUSDT") == (
        f'{{"exchange":"one","symbol":"BTCUSDT","price":"65000.1","time_ms":{NOW},"mode":"test"}}'
    )
    await kept.add([batch((-1_500, "2"))], NOW + 1_500)
    assert [member[17:] for member in await client.zrange(key, 0, -1)] == ["2e-0"]
    messages = []
    async for message in listener.listen():
        if message["type"] == "message":
            messages.append(message["data"])
        if len(messages) == 2:
            break
    assert '"price":"65000.1"' in messages[0]
    assert messages[0].endswith('"count":2}')
    await listener.aclose()
    await client.unlink(*[key async for key in client.scan_iter(f"{prefix}:*")])
    await client.aclose()
    await kept.close()
