"""A million seeded ticks through the real pipeline, with real Redis and PostgreSQL; every answer equals a list's.

The ticks come over real sockets from three senders, with gaps, duplicates, reordering, and clocks that run ahead and
behind. The clock is the test's: a step of it, the ticks of that step, questions. The reference keeps plain lists of
what was sent, applies the written rule of times, and computes every answer from scratch, in fractions.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
import redis.asyncio as redis

from core.clock import FixedClock
from market.minutes import MINUTE_MS
from market.periods import PERIODS, duration_ms
from market.store import SqlMinuteStore
from tests.support.market import Running, Sender, running, settings_for, until

TICKS = 1_000_000
STEPS = 40
STEP_MS = 9_700
WINDOW_MS = 300_000
MAX_AHEAD_MS = 60_000
START = 1_700_000_055_000
NAMES = ("exchange1", "exchange2", "exchange3")
SYMBOLS = ("BTCUSDT", "DOGEUSDT", "TONUSDT", "SOLUSDT", "ETHUSDT")
DIGITS = {"BTCUSDT": 2, "DOGEUSDT": 5, "TONUSDT": 4, "SOLUSDT": 3, "ETHUSDT": 2}
BASE = {"BTCUSDT": 6_500_000, "DOGEUSDT": 15_000, "TONUSDT": 55_000, "SOLUSDT": 150_000, "ETHUSDT": 350_000}
SKEW_MS = {"exchange1": 0, "exchange2": 1_270, "exchange3": -2_000}

Tick = tuple[int, int]
"""Its time by the rule, its price in whole steps."""


class Reference:
    """Everything that should count, as plain lists."""

    def __init__(self) -> None:
        self.ticks: dict[tuple[str, str], list[Tick]] = {(name, symbol): [] for name in NAMES for symbol in SYMBOLS}
        self.refused = 0

    def take(self, name: str, symbol: str, price: int, time_ms: int, received_ms: int) -> None:
        if time_ms > received_ms + MAX_AHEAD_MS or time_ms <= received_ms - WINDOW_MS:
            self.refused += 1
        else:
            self.ticks[name, symbol].append((min(time_ms, received_ms), price))

    def inside(self, names: Iterable[str], symbol: str, since_ms: int, until_ms: int) -> list[int]:
        return [p for name in names for t, p in self.ticks[name, symbol] if since_ms < t <= until_ms]


def made(rng: random.Random, count: int, name: str, now_ms: int) -> list[tuple[str, int, int]]:
    """A step's ticks of one sender: symbol, price in steps, the sender's time."""
    ticks = []
    skew = SKEW_MS[name]
    quiet = rng.choice(SYMBOLS)  # a gap: nothing of this one
    symbols = [symbol for symbol in SYMBOLS if symbol != quiet]
    for index in range(count):
        symbol = symbols[rng.randrange(4)]
        price = BASE[symbol] + rng.randrange(-2_000, 2_000)
        time_ms = now_ms - STEP_MS + index * STEP_MS // count + skew
        odd = rng.random()
        if odd < 0.02:  # an old one, of a minute that was written already
            time_ms -= rng.randrange(1_000, 290_000)
        elif odd < 0.021:  # older than the window, or a broken clock
            time_ms += rng.choice((-WINDOW_MS - 5_000, MAX_AHEAD_MS + 15_000))
        ticks.append((symbol, price, time_ms))
        if odd > 0.97:  # the same again
            ticks.append(ticks[-1])
        if odd > 0.9 and len(ticks) > 3:  # out of order
            ticks[-1], ticks[-3] = ticks[-3], ticks[-1]
    return ticks


def written(symbol: str, price: int, time_ms: int) -> str:
    whole, rest = divmod(price, 10 ** DIGITS[symbol])
    return f'{{"symbol":"{symbol}","price":{whole}.{rest:0{DIGITS[symbol]}d},"timestamp":{time_ms}}}\n'


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[str]:
    name = f"market_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f"CREATE DATABASE {name}")
    yield urlsplit(postgres_url)._replace(path=f"/{name}").geturl()
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def prefix(redis_url: str) -> AsyncIterator[str]:
    name = f"model-{uuid4().hex[:12]}"
    yield name
    client: redis.Redis = redis.Redis.from_url(redis_url, socket_timeout=120)
    if keys := [key async for key in client.scan_iter(f"{name}:*")]:
        await client.unlink(*keys)
    await client.aclose()


Where = tuple[str, str | None]
"""A symbol, and an exchange or all."""
EVERYWHERE: list[Where] = [(symbol, exchange) for symbol in SYMBOLS for exchange in (None, *NAMES)]


async def compare(
    market: Running, reference: Reference, now_ms: int, places: Iterable[Where], periods: Iterable[str]
) -> None:
    """Each price endpoint at these places, over these periods."""
    for symbol, exchange in places:
        unit = 10 ** DIGITS[symbol]
        names = NAMES if exchange is None else (exchange,)
        where = symbol if exchange is None else f"{exchange}/{symbol}"
        window = [(t, p, n) for n in names for t, p in reference.ticks[n, symbol] if t > now_ms - WINDOW_MS]
        latest = await market.get(f"/prices/latest/{where}")
        if window:
            newest = max(t for t, _, _ in window)
            assert latest["timestamp"] == newest
            last = {n: p for t, p, n in window if t == newest}  # of one exchange the last to come
            assert Decimal(latest["price"]) * unit == last[latest["exchange"]]
        else:
            assert latest["code"] == "no_ticks"
        for period in periods:
            length_ms = duration_ms(period)
            assert length_ms is not None
            prices = [p for t, p, _ in window if t > now_ms - length_ms]
            answers = {
                kind: await market.get(f"/prices/{kind}/{where}", period=period)
                for kind in ("highest", "lowest", "average")
            }
            if not prices:
                assert {answer["code"] for answer in answers.values()} == {"no_ticks"}
                continue
            assert {answer["count"] for answer in answers.values()} == {len(prices)}, (where, period)
            assert Decimal(answers["highest"]["price"]) * unit == max(prices)
            assert Decimal(answers["lowest"]["price"]) * unit == min(prices)
            exact = Fraction(sum(prices), len(prices) * unit)
            assert abs(Fraction(answers["average"]["price"]) - exact) <= Fraction(1, 2 * 10**18)


@pytest.mark.needs_redis
@pytest.mark.needs_postgres
async def test_a_million_ticks_are_answered_as_plain_lists_of_them_would_be(
    redis_url: str, prefix: str, database: str, tmp_path: Path
) -> None:
    rng = random.Random(20_261_121)
    reference = Reference()
    senders = {name: await Sender().start() for name in NAMES}
    clock = FixedClock(START)
    settings = settings_for(senders, redis_url=redis_url, redis_prefix=prefix, queue_ticks=100_000)
    store = SqlMinuteStore(database.replace("postgresql://", "postgresql+asyncpg://"), partition="day", timeout_s=20)
    sent = 0
    async with running(settings, tmp_path, store=store, clock=clock) as market:
        mirror = market.service._side.mirror
        assert mirror is not None
        await until(lambda: mirror.up and market.service.keeper.up, "the servers")
        for step in range(STEPS):
            now_ms = clock.now_ms()
            for name, sender in senders.items():
                ticks = made(rng, TICKS // STEPS // 3, name, now_ms)
                for symbol, price, time_ms in ticks:
                    reference.take(name, symbol, price, time_ms, now_ms)
                await sender.send("".join(written(*tick) for tick in ticks).encode())
                sent += len(ticks)
            await market.arrived(sent)
            if step in (17, STEPS - 1):
                await compare(market, reference, now_ms, EVERYWHERE, PERIODS)
            else:
                await compare(market, reference, now_ms, rng.sample(EVERYWHERE, 1), rng.sample(PERIODS, 2))
            clock.advance(STEP_MS)
        assert sent >= TICKS
        assert sum(market.service.metrics.refused.values()) == reference.refused > 0
        await until(lambda: mirror.up, "Redis")  # on a loaded machine it may have been away
        await mirror.settle(30)
        await compare_redis(redis_url, prefix, reference, clock.now_ms())
        await compare_long(market, reference, clock.now_ms())
        await compare_history(market, reference)
    await compare_rows(database, reference)
    for sender in senders.values():
        await sender.stop()


async def compare_redis(url: str, prefix: str, reference: Reference, now_ms: int) -> None:
    """Redis has each tick of the window once, in order of time, and then of arrival."""
    client: redis.Redis = redis.Redis.from_url(url, socket_timeout=120)
    for (name, symbol), ticks in reference.ticks.items():
        key = f"{prefix}:test:ticks:{name}:{symbol}"
        found = await client.zrange(key, f"({now_ms - WINDOW_MS}", "+inf", byscore=True, withscores=True)
        read = [(int(score), int(member[17:].partition(b"e")[0])) for member, score in found]
        assert read == sorted((tick for tick in ticks if tick[0] > now_ms - WINDOW_MS), key=lambda tick: tick[0]), key
    await client.aclose()


async def compare_long(market: Running, reference: Reference, now_ms: int) -> None:
    """Beyond the window: whole minutes, weighed by their counts."""
    first_ms = -(-(now_ms - 360_000) // MINUTE_MS) * MINUTE_MS
    for symbol in SYMBOLS:
        prices = reference.inside(NAMES, symbol, first_ms - 1, now_ms)
        answer = await market.get(f"/prices/average/{symbol}", period="6m")
        assert (answer["count"], answer["from"]) == (len(prices), first_ms - 1)
        exact = Fraction(sum(prices), len(prices) * 10 ** DIGITS[symbol])
        assert abs(Fraction(answer["price"]) - exact) <= Fraction(1, 2 * 10**18)


async def compare_history(market: Running, reference: Reference) -> None:
    length_ms = 3 * MINUTE_MS
    for symbol in SYMBOLS:
        unit = 10 ** DIGITS[symbol]
        body = await market.get(f"/prices/history/{symbol}", interval="3m", **{"from": str(START - 900_000)})
        for candle in body["candles"]:
            begins = candle["timestamp"]
            ticks = [
                (t, p) for name in NAMES for t, p in reference.ticks[name, symbol] if begins <= t < begins + length_ms
            ]
            assert candle["count"] == len(ticks)
            prices = [p for _, p in ticks]
            assert (Decimal(candle["high"]) * unit, Decimal(candle["low"]) * unit) == (max(prices), min(prices))
            first, last = min(t for t, _ in ticks), max(t for t, _ in ticks)
            opens, closes = {p for t, p in ticks if t == first}, {p for t, p in ticks if t == last}
            assert Decimal(candle["open"]) * unit in opens
            assert Decimal(candle["close"]) * unit in closes
        assert sum(candle["count"] for candle in body["candles"]) == sum(
            len(reference.ticks[name, symbol]) for name in NAMES
        )


async def compare_rows(url: str, reference: Reference) -> None:
    """One row for each minute, pair and exchange that had a tick, late ones among them, and no other."""
    connection = await asyncpg.connect(url)
    found: list[Any] = await connection.fetch(
        "SELECT mode, pair_name, exchange, timestamp, average_price, min_price, max_price, count FROM market_minutes"
    )
    await connection.close()
    expected: dict[tuple[str, str, int], list[int]] = {}
    for (name, symbol), ticks in reference.ticks.items():
        for time_ms, price in ticks:
            expected.setdefault((name, symbol, time_ms // MINUTE_MS), []).append(price)
    assert len(found) == len(expected)
    for mode, symbol, name, timestamp, average, low, high, count in found:
        prices = expected[name, symbol, round(timestamp.timestamp()) // 60]
        unit = 10 ** DIGITS[symbol]
        assert (mode, count, low * unit, high * unit) == ("test", len(prices), min(prices), max(prices))
        assert abs(Fraction(average) - Fraction(sum(prices), len(prices) * unit)) <= Fraction(1, 2 * 10**18)


def test_the_ticks_are_as_odd_as_they_should_be() -> None:
    """Gaps, duplicates, disorder, late and broken times are all among them."""
    ticks = made(random.Random(1), 20_000, "exchange2", START)
    times = [time_ms for _, _, time_ms in ticks]
    assert len({symbol for symbol, _, _ in ticks}) == 4
    assert len(ticks) > 20_300
    assert sum(a > b for a, b in pairwise(times)) > 1_000
    assert max(times) > START + MAX_AHEAD_MS
    assert min(times) < START - WINDOW_MS
    assert any(START < time_ms <= START + 1_270 for time_ms in times)
