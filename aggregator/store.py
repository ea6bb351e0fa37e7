"""Where attempts are kept: SQLite or PostgreSQL, by deployment, so that an old record never speaks for a new chain.

One row an attempt. The unique key (deployment, group, moment) is the claim: of several aggregators one gets the row.
The record is JSON text (not a JSON type: it must come back to the byte, and PostgreSQL's would refuse some strings that
a hostile fetcher can write).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import aiosqlite
import asyncpg  # type: ignore[import-untyped]
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateIndex, CreateTable

from aggregator.attempts import AttemptRecord
from aggregator.errors import StoreUnavailableError
from core import codec

PRUNE_EVERY = 100
"""Saves between looks at the retention."""
PRUNE_BATCH = 1_000
BUSY_MS = 1_000
"""How long one service waits for another's lock on an SQLite file."""


class AttemptStore(Protocol):
    """Keeps attempts. Every call is bounded in time and raises `StoreUnavailableError` when it cannot be done."""

    async def open(self) -> None:
        """Connect, and make the table where it is missing."""
        ...

    async def close(self) -> None: ...

    async def claim(self, record: AttemptRecord) -> bool:
        """Write a new attempt; False when its (deployment, group, moment) is taken."""
        ...

    async def save(self, record: AttemptRecord) -> None:
        """Replace the attempt's record, or write it where there is none (an attempt that failed before its claim)."""
        ...

    async def get(self, deployment: str, attempt: str) -> AttemptRecord | None: ...

    async def by_round(self, deployment: str, group: str, round_: int) -> AttemptRecord | None:
        """The accepted attempt that made this round, where this system made it."""
        ...

    async def latest(self, deployment: str, group: str, limit: int = 20) -> list[AttemptRecord]:
        """The newest attempts first."""
        ...

    async def ping(self) -> str: ...


