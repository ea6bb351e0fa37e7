"""What every store of signed reports promises: one report a moment, the first writer wins, and never a step back."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import pytest

from fetchers.errors import MomentPassedError, ReportStoreError
from fetchers.report_store import ReportKey, SqlReportStore

DEPLOYMENT, GROUP, REPORTER = "31337:0xabc:0x1234", "majors", "0x" + "Ab" * 20

Open = Callable[[], SqlReportStore]


def key(moment: int, *, group: str = GROUP, reporter: str = REPORTER, deployment: str = DEPLOYMENT) -> ReportKey:
    return ReportKey(deployment=deployment, group=group, reporter=reporter, moment=moment)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs_postgres)])
async def opened(request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str) -> AsyncIterator[Open]:
    """Opens one more instance on the same database. The tables are the test's own, and go away with it."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'deep' / 'reports.sqlite'}"
    if request.param == "postgresql":
        url = postgres_url.replace("postgresql://", "postgresql+asyncpg://", 1)
    prefix = f"test_{uuid4().hex[:12]}_"
    stores: list[SqlReportStore] = []

    def another() -> SqlReportStore:
        stores.append(SqlReportStore(url, keep=10, prefix=prefix))
        return stores[-1]

    yield another
    await stores[0].drop()
    for store in stores:
        await store.close()


@pytest.fixture
async def store(opened: Open) -> SqlReportStore:
    first = opened()
    await first.start()
    return first


async def test_a_new_store_knows_nothing(store: SqlReportStore) -> None:
    assert await store.last_moment(DEPLOYMENT, GROUP, REPORTER) is None
    assert await store.get(key(1000)) is None
    assert await store.ping() in {"sqlite", "postgresql"}


async def test_what_is_put_comes_back(store: SqlReportStore) -> None:
    assert await store.put(key(1000), b"\x00first") == b"\x00first"
    assert await store.get(key(1000)) == b"\x00first"
    assert await store.last_moment(DEPLOYMENT, GROUP, REPORTER) == 1000


async def test_the_first_writer_wins(store: SqlReportStore) -> None:
    await store.put(key(1000), b"first")
    assert await store.put(key(1000), b"second") == b"first"
    assert await store.get(key(1000)) == b"first"


async def test_a_moment_before_the_last_is_never_signed(store: SqlReportStore) -> None:
    await store.put(key(2000), b"later")
    with pytest.raises(MomentPassedError) as caught:
        await store.put(key(1990), b"earlier")
    assert (caught.value.moment, caught.value.last) == (1990, 2000)
    assert await store.get(key(1990)) is None
    assert await store.last_moment(DEPLOYMENT, GROUP, REPORTER) == 2000


async def test_an_earlier_moment_that_was_signed_gives_its_report_again(store: SqlReportStore) -> None:
    await store.put(key(1000), b"one")
    await store.put(key(2000), b"two")
    assert await store.put(key(1000), b"other") == b"one"


async def test_deployments_groups_and_reporters_are_apart(store: SqlReportStore) -> None:
    await store.put(key(2000), b"mine")
    others = [key(1000, deployment="1:0xabc:0x99"), key(1000, group="minors"), key(1000, reporter="0x" + "cd" * 20)]
    for index, other in enumerate(others):
        assert await store.put(other, b"%d" % index) == b"%d" % index
    assert [await store.get(other) for other in others] == [b"0", b"1", b"2"]


async def test_an_address_is_the_same_in_any_case(store: SqlReportStore) -> None:
    await store.put(key(1000), b"mine")
    assert await store.get(key(1000, reporter=REPORTER.lower())) == b"mine"
    assert await store.last_moment(DEPLOYMENT, GROUP, REPORTER.lower()) == 1000


async def test_instances_racing_for_a_moment_all_return_the_same_report(opened: Open) -> None:
    instances = [opened() for _ in range(3)]
    await asyncio.gather(*(instance.start() for instance in instances))
    for moment in range(1000, 1100, 10):
        returned = await asyncio.gather(
            *(instance.put(key(moment), b"%d" % index) for index, instance in enumerate(instances))
        )
        assert len(set(returned)) == 1
        assert await instances[0].get(key(moment)) == returned[0]


