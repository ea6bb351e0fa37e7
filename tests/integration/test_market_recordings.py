"""Real exchanges' recorded sessions through the market data, at their own times: answers as plain lists give them.

Embedded, and with the real servers: then Redis' own answers and PostgreSQL's rows are compared with the lists too.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from uuid import uuid4

import pytest
import redis.asyncio as redis

from benchmarks.recorded import RECORDED, Recording, pairs
from core.clock import FixedClock
from core.settings import MarketSettings
from core.types import Mode
from market.minutes import MINUTE_MS
from market.redis_window import RedisWindow
from market.service import MarketService
from market.store import SqlMinuteStore
from sources.latest import Line, Track
from sources.stream_reader import StreamReader, Trade, Update
from tests.support.databases import own_database
from tests.support.market import Running, running, until

CHECKS = 6
WINDOW_MS = 300_000
PERIODS = {"1s": 1_000, "10s": 10_000, "1m": 60_000, "5m": 300_000}


Ticks = dict[str, list[tuple[int, Decimal]]]
"""By symbol: time and price, in the order of arrival."""


async def arrive(service: MarketService, source: str) -> None:
    await service._intake.queues[source].drained()
    await service._intake.collector.drained()


async def compare(market: Running, ticks: Ticks, now_ms: int) -> None:
    for symbol, own in ticks.items():
        inside = [(t, p) for t, p in own if t > now_ms - WINDOW_MS]
        newest = max(t for t, _ in inside)
        latest = await market.get(f"/prices/latest/{symbol}")
        assert (latest["timestamp"], Decimal(latest["price"])) == (newest, [p for t, p in inside if t == newest][-1])
        for period, length_ms in PERIODS.items():
            prices = [p for t, p in inside if t > now_ms - length_ms]
            answer = await market.get(f"/prices/average/{symbol}", period=period)
            if not prices:
                assert answer["code"] == "no_ticks"
                continue
            assert answer["count"] == len(prices)
            exact = sum(map(Fraction, prices), Fraction(0)) / len(prices)
            assert abs(Fraction(answer["price"]) - exact) <= Fraction(1, 2 * 10**18)
            highest = await market.get(f"/prices/highest/{symbol}", period=period)
            lowest = await market.get(f"/prices/lowest/{symbol}", period=period)
            assert (Decimal(highest["price"]), Decimal(lowest["price"])) == (max(prices), min(prices))


async def compare_redis(copy: RedisWindow, ticks: Ticks, now_ms: int) -> None:
    for symbol, own in ticks.items():
        inside = [(t, p) for t, p in own if t > now_ms - WINDOW_MS]
        latest = await copy.latest(symbol, None, now_ms)
        assert latest is not None
        newest = max(t for t, _ in inside)
        assert (latest.time_ms, latest.price) == (newest, [p for t, p in inside if t == newest][-1])
        kept = await copy.ticks(symbol, latest.exchange, now_ms - WINDOW_MS, now_ms)
        assert [(tick.time_ms, tick.price) for tick in kept] == sorted(inside, key=lambda tick: tick[0])


async def compare_minutes(market: Running, store: SqlMinuteStore, ticks: Ticks, now_ms: int) -> None:
    await market.service.keeper.flush()
    for symbol, own in ticks.items():
        expected: dict[int, list[Decimal]] = {}
        for time_ms, price in own:
            expected.setdefault(time_ms // MINUTE_MS * MINUTE_MS, []).append(price)
        found = await store.read(Mode.TEST, symbol, None, 0, now_ms + 1)
        assert {row.minute_ms: (row.count, row.total, row.low, row.high) for row in found} == {
            minute_ms: (len(prices), sum(prices), min(prices), max(prices)) for minute_ms, prices in expected.items()
        }
        assert len(found) == len(expected)


class Servers:
    """Where a service keeps its window and its minutes."""

    def __init__(self, store: SqlMinuteStore, redis_url: str | None, prefix: str) -> None:
        self.store = store
        self.settings = {"redis_url": redis_url, "redis_prefix": prefix}
        self.copy: RedisWindow | None = None
        if redis_url is not None:
            self.copy = RedisWindow(redis_url, prefix=prefix, mode=Mode.TEST, retention_ms=WINDOW_MS, timeout_s=20)


@contextlib.asynccontextmanager
async def real_servers(redis_url: str, postgres_url: str) -> AsyncIterator[Servers]:
    prefix = f"recording-{uuid4().hex[:12]}"
    async with own_database(postgres_url) as url:
        servers = Servers(SqlMinuteStore(url, timeout_s=20), redis_url, prefix)
        yield servers
        assert servers.copy is not None
        await servers.copy.close()
    client: redis.Redis = redis.Redis.from_url(redis_url, socket_timeout=60)
    if keys := [key async for key in client.scan_iter(f"{prefix}:*", count=1_000)]:
        await client.unlink(*keys)
    await client.aclose()


@pytest.fixture(
    params=[
        "embedded",
        pytest.param("redis and postgresql", marks=[pytest.mark.needs_redis, pytest.mark.needs_postgres]),
    ]
)
async def servers(
    request: pytest.FixtureRequest, redis_url: str, postgres_url: str, tmp_path: Path
) -> AsyncIterator[Servers]:
    if request.param == "embedded":
        yield Servers(SqlMinuteStore(f"sqlite+aiosqlite:///{tmp_path / 'market.sqlite'}"), None, "unused")
        return
    async with real_servers(redis_url, postgres_url) as found:
        yield found


@pytest.mark.needs_recordings
@pytest.mark.parametrize("recording", RECORDED, ids=lambda each: each.name)
async def test_a_recorded_session_is_answered_as_plain_lists_of_its_trades_would_be(
    recording: Recording, servers: Servers, tmp_path: Path
) -> None:
    entry, messages = recording.entry(), recording.messages()
    clock = FixedClock(messages[0][0])
    own = tuple(str(pair) for pair in pairs(recording))
    settings = MarketSettings.model_validate({"exchanges": (entry.name,), "tcp": {}, "pairs": own, **servers.settings})
    symbols = {pair: symbol for symbol, pair in settings.symbols.items()}
    ticks: Ticks = {}
    total = 0

    service: MarketService | None = None

    def take(update: Update) -> None:
        nonlocal total
        assert service is not None
        service._intake._streams._take(update)
        if isinstance(update, Trade):
            when = update.received_ms if update.time_ms is None else min(update.time_ms, update.received_ms)
            if when > update.received_ms - WINDOW_MS:  # what an exchange sends of the past, at the beginning
                ticks.setdefault(symbols[update.pair], []).append((when, update.price))
            total += 1

    reader = StreamReader(entry, {pair: Track(Line()) for pair in pairs(recording)}, take)
    catalogue = {entry.name: entry}
    async with running(settings, tmp_path, store=servers.store, clock=clock, catalogue=catalogue) as market:
        service = market.service
        mirror = service._side.mirror
        if mirror is not None:
            await until(lambda: mirror.up, "Redis")
        step = -(-len(messages) // CHECKS)
        for number, (at, raw) in enumerate(messages, 1):
            clock.advance(max(0, at - clock.now_ms()))
            reader.feed(raw, clock.now_ms())
            if number % 2_000 == 0:
                await arrive(service, entry.name)
            if number % step == 0 or number == len(messages):
                await arrive(service, entry.name)
                await compare(market, ticks, clock.now_ms())
                if servers.copy is not None and mirror is not None:
                    await mirror.settle(60)
                    await compare_redis(servers.copy, ticks, clock.now_ms())
        await compare_minutes(market, servers.store, ticks, clock.now_ms())
        assert market.counted() == total
        assert sum(service.metrics.taken.values()) == sum(map(len, ticks.values()))
    if recording.name == "binance 2024":
        ahead = [json.loads(raw)["data"]["T"] - at for at, raw in messages[:2_000] if b"@trade" in raw]
        assert min(ahead) > 1_000, "the exchange's clock runs ahead in this one, and no tick speaks for the future"