class SqlAttemptStore:
    """`AttemptStore` over SQLAlchemy Core.

    url: an async SQLAlchemy URL (`sqlite+aiosqlite:///…` or `postgresql+asyncpg://…`). keep: attempts kept of each
    deployment, oldest pruned first, in batches. timeout_s: bound of each call.
    """

    def __init__(
        self, url: str, *, keep: int = 100_000, table: str = "fairmark_attempts", timeout_s: float = 2.0
    ) -> None:
        self._url = make_url(url)
        self._keep = keep
        self._timeout_s = timeout_s
        self._saves = 0
        self._engine: AsyncEngine | None = None
        self._metadata = sa.MetaData()
        self._table = sa.Table(
            table,
            self._metadata,
            sa.Column("id", sa.String(64), primary_key=True),
            sa.Column("deployment", sa.String(128), nullable=False),
            sa.Column("group_name", sa.String(64), nullable=False),
            sa.Column("moment", sa.BigInteger),  # null: failed before it had one
            sa.Column("started_ms", sa.BigInteger, nullable=False),
            sa.Column("state", sa.String(16), nullable=False),
            sa.Column("code", sa.String(32)),
            sa.Column("round", sa.BigInteger),
            sa.Column("record", sa.Text, nullable=False),
            sa.UniqueConstraint("deployment", "group_name", "moment", name=f"{table}_claim"),
            sa.Index(f"{table}_round", "deployment", "group_name", "round"),
            sa.Index(f"{table}_started", "deployment", "group_name", "started_ms"),
        )

    async def open(self) -> None:
        if self._engine is not None:
            return
        async with self._guarded():
            engine = self._connect()
        try:
            async with self._guarded(), engine.begin() as connection:
                if engine.dialect.name == "postgresql":  # two services that start at once would both create the table
                    await connection.execute(sa.text("SELECT pg_advisory_xact_lock(4607182418800017408)"))
                # not `create_all`: between its look and its creating, another service may have made the table
                await connection.execute(CreateTable(self._table, if_not_exists=True))
                for index in self._table.indexes:
                    await connection.execute(CreateIndex(index, if_not_exists=True))
        except BaseException:
            await engine.dispose()
            raise
        self._engine = engine

    def _connect(self) -> AsyncEngine:
        if self._url.get_backend_name() != "sqlite":
            return create_async_engine(
                self._url, pool_size=4, max_overflow=0, pool_timeout=self._timeout_s, pool_pre_ping=True
            )
        if self._url.database and self._url.database != ":memory:":
            Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_async_engine(
            self._url,
            pool_size=2,
            max_overflow=0,
            pool_timeout=self._timeout_s,
            connect_args={"timeout": BUSY_MS / 1000},
        )

        @sa.event.listens_for(engine.sync_engine, "connect")
        def pragmas(connection: Any, _record: Any) -> None:
            connection.run_async(_write_ahead)

        return engine

    async def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    async def claim(self, record: AttemptRecord) -> bool:
        async with self._begin() as connection:
            insert = self._insert(connection).values(**_row(record)).on_conflict_do_nothing()
            return (await connection.execute(insert)).rowcount == 1

    async def save(self, record: AttemptRecord) -> None:
        row = _row(record)
        async with self._begin() as connection:
            changes = {name: row[name] for name in ("state", "code", "round", "record")}
            insert = self._insert(connection).values(**row)
            await connection.execute(insert.on_conflict_do_update(index_elements=["id"], set_=changes))
            self._saves += 1
            if self._saves % PRUNE_EVERY == 0:
                await self._prune(connection, record.deployment)

    async def _prune(self, connection: AsyncConnection, deployment: str) -> None:
        table = self._table
        oldest = (
            sa.select(table.c.id)
            .where(table.c.deployment == deployment)
            .order_by(table.c.started_ms.desc())
            .offset(self._keep)
            .limit(PRUNE_BATCH)
        )
        await connection.execute(sa.delete(table).where(table.c.id.in_(oldest.scalar_subquery())))

    async def get(self, deployment: str, attempt: str) -> AttemptRecord | None:
        table = self._table
        return await self._one(sa.select(table.c.record).where(table.c.id == attempt, table.c.deployment == deployment))

    async def by_round(self, deployment: str, group: str, round_: int) -> AttemptRecord | None:
        table = self._table
        return await self._one(
            sa.select(table.c.record)
            .where(table.c.deployment == deployment, table.c.group_name == group, table.c.round == round_)
            .order_by(table.c.started_ms.desc())
            .limit(1)
        )

    async def latest(self, deployment: str, group: str, limit: int = 20) -> list[AttemptRecord]:
        table = self._table
        query = (
            sa.select(table.c.record)
            .where(table.c.deployment == deployment, table.c.group_name == group)
            .order_by(table.c.started_ms.desc())
            .limit(limit)
        )
        async with self._begin() as connection:
            rows = (await connection.execute(query)).scalars().all()
        return [codec.decode(text, AttemptRecord) for text in rows]

    async def ping(self) -> str:
        async with self._begin() as connection:
            await connection.execute(sa.text("SELECT 1"))
        return self._url.get_backend_name()

    async def _one(self, query: sa.Select[Any]) -> AttemptRecord | None:
        async with self._begin() as connection:
            text = (await connection.execute(query)).scalar_one_or_none()
        return None if text is None else codec.decode(text, AttemptRecord)

    def _insert(self, connection: AsyncConnection) -> Any:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        return dialect.insert(self._table)

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[AsyncConnection]:
        if self._engine is None:
            raise StoreUnavailableError("the store of attempts is not open")
        async with self._guarded(), self._engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def _guarded(self) -> AsyncIterator[None]:
        where = self._url.render_as_string(hide_password=True)
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError as error:
            raise StoreUnavailableError(f"{where} did not answer within {self._timeout_s:g} s") from error
        except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise StoreUnavailableError(f"{where} cannot be used: {reason}") from error


async def _write_ahead(connection: aiosqlite.Connection) -> None:
    """SQLite's busy timeout does not cover the switch to WAL: of two that open a new file at once, one is told at once
    that it is locked. So ask first, and try again for as long as the timeout would have waited."""
    await connection.execute_fetchall(f"PRAGMA busy_timeout = {BUSY_MS}")
    deadline = asyncio.get_running_loop().time() + BUSY_MS / 1000
    while True:
        try:
            if list(await connection.execute_fetchall("PRAGMA journal_mode")) != [("wal",)]:
                await connection.execute_fetchall("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            locked = getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
            if not locked or asyncio.get_running_loop().time() >= deadline:
                raise
            await asyncio.sleep(0.01)
    # a power cut loses the newest rows, never the file
    await connection.execute_fetchall("PRAGMA synchronous = NORMAL")


def _row(record: AttemptRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "deployment": record.deployment,
        "group_name": record.group,
        "moment": record.moment or None,
        "started_ms": record.started_ms,
        "state": str(record.state),
        "code": record.code,
        "round": record.round,
        "record": codec.encode(record).decode(),
    }