async def test_of_racing_moments_none_is_signed_after_a_later_one(opened: Open) -> None:
    instances = [opened() for _ in range(2)]
    await asyncio.gather(*(instance.start() for instance in instances))
    moments = [1000, 1030, 1010, 1040, 1020, 1050]
    order: list[int] = []

    async def put(instance: SqlReportStore, moment: int) -> None:
        try:
            await instance.put(key(moment), b"%d" % moment)
        except MomentPassedError as error:
            assert error.last > moment
        else:
            order.append(moment)

    await asyncio.gather(*(put(instances[index % 2], moment) for index, moment in enumerate(moments)))
    assert max(order) == 1050
    assert await instances[0].last_moment(DEPLOYMENT, GROUP, REPORTER) == 1050


async def test_instances_may_start_at_once_on_a_fresh_sqlite_file(tmp_path: Path) -> None:
    for attempt in range(20):
        stores = [SqlReportStore(f"sqlite+aiosqlite:///{tmp_path / str(attempt)}/reports.sqlite") for _ in range(3)]
        try:
            await asyncio.gather(*(each.start() for each in stores))
        finally:
            for each in stores:
                await each.close()


async def test_a_switch_to_write_ahead_logging_waits_for_whoever_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "reports.sqlite"
    holder = sqlite3.connect(path)
    store = SqlReportStore(f"sqlite+aiosqlite:///{path}")
    try:
        holder.execute("CREATE TABLE other (id)")
        holder.execute("BEGIN")
        holder.execute("SELECT * FROM other").fetchall()  # a reader: the switch needs the file for itself
        starting = asyncio.create_task(store.start())
        await asyncio.sleep(0.1)
        assert not starting.done()
        holder.rollback()
        await starting
        holder.execute("SELECT * FROM other").fetchall()
        assert holder.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    finally:
        holder.close()
        await store.close()


async def test_a_report_outlives_the_process(opened: Open) -> None:
    first = opened()
    await first.start()
    await first.put(key(1000), b"kept")
    await first.close()
    second = opened()
    await second.start()
    assert await second.get(key(1000)) == b"kept"


async def test_old_reports_go_and_the_last_moment_stays(store: SqlReportStore) -> None:
    for moment in range(1, 26):
        await store.put(key(moment), b"%d" % moment)
    await store.put(key(1, group="minors"), b"minor")
    assert await store.prune() == 15
    assert [await store.get(key(moment)) for moment in (15, 16, 25)] == [None, b"16", b"25"]
    assert await store.get(key(1, group="minors")) == b"minor"
    with pytest.raises(MomentPassedError):
        await store.put(key(15), b"again")
    assert await store.prune() == 0


async def test_putting_is_quick(store: SqlReportStore) -> None:
    await store.put(key(1), b"warm")
    took = []
    for moment in range(2, 52):
        started = time.perf_counter()
        await store.put(key(moment), b"x" * 4000)
        took.append(time.perf_counter() - started)
    # Measured 1 ms on SQLite and 2 ms on PostgreSQL; the bound only catches a mistake of another order.
    assert sorted(took)[len(took) // 2] < 0.05


async def test_a_store_that_cannot_be_reached_says_which() -> None:
    store = SqlReportStore("postgresql+asyncpg://someone:hidden@127.0.0.1:1/none")
    with pytest.raises(ReportStoreError, match=r"someone:\*\*\*@127\.0\.0\.1:1/none.*check store\.url"):
        await store.put(key(1), b"")
    await store.close()


async def test_a_sqlite_file_that_is_none_says_which(tmp_path: Path) -> None:
    (tmp_path / "text.sqlite").write_text("this is no database, whatever its name says" * 100)
    store = SqlReportStore(f"sqlite+aiosqlite:///{tmp_path / 'text.sqlite'}")
    with pytest.raises(ReportStoreError, match=r"text\.sqlite"):
        await store.start()
    await store.close()
