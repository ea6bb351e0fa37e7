"""What every store of minutes promises: a row a minute, written again at will, and never a digit lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from core.types import Mode
from market.errors import StoreUnavailableError
from market.minutes import MINUTE_MS, MinuteRow
from market.store import SqlMinuteStore

START = 1_700_000_040_000 // MINUTE_MS * MINUTE_MS


def row(minute: int = 0, **changes: Any) -> MinuteRow:
    values: dict[str, Any] = {
        "mode": Mode.TEST,
        "symbol": "BTCUSDT",
        "exchange": "exchange1",
        "minute_ms": START + minute * MINUTE_MS,
        "average": Decimal("65000.123456789012345678"),
        "low": Decimal("0.000000000000001"),
        "high": Decimal("999999999999999.123456789012345678"),
        "count": 3,
        "total": Decimal("195000.370370367037037034"),
        "open": Decimal("65000"),
        "close": Decimal("65000.5"),
        "open_ms": START + minute * MINUTE_MS + 1,
        "close_ms": START + minute * MINUTE_MS + 59_999,
        "volume": None,
    }
    return MinuteRow(**{**values, **changes})


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs_postgres)])
async def url(request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str) -> AsyncIterator[str]:
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'deep' / 'market.sqlite'}"
        return
    name = f"market_{uuid4().hex[:12]}"
    await execute(postgres_url, f"CREATE DATABASE {name}")
    yield urlsplit(postgres_url)._replace(scheme="postgresql+asyncpg", path=f"/{name}").geturl()
    await execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


async def execute(url: str, statement: str) -> list[Any]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlMinuteStore]:
    opened = SqlMinuteStore(url, partition="day", timeout_s=20)
    await opened.open()
    yield opened
    await opened.close()


async def everything(store: SqlMinuteStore, exchange: str | None = None, mode: Mode = Mode.TEST) -> list[MinuteRow]:
    return await store.read(mode, "BTCUSDT", exchange, 0, START + 10**12)


async def test_what_is_written_comes_back_to_the_digit(store: SqlMinuteStore) -> None:
    rows = [row(), row(1, volume=Decimal("12.345678901234567891")), row(exchange="exchange2")]
    await store.write(rows)
    assert await everything(store) == [rows[0], rows[2], rows[1]]
    assert await everything(store, "exchange2") == [rows[2]]
    assert await store.ping() in {"sqlite", "postgresql"}


async def test_a_row_may_be_written_again_and_never_becomes_two(store: SqlMinuteStore) -> None:
    await store.write([row()])
    await store.write([row(), row(1)])
    assert await everything(store) == [row(), row(1)]


async def test_a_row_gives_way_to_one_that_counts_as_much_or_more_and_to_no_other(store: SqlMinuteStore) -> None:
    await store.write([row(count=5, close=Decimal(1))])
    await store.write([row(count=4, close=Decimal(2))])
    assert [each.close for each in await everything(store)] == [Decimal(1)]
    await store.write([row(count=6, close=Decimal(3))])
    assert [each.close for each in await everything(store)] == [Decimal(3)]


async def test_modes_are_apart(store: SqlMinuteStore) -> None:
    await store.write([row(), row(mode=Mode.LIVE, close=Decimal(9))])
    assert [each.close for each in await everything(store, mode=Mode.LIVE)] == [Decimal(9)]
    assert await everything(store) == [row()]


async def test_the_end_of_a_range_is_not_in_it(store: SqlMinuteStore) -> None:
    await store.write([row(minute) for minute in range(4)])
    found = await store.read(Mode.TEST, "BTCUSDT", None, START + MINUTE_MS, START + 3 * MINUTE_MS)
    assert found == [row(1), row(2)]
    assert await store.read(Mode.TEST, "ETHUSDT", None, 0, START + 10**12) == []


async def test_old_minutes_are_pruned_and_young_ones_stay(store: SqlMinuteStore) -> None:
    day = 24 * 60
    await store.write([row(0), row(day), row(3 * day), row(3 * day + 1)])
    await store.prune(START + (3 * day + 1) * MINUTE_MS)
    assert await everything(store) == [row(3 * day + 1)]


async def test_several_processes_may_open_it_at_once(url: str) -> None:
    stores = [SqlMinuteStore(url, timeout_s=20) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    await asyncio.gather(*(store.write([row(count=count)]) for count, store in enumerate(stores, 1)))
    assert [each.count for each in await everything(stores[0])] == [4]
    for store in stores:
        await store.close()


async def test_a_store_that_is_not_open_says_so(url: str) -> None:
    with pytest.raises(StoreUnavailableError):
        await SqlMinuteStore(url).write([row()])


@pytest.mark.needs_postgres
async def test_a_server_that_is_not_there_is_unavailable_and_the_password_is_not_told() -> None:
    store = SqlMinuteStore("postgresql+asyncpg://somebody:hidden@127.0.0.1:1/nothing")
    with pytest.raises(StoreUnavailableError) as caught:
        await store.open()
    assert "hidden" not in str(caught.value)


@pytest.mark.needs_postgres
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_postgresql_keeps_each_day_in_a_partition_and_drops_it_whole(store: SqlMinuteStore, url: str) -> None:
    day = 24 * 60
    await store.write([row(0), row(day), row(2 * day)])
    held = "SELECT tableoid::regclass::text AS name, average_price FROM market_minutes ORDER BY timestamp"
    assert [each["name"] for each in await execute(url, held)] == [
        "market_minutes_20231114",
        "market_minutes_20231115",
        "market_minutes_20231116",
    ]
    await store.prune(START + day * MINUTE_MS + 1)
    left = await execute(
        url, "SELECT relname FROM pg_class WHERE relname LIKE 'market_minutes_2023%' AND relkind = 'r'"
    )
    assert {each["relname"] for each in left} == {"market_minutes_20231115", "market_minutes_20231116"}
    assert await everything(store) == [row(2 * day)]


@pytest.mark.needs_postgres
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_partitions_may_begin_while_the_rest_holds_rows_of_their_time(url: str) -> None:
    plain, parted = SqlMinuteStore(url, timeout_s=20), SqlMinuteStore(url, partition="month", timeout_s=20)
    await plain.open()
    await plain.write([row(0)])
    await parted.open()
    await parted.write([row(1)])
    assert await everything(parted) == [row(0), row(1)]
    await plain.close()
    await parted.close()
