"""What every keeper of small documents does: one file of tests for SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from core.documents import Documents, SqlDocuments
from core.errors import StoreUnavailableError
from core.migrations import version_table
from tests.support.signals import InMemory


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs_postgres)])
async def url(request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'deep' / 'documents.sqlite'}"
    return postgres_url.replace("postgresql://", "postgresql+asyncpg://")


@pytest.fixture
async def table(url: str) -> AsyncIterator[str]:
    name = f"documents_{uuid.uuid4().hex[:12]}"
    yield name
    if url.startswith("postgresql"):
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            for one in (name, version_table(name)):
                await connection.execute(sa.text(f'DROP TABLE IF EXISTS "{one}"'))
        await engine.dispose()


@pytest.fixture(params=["sql", "memory"])
async def documents(request: pytest.FixtureRequest, url: str, table: str) -> AsyncIterator[Documents]:
    """memory: what tests of other rooms use in its place."""
    made = SqlDocuments(url, table=table) if request.param == "sql" else InMemory()
    await made.open()
    yield made
    await made.close()


async def test_the_last_text_of_a_name_is_kept_by_its_scope(documents: Documents) -> None:
    await documents.put("here", "a", "one")
    await documents.put("here", "b", "zwei äöü")
    await documents.put("there", "a", "another")
    await documents.put("here", "a", "two")
    assert await documents.all("here") == {"a": "two", "b": "zwei äöü"}
    assert await documents.all("nowhere") == {}


async def test_another_process_reads_what_one_wrote(url: str, table: str) -> None:
    one, other = SqlDocuments(url, table=table), SqlDocuments(url, table=table)
    await asyncio.gather(one.open(), other.open())
    await asyncio.gather(one.put("s", "a", "1"), other.put("s", "b", "2"))
    await one.close()
    assert await other.all("s") == {"a": "1", "b": "2"}
    await other.close()


async def test_of_those_who_read_the_same_text_one_replaces_it(documents: Documents) -> None:
    assert await documents.replace("s", "a", "1", None) is True
    assert await documents.replace("s", "a", "2", None) is False
    assert await documents.replace("s", "a", "2", "0") is False
    assert await documents.replace("s", "b", "2", "1") is False
    assert await documents.replace("t", "a", "2", "1") is False
    assert await documents.all("s") == {"a": "1"}
    assert await documents.replace("s", "a", "2", "1") is True
    assert await documents.all("s") == {"a": "2"}


async def test_no_change_of_several_processes_is_lost(url: str, table: str) -> None:
    async def count(one: Documents, times: int) -> None:
        for _ in range(times):
            while True:
                was = (await one.all("s")).get("n")
                if await one.replace("s", "n", str(int(was or 0) + 1), was):
                    break

    several = [SqlDocuments(url, table=table, timeout_s=10) for _ in range(3)]
    await asyncio.gather(*(one.open() for one in several))
    await asyncio.gather(*(count(one, 10) for one in several))
    assert await several[0].all("s") == {"n": "30"}
    await asyncio.gather(*(one.close() for one in several))


async def test_a_table_made_before_there_were_revisions_is_taken_over_with_what_it_has(url: str, table: str) -> None:
    if url.startswith("sqlite"):
        Path(make_url(url).database or "").parent.mkdir(parents=True)
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        columns = "scope VARCHAR(160), name VARCHAR(160), body TEXT NOT NULL, PRIMARY KEY (scope, name)"
        await connection.execute(sa.text(f'CREATE TABLE "{table}" ({columns})'))
        await connection.execute(sa.text(f"INSERT INTO \"{table}\" VALUES ('s', 'a', '1')"))
    several = [SqlDocuments(url, table=table) for _ in range(3)]
    await asyncio.gather(*(one.open() for one in several))
    assert await several[0].replace("s", "a", "2", "1") is True
    assert await several[1].all("s") == {"a": "2"}
    await asyncio.gather(*(one.close() for one in several))
    async with engine.connect() as connection:
        revision = await connection.scalar(sa.text(f'SELECT version_num FROM "{version_table(table)}"'))
    assert revision == "0001"
    await engine.dispose()


async def test_the_revisions_make_the_table_that_the_code_uses(url: str, table: str) -> None:
    documents = SqlDocuments(url, table=table)
    await documents.open()

    def differences(connection: sa.Connection) -> list[object]:
        opts = {"include_name": lambda name, kind, _: kind != "table" or name == table, "compare_type": True}
        context = MigrationContext.configure(connection, opts=opts)
        return list(compare_metadata(context, documents._table.metadata))

    engine = create_async_engine(url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()
    await documents.close()


async def test_a_table_that_a_newer_fairmark_has_changed_is_left_alone(url: str, table: str) -> None:
    documents = SqlDocuments(url, table=table)
    await documents.open()
    await documents.close()
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(sa.text(f"UPDATE \"{version_table(table)}\" SET version_num = '9999'"))
    await engine.dispose()
    with pytest.raises(StoreUnavailableError, match=r"9999.*run the version that wrote it"):
        await SqlDocuments(url, table=table).open()


async def test_a_store_that_is_not_open_says_so(url: str, table: str) -> None:
    with pytest.raises(StoreUnavailableError, match="not open"):
        await SqlDocuments(url, table=table).put("s", "a", "1")


async def test_a_server_that_is_not_there_is_said_within_the_bound() -> None:
    lost = SqlDocuments("postgresql+asyncpg://test@127.0.0.1:1/test", table="lost", timeout_s=1)
    with pytest.raises(StoreUnavailableError):
        await lost.open()
