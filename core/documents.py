"""A few small documents that must outlive their process: JSON text by scope and name, in SQLite or PostgreSQL.

For what is read whole at start and written when it changes, such as who is registered. What grows with time has tables
of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from core.databases import bounded, connect
from core.document_revisions import FOLDER
from core.errors import StoreUnavailableError
from core.migrations import upgrade

BUSY_MS = 1_000
OPEN_S = 15.0
"""How long a service that starts waits for the table: everything else on the machine may be starting too."""


class Documents(Protocol):
    """Every call is bounded in time and raises `StoreUnavailableError` when it cannot be done."""

    async def open(self) -> None:
        """Connect, and bring the table to the revision of this code. Safe to call again."""
        ...

    async def put(self, scope: str, name: str, body: str) -> None:
        """Write a document, in the place of the one that had its name."""
        ...

    async def replace(self, scope: str, name: str, body: str, was: str | None) -> bool:
        """Write a document where its text is still `was` (None: where there is none). False, and nothing is written,
        where somebody else has changed it: of several who read the same text, one replaces it."""
        ...

    async def all(self, scope: str) -> dict[str, str]:
        """Every document of a scope by its name."""
        ...

    async def ping(self) -> str: ...

    async def close(self) -> None: ...


class SqlDocuments:
    """`Documents` over SQLAlchemy Core. url: `sqlite+aiosqlite:///…` or `postgresql+asyncpg://…`. timeout_s: bound of
    each call but `open`, which has `OPEN_S`."""

    def __init__(self, url: str, *, table: str, timeout_s: float = 2.0) -> None:
        self._url = make_url(url)
        self._timeout_s = timeout_s
        self._engine: AsyncEngine | None = None
        self._table = sa.Table(
            table,
            sa.MetaData(),
            sa.Column("scope", sa.String(160), primary_key=True),
            sa.Column("name", sa.String(160), primary_key=True),
            sa.Column("body", sa.Text, nullable=False),
        )

    async def open(self) -> None:
        if self._engine is not None:
            return
        async with bounded(self._url, self._timeout_s, StoreUnavailableError):
            engine = connect(self._url, timeout_s=self._timeout_s, busy_ms=BUSY_MS, postgres=2, sqlite=1)
        try:
            async with bounded(self._url, OPEN_S, StoreUnavailableError):
                await upgrade(engine, FOLDER, room=self._table.name, existing=self._existing, table=self._table.name)
        except BaseException:
            await engine.dispose()
            raise
        self._engine = engine

    def _existing(self, connection: sa.Connection) -> str | None:
        """The revision of a table that was made before there were revisions."""
        return "0001" if sa.inspect(connection).has_table(self._table.name) else None

    async def put(self, scope: str, name: str, body: str) -> None:
        async with self._begin() as connection:
            written = self._insert(connection).values(scope=scope, name=name, body=body)
            await connection.execute(
                written.on_conflict_do_update(index_elements=["scope", "name"], set_={"body": written.excluded.body})
            )

    async def replace(self, scope: str, name: str, body: str, was: str | None) -> bool:
        async with self._begin() as connection:
            if was is None:
                new = self._insert(connection).values(scope=scope, name=name, body=body).on_conflict_do_nothing()
                return bool((await connection.execute(new)).rowcount == 1)
            columns = self._table.c
            same = (columns.scope == scope, columns.name == name, columns.body == was)
            changed = await connection.execute(sa.update(self._table).where(*same).values(body=body))
            return bool(changed.rowcount == 1)

    def _insert(self, connection: AsyncConnection) -> Any:
        return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(self._table)

    async def all(self, scope: str) -> dict[str, str]:
        query = sa.select(self._table.c.name, self._table.c.body).where(self._table.c.scope == scope)
        async with self._begin() as connection:
            return {name: body for name, body in await connection.execute(query)}

    async def ping(self) -> str:
        async with self._begin() as connection:
            await connection.execute(sa.text("SELECT 1"))
        return self._url.get_backend_name()

    async def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[AsyncConnection]:
        if self._engine is None:
            raise StoreUnavailableError(f"the table {self._table.name} is not open")
        async with bounded(self._url, self._timeout_s, StoreUnavailableError), self._engine.begin() as connection:
            yield connection
