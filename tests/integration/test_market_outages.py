"""The market data while its servers are away: Redis killed under load, PostgreSQL cut off and frozen."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
import redis.asyncio as redis

from core.clock import FixedClock
from core.types import Mode
from market.errors import WindowUnavailableError
from market.minutes import MINUTE_MS
from market.redis_window import RedisWindow
from market.store import SqlMinuteStore
from market.ticks import Batch
from tests.e2e.system import free_port
from tests.support.cut_proxy import CutProxy
from tests.support.market import Running, Sender, line, running, settings_for, until

NOW = 1_700_000_070_000


class RedisServer:
    """A Redis of the test's own, to be killed."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", self._folder]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    started = RedisServer(tmp_path)
    yield started
    started.kill()


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    started = await Sender().start()
    yield started
    await started.stop()


async def load(market: Running, sender: Sender, stop: asyncio.Event) -> int:
    """Some thousand ticks a second of the price 1, 2, 3, …, until told to stop; how many."""
    sent = 0
    now = market.service.clock.now_ms
    for number in itertools.count(1):
        if stop.is_set():
            return sent
        await sender.send(line("BTCUSDT", number, now()) + b"".join(line("ETHUSDT", 7, now()) for _ in range(49)))
        sent += 50
        await asyncio.sleep(0.01)
    raise AssertionError


def redis_is(market: Running, up: bool) -> bool:
    mirror = market.service._side.mirror
    assert mirror is not None
    return mirror.up is up


