"""What every store of attempts keeps: one file of tests for SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

import aggregator.store as store_module
from aggregator.attempts import AttemptRecord, Cause, FailureReason, State, new_attempt_id
from aggregator.errors import StoreUnavailableError
from aggregator.store import AttemptStore, SqlAttemptStore
from core import codec
from core.types import Mode

HERE, ELSEWHERE = "31337:0xaa:0x01", "31337:0xaa:0x02"


def record(moment: int, **changes: object) -> AttemptRecord:
    plain = AttemptRecord(
        id=new_attempt_id(),
        deployment=HERE,
        mode=Mode.TEST,
        group="majors",
        cause=Cause.REQUEST,
        state=State.CLAIMED,
        started_ms=moment,
        moment=moment,
    )
    return msgspec.structs.replace(plain, **changes)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs_postgres)])
async def url(request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'deep' / 'attempts.sqlite'}"
    return postgres_url.replace("postgresql://", "postgresql+asyncpg://")


@pytest.fixture
async def table(url: str) -> AsyncIterator[str]:
    name = f"attempts_{uuid.uuid4().hex[:12]}"
    yield name
    if url.startswith("postgresql"):
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.execute(sa.text(f'DROP TABLE IF EXISTS "{name}"'))
        await engine.dispose()


@pytest.fixture
async def store(url: str, table: str) -> AsyncIterator[AttemptStore]:
    made = SqlAttemptStore(url, keep=5, table=table)
    await made.open()
    yield made
    await made.close()


async def test_a_moment_is_claimed_once(store: AttemptStore) -> None:
    assert await store.claim(record(100)) is True
    assert await store.claim(record(100)) is False
    assert await store.claim(record(110)) is True
    assert await store.claim(record(100, group="others")) is True
    assert await store.claim(record(100, deployment=ELSEWHERE)) is True


async def test_of_many_that_claim_one_moment_at_once_one_gets_it(url: str, table: str, store: AttemptStore) -> None:
    other = SqlAttemptStore(url, table=table)
    await other.open()
    try:
        got = await asyncio.gather(*((store, other)[i % 2].claim(record(100)) for i in range(20)))
    finally:
        await other.close()
    assert sorted(got) == [False] * 19 + [True]


async def test_services_may_start_at_once_on_a_fresh_sqlite_file(tmp_path: Path) -> None:
    for attempt in range(20):
        stores = [SqlAttemptStore(f"sqlite+aiosqlite:///{tmp_path / str(attempt)}/attempts.sqlite") for _ in range(3)]
        try:
            await asyncio.gather(*(each.open() for each in stores))
        finally:
            for each in stores:
                await each.close()


async def test_a_record_comes_back_as_it_was_saved(store: AttemptStore) -> None:
    claimed = record(100)
    await store.claim(claimed)
    assert await store.get(HERE, claimed.id) == claimed
    ended = claimed.failed(FailureReason.NO_QUORUM, 'odd \x00 text \u2028 "', 900)
    await store.save(ended)
    found = await store.get(HERE, claimed.id)
    assert found is not None
    assert codec.encode(found) == codec.encode(ended)


async def test_an_attempt_that_failed_before_its_claim_is_saved_all_the_same(store: AttemptStore) -> None:
    first, second = (record(0, started_ms=t, state=State.FAILED, code="chain_unavailable") for t in (1, 2))
    await store.save(first)
    await store.save(second)
    assert await store.get(HERE, first.id) == first
    assert await store.get(HERE, second.id) == second


async def test_records_are_of_one_deployment_only(store: AttemptStore) -> None:
    one = record(100, state=State.ACCEPTED, round=7)
    await store.save(one)
    assert await store.get(ELSEWHERE, one.id) is None
    assert await store.by_round(ELSEWHERE, "majors", 7) is None
    assert await store.latest(ELSEWHERE, "majors") == []


async def test_a_round_is_found_by_its_number(store: AttemptStore) -> None:
    one, two = (record(100 * n, state=State.ACCEPTED, round=n) for n in (1, 2))
    await store.save(one)
    await store.save(two)
    assert await store.by_round(HERE, "majors", 2) == two
    assert await store.by_round(HERE, "majors", 3) is None
    assert await store.by_round(HERE, "others", 2) is None


async def test_the_latest_come_first(store: AttemptStore) -> None:
    records = [record(moment) for moment in (100, 300, 200)]
    for one in records:
        await store.save(one)
    assert await store.latest(HERE, "majors", 2) == [records[1], records[2]]


async def test_old_attempts_are_pruned_and_the_newest_kept(
    store: AttemptStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PRUNE_EVERY", 1)
    other = record(1, deployment=ELSEWHERE)
    await store.save(other)
    records = [record(moment) for moment in range(100, 112)]
    for one in records:
        await store.save(one)
    assert await store.latest(HERE, "majors", 50) == records[:-6:-1]
    assert await store.get(ELSEWHERE, other.id) == other


async def test_it_can_be_opened_twice_and_keeps_what_it_has(url: str, table: str, store: AttemptStore) -> None:
    one = record(100)
    await store.claim(one)
    await store.open()
    again = SqlAttemptStore(url, table=table)
    await again.open()
    assert await again.get(HERE, one.id) == one
    assert await again.ping() in ("sqlite", "postgresql")
    await again.close()


async def test_a_store_that_is_not_open_says_so(url: str) -> None:
    with pytest.raises(StoreUnavailableError):
        await SqlAttemptStore(url).claim(record(1))


async def test_a_claim_takes_about_a_millisecond(store: AttemptStore) -> None:
    await store.claim(record(1))
    times = []
    for moment in range(10, 40):
        started = time.perf_counter()
        await store.claim(record(moment))
        times.append(time.perf_counter() - started)
    assert sorted(times)[len(times) // 2] < 0.02  # a slow machine's bound; about 0.001 where nothing else runs


@pytest.mark.parametrize(
    "bad",
    [
        "sqlite+aiosqlite:////proc/nowhere/x.sqlite",
        "postgresql+asyncpg://nobody@127.0.0.1:1/test",
        pytest.param("postgresql+asyncpg://postgres@127.0.0.1:5432/no_such_db", marks=pytest.mark.needs_postgres),
    ],
)
async def test_a_store_that_cannot_be_reached_says_where_without_a_password(bad: str) -> None:
    with pytest.raises(StoreUnavailableError, match=r"cannot be used|did not answer") as raised:
        await SqlAttemptStore(bad.replace("nobody@", "nobody:hidden@")).open()
    assert "hidden" not in str(raised.value)
