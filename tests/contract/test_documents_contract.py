"""What every keeper of small documents does: one file of tests for SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from core.documents import Documents, SqlDocuments
from core.errors import StoreUnavailableError


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
            await connection.execute(sa.text(f'DROP TABLE IF EXISTS "{name}"'))
        await engine.dispose()


@pytest.fixture
async def documents(url: str, table: str) -> AsyncIterator[Documents]:
    made = SqlDocuments(url, table=table)
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


async def test_a_store_that_is_not_open_says_so(url: str, table: str) -> None:
    with pytest.raises(StoreUnavailableError, match="not open"):
        await SqlDocuments(url, table=table).put("s", "a", "1")


async def test_a_server_that_is_not_there_is_said_within_the_bound() -> None:
    lost = SqlDocuments("postgresql+asyncpg://test@127.0.0.1:1/test", table="lost", timeout_s=1)
    with pytest.raises(StoreUnavailableError):
        await lost.open()