@pytest.mark.needs_redis
async def test_redis_is_killed_under_load_and_comes_back_and_nothing_is_lost(
    server: RedisServer, sender: Sender, tmp_path: Path
) -> None:
    server.start()
    settings = settings_for({"exchange1": sender}, redis_url=server.url)
    async with running(settings, tmp_path) as market:
        await until(lambda: redis_is(market, True), "Redis")
        stop = asyncio.Event()
        loading = asyncio.create_task(load(market, sender, stop))
        await market.arrived(500)
        server.kill()
        await until(lambda: redis_is(market, False), "the loss to be noticed")
        lost_at = market.counted()
        body = await market.get("/health")
        assert (body["status"], body["dependencies"]["redis"]["status"]) == ("degraded", "down")
        assert "the window in memory goes on" in body["dependencies"]["redis"]["detail"]
        await market.arrived(lost_at + 500)
        during = await market.get("/prices/average/ETHUSDT", period="5m")
        assert (during["price"], during["count"] > lost_at * 49 // 50) == ("7", True)
        server.start()
        await until(lambda: redis_is(market, True), "Redis to be taken back")
        await market.arrived(market.counted() + 200)
        stop.set()
        sent = await loading
        await market.arrived(sent)
        mirror = market.service._side.mirror
        assert mirror is not None
        await mirror.settle(20)
        assert (await market.get("/health"))["dependencies"]["redis"]["status"] == "up"
        client: redis.Redis = redis.Redis.from_url(server.url, decode_responses=True)
        assert await client.zcard("fairmark:test:ticks:exchange1:ETHUSDT") == sent * 49 // 50
        prices = [Decimal(m[17:]) for m in await client.zrange("fairmark:test:ticks:exchange1:BTCUSDT", 0, -1)]
        assert prices == list(range(1, sent // 50 + 1))
        latest = json.loads(await client.get("fairmark:test:latest:BTCUSDT"))
        assert latest["price"] == str(sent // 50)
        await client.aclose()
        total = (await market.get("/prices/average/BTCUSDT", period="5m"))["count"]
        assert total == sent // 50


@pytest.mark.needs_redis
async def test_without_redis_at_the_start_the_window_in_memory_serves(
    server: RedisServer, sender: Sender, tmp_path: Path
) -> None:
    settings = settings_for({"exchange1": sender}, redis_url=server.url)
    async with running(settings, tmp_path) as market:
        await sender.send(line("BTCUSDT", 3, market.service.clock.now_ms()))
        await market.arrived(1)
        assert (await market.get("/prices/latest/BTCUSDT"))["price"] == "3"
        assert (await market.get("/health"))["status"] == "degraded"
        server.start()
        await until(lambda: redis_is(market, True), "Redis")
        assert market.service._side.mirror is not None
        await market.service._side.mirror.settle(20)
        assert (await market.get("/health"))["dependencies"]["redis"]["status"] == "up"


@pytest.mark.needs_redis
async def test_a_restarted_service_takes_the_window_up_from_redis(
    server: RedisServer, sender: Sender, tmp_path: Path
) -> None:
    server.start()
    settings = settings_for({"exchange1": sender}, redis_url=server.url)
    clock = FixedClock(NOW)
    async with running(settings, tmp_path, clock=clock) as market:
        await until(lambda: redis_is(market, True), "Redis")
        await sender.send(line("BTCUSDT", "1.5", NOW - 250_000) + line("BTCUSDT", 2, NOW) * 3)
        await market.arrived(4)
    clock.advance(1_000)
    async with running(settings, tmp_path, clock=clock) as market:
        found = await market.get("/prices/average/BTCUSDT", period="5m")
        assert (found["price"], found["count"]) == ("1.875", 4)
        assert (await market.get("/prices/latest/BTCUSDT"))["price"] == "2"


@pytest.mark.needs_redis
@pytest.mark.parametrize("told_by", ["the next tick", "a look in between"])
async def test_a_redis_that_was_restarted_while_nothing_came_is_given_the_window_anew(
    told_by: str, server: RedisServer, sender: Sender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client's next call connects again, and fails by nothing."""
    monkeypatch.setattr("market.mirror.CONFIRM_S", 0.05 if told_by == "a look in between" else 60.0)
    server.start()
    client: redis.Redis = redis.Redis.from_url(server.url)
    key = "fairmark:test:ticks:exchange1:BTCUSDT"
    async with running(settings_for({"exchange1": sender}, redis_url=server.url), tmp_path) as market:
        mirror = market.service._side.mirror
        assert mirror is not None
        await until(lambda: mirror.up, "Redis")
        now = market.service.clock.now_ms()
        await sender.send(line("BTCUSDT", 1, now) * 7)
        await market.arrived(7)
        await mirror.settle(20)
        assert await client.zcard(key) == 7
        await client.flushall()  # as a restart leaves it
        expected = 7
        if told_by == "the next tick":
            await sender.send(line("BTCUSDT", 2, now))
            expected = 8
        async with asyncio.timeout(20):
            while await client.zcard(key) != expected:  # noqa: ASYNC110 - Redis tells nobody
                await asyncio.sleep(0.02)
    await client.aclose()


@pytest.mark.needs_redis
async def test_after_a_restart_the_other_modes_window_is_there_too(
    server: RedisServer, sender: Sender, tmp_path: Path
) -> None:
    server.start()
    settings = settings_for({"exchange1": sender}, redis_url=server.url)
    clock = FixedClock(NOW)
    async with running(settings, tmp_path, clock=clock) as market:
        await until(lambda: redis_is(market, True), "Redis")
        await sender.send(line("BTCUSDT", 1, NOW - 200_000) + line("BTCUSDT", 2, NOW))
        await market.arrived(2)
        assert (await market.switch("live"))["changed"] is True
        await until(lambda: redis_is(market, True), "Redis")
        await until(lambda: bool(market.service._intake.states()["exchange1"]["up"]), "a connection")
        await sender.send(line("BTCUSDT", 7, NOW))
        await market.arrived(3)
    clock.advance(1_000)
    async with running(settings, tmp_path, clock=clock) as market:  # in test mode again
        found = await market.get("/prices/average/BTCUSDT", period="5m")
        assert (found["price"], found["count"], found["mode"]) == ("1.5", 2, "test")
        await market.switch("live")
        found = await market.get("/prices/average/BTCUSDT", period="5m")
        assert (found["price"], found["count"], found["mode"]) == ("7", 1, "live")


@pytest.mark.needs_redis
async def test_a_redis_slower_than_the_ticks_has_the_latest_price_and_later_all_of_them(
    server: RedisServer, sender: Sender, tmp_path: Path
) -> None:
    server.start()
    proxy = await CutProxy("127.0.0.1", server.port).start()
    client: redis.Redis = redis.Redis.from_url(server.url, decode_responses=True)
    settings = settings_for({"exchange1": sender}, redis_url=f"redis://127.0.0.1:{proxy.port}/0")
    async with running(settings, tmp_path) as market:
        mirror = market.service._side.mirror
        assert mirror is not None
        await until(lambda: mirror.up, "Redis")
        mirror._max_pending = 2_000
        begun = mirror.written
        proxy.slow(80_000)  # about two thousand ticks a second

        async def burst(number: int) -> None:
            now = market.service.clock.now_ms()
            await sender.send(line("BTCUSDT", number, now) + b"".join(line("ETHUSDT", 7, now) for _ in range(199)))
            await market.arrived(number * 200)

        async def told() -> int:
            """The latest price of BTCUSDT that Redis has."""
            raw = await client.get("fairmark:test:latest:BTCUSDT")
            return 0 if raw is None else int(json.loads(raw)["price"])

        async with asyncio.timeout(120):
            for number in itertools.count(1):
                await burst(number)
                if mirror.left_out > 20_000:
                    break
        body = await market.get("/health")
        assert (body["status"], body["dependencies"]["redis"]["status"]) == ("degraded", "down")
        assert "it takes fewer ticks than come in" in body["dependencies"]["redis"]["detail"]
        assert body["queues"]["redis_left_out"] > 20_000
        assert body["queues"]["redis"] <= 2_200
        assert mirror.up
        assert (await market.get("/prices/latest/BTCUSDT"))["price"] == str(number)
        async with asyncio.timeout(60):
            while await told() < number:  # noqa: ASYNC110 - Redis tells nobody
                await asyncio.sleep(0.05)
        sent = number * 200
        assert mirror.written - begun < sent
        assert (await market.get("/prices/average/ETHUSDT", period="5m"))["count"] == number * 199
        proxy.slow(None)
        await mirror.settle(60)
        assert (await market.get("/health"))["dependencies"]["redis"]["status"] == "up"
        assert await client.zcard("fairmark:test:ticks:exchange1:ETHUSDT") == number * 199
        prices = [Decimal(m[17:]) for m in await client.zrange("fairmark:test:ticks:exchange1:BTCUSDT", 0, -1)]
        assert prices == list(range(1, number + 1))
        assert await told() == number
    await client.aclose()
    await proxy.cut()


@pytest.mark.needs_redis
async def test_only_news_is_told_on_the_channel(server: RedisServer) -> None:
    server.start()
    window = RedisWindow(server.url, prefix="fairmark", mode=Mode.TEST, retention_ms=60_000)
    client: redis.Redis = redis.Redis.from_url(server.url, decode_responses=True)
    async with asyncio.timeout(30):
        while not await _answers(window):  # noqa: ASYNC110 - a server that starts tells nobody
            await asyncio.sleep(0.05)
        async with client.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe("fairmark:test:prices:BTCUSDT")
            await channel.get_message(timeout=5)  # the subscription
            for price, publish in ((1, False), (2, True)):
                ticks = Batch(
                    exchange="exchange1", symbol="BTCUSDT", times=[NOW + price], prices=[price], digits=0, number=price
                )
                await window.add([ticks], NOW + price, publish=publish)
            while (message := await channel.get_message(timeout=5)) is None:
                pass
        assert json.loads(message["data"])["price"] == "2"
        assert [tick.price for tick in await window.ticks("BTCUSDT", "exchange1", 0, NOW + 2)] == [1, 2]
    await client.aclose()
    await window.close()


async def _answers(window: RedisWindow) -> bool:
    try:
        return bool(await window.ping())
    except WindowUnavailableError:
        return False


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[tuple[str, CutProxy]]:
    """A database of the test's own, behind a proxy that can be cut."""
    name = f"market_{uuid4().hex[:12]}"
    await query(postgres_url, f"CREATE DATABASE {name}")
    parts = urlsplit(postgres_url)
    proxy = await CutProxy(parts.hostname or "127.0.0.1", parts.port or 5432).start()
    user = parts.netloc.rpartition("@")[0]
    yield f"postgresql+asyncpg://{user}@127.0.0.1:{proxy.port}/{name}", proxy
    proxy.thaw()
    await proxy.cut()
    await query(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


async def query(url: str, statement: str) -> list[Any]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


async def rows(url: str) -> list[tuple[int, Decimal, int]]:
    """Minute (counted from the first), average, count."""
    found = await query(url, "SELECT timestamp, average_price, count FROM market_minutes ORDER BY timestamp")
    first = NOW // MINUTE_MS * MINUTE_MS
    return [(round(row[0].timestamp() * 1000 - first) // MINUTE_MS, row[1], row[2]) for row in found]


async def a_minute(market: Running, sender: Sender, clock: FixedClock, number: int) -> None:
    """Two ticks in the minute under way, and on to where it is due."""
    before = market.counted()
    now = clock.now_ms()
    await sender.send(line("BTCUSDT", number + 10, now) + line("BTCUSDT", number + 11, now))
    await market.arrived(before + 2)
    clock.advance(MINUTE_MS)


@pytest.mark.needs_postgres
@pytest.mark.parametrize("how", ["cut", "frozen"])
async def test_minutes_wait_while_postgresql_is_away_and_are_written_when_it_returns(
    how: str, database: tuple[str, CutProxy], sender: Sender, tmp_path: Path
) -> None:
    url, proxy = database
    clock = FixedClock(NOW)
    store = SqlMinuteStore(url, partition="month", timeout_s=1.0)
    async with running(settings_for({"exchange1": sender}), tmp_path, store=store, clock=clock) as market:
        keeper = market.service.keeper
        await until(lambda: keeper.up, "the database")
        await a_minute(market, sender, clock, 0)
        while not await rows(url):  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.05)
        if how == "cut":
            await proxy.cut()
        else:
            proxy.freeze()
        for number in (1, 2, 3):
            await a_minute(market, sender, clock, number)
        await until(lambda: len(keeper._spool) == 3, "the minutes in the spool")
        body = await market.get("/health")
        assert (body["status"], body["dependencies"]["database"]["status"]) == ("degraded", "down")
        assert "3 minutes wait in the spool" in body["dependencies"]["database"]["detail"]
        assert (await market.get("/prices/latest/BTCUSDT"))["price"] == "14"
        if how == "cut":
            await proxy.start()
        else:
            proxy.thaw()
        await until(lambda: keeper.up and not len(keeper._spool), "the minutes to be written")
        assert (await market.get("/health"))["dependencies"]["database"]["status"] == "up"
        expected = [(number, number + Decimal("10.5"), 2) for number in range(4)]
        assert await rows(url) == expected
        history = await market.get("/prices/history/BTCUSDT")
        assert [candle["count"] for candle in history["candles"]] == [2, 2, 2, 2]


@pytest.mark.needs_postgres
async def test_minutes_outlive_a_restart_while_postgresql_is_away_and_a_minute_under_way_is_added_to(
    database: tuple[str, CutProxy], sender: Sender, tmp_path: Path
) -> None:
    url, proxy = database
    clock = FixedClock(NOW)
    settings = settings_for({"exchange1": sender})
    async with running(settings, tmp_path, store=SqlMinuteStore(url, timeout_s=5), clock=clock) as market:
        await until(lambda: market.service.keeper.up, "the database")
        await sender.send(line("BTCUSDT", 1, NOW))
        await market.arrived(1)
    await proxy.cut()
    for price in (4, 10):  # two more runs of the same minute, the database away
        async with running(settings, tmp_path, store=SqlMinuteStore(url, timeout_s=0.5), clock=clock) as market:
            await sender.send(line("BTCUSDT", price, NOW))
            await market.arrived(1)
    assert (tmp_path / "spool.jsonl").exists()
    await proxy.start()
    async with running(settings, tmp_path, store=SqlMinuteStore(url, timeout_s=5), clock=clock) as market:
        await until(lambda: market.service.keeper.up, "the database")
    assert await rows(url) == [(0, Decimal(5), 3)]
    assert not (tmp_path / "spool.jsonl").exists()


async def test_beyond_the_spools_bound_the_oldest_minutes_are_lost_and_health_tells(
    sender: Sender, tmp_path: Path
) -> None:
    clock = FixedClock(NOW)
    store = SqlMinuteStore("postgresql+asyncpg://nobody@127.0.0.1:1/nothing", timeout_s=0.5)
    settings = settings_for({"exchange1": sender}, spool_rows=2)
    async with running(settings, tmp_path, store=store, clock=clock) as market:
        for number in range(4):
            await a_minute(market, sender, clock, number)
        await until(lambda: market.service.keeper._spool.dropped == 2, "the bound")
        detail = (await market.get("/health"))["dependencies"]["database"]["detail"]
        assert "2 minutes wait in the spool, 2 were lost to its bound" in detail
        assert (await market.get("/prices/history/BTCUSDT"))["code"] == "store_unavailable"
        assert (await market.get("/prices/average/BTCUSDT", period="5m"))["count"] == 8
        kept = market.service.keeper._spool.first(9)
        assert [row.minute_ms // MINUTE_MS - NOW // MINUTE_MS for row in kept] == [2, 3]
        assert market.service.mode is Mode.TEST
