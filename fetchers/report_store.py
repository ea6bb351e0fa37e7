"""What a reporter has signed: at most one report for each moment, and never one for a moment before another.

All instances of a fetcher share one store, so that whichever is asked returns the very same report. The first writer
wins, decided by the database in one transaction: a row a reporter with the last signed moment, which only ever rises,
and the reports themselves.

SQLite runs with write-ahead logging and `synchronous = NORMAL`: a crash of the process loses nothing, a power cut may
lose the last moments. By the time the machine is back those are further from its clock than a fetcher signs for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol, Self

from msgspec import Struct
from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, String, Table, bindparam, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateTable

from core.sqlite import keep_ahead
from fetchers.errors import MomentPassedError, ReportStoreError

KEEP = 5_000
"""Reports kept for each reporter and group: over an hour of rounds, one a second."""
BUSY_MS = 2_000
"""How long one instance waits for another's lock on an SQLite file."""


class ReportKey(Struct, frozen=True, kw_only=True):
    """Whose report, for what. deployment: `core.types.Deployment.id`. moment: ms."""

    deployment: str
    group: str
    reporter: str
    moment: int


class ReportStore(Protocol):
    """Every method raises `ReportStoreError` when the store cannot be used."""

    async def start(self) -> None:
        """Make what is missing. Safe to call again, and at the same time as another instance."""
        ...

    async def put(self, key: ReportKey, report: bytes) -> bytes:
        """Keep `report`, unless one is kept for `key` already; return the one that is kept.

        Raises `MomentPassedError` when a later moment has been signed, or this one, and its report is not kept.
        """
        ...

    async def get(self, key: ReportKey) -> bytes | None: ...

    async def last_moment(self, deployment: str, group: str, reporter: str) -> int | None:
        """The latest moment ever signed; it outlives the reports."""
        ...

    async def prune(self) -> int:
        """Forget all but the newest reports of each reporter and group; how many went."""
        ...

    async def ping(self) -> str:
        """A short detail for `/health`."""
        ...

    async def close(self) -> None: ...


class SqlReportStore:
    """SQLite (`sqlite+aiosqlite:///…`) or PostgreSQL (`postgresql+asyncpg://…`). prefix: of the tables' names."""

    def __init__(self, url: str, *, keep: int = KEEP, prefix: str = "fetcher_") -> None:
        self._keep = keep
        self._url = make_url(url)
        self._sqlite = self._url.get_backend_name() == "sqlite"
        self._engine = _sqlite_engine(url) if self._sqlite else create_async_engine(url, pool_size=4, pool_timeout=2)
        self._metadata = MetaData()
        self._last = Table(
            f"{prefix}last_signed",
            self._metadata,
            *_key_columns(),
            Column("moment", BigInteger, nullable=False),
        )
        self._reports = Table(
            f"{prefix}reports",
            self._metadata,
            *_key_columns(),
            Column("moment", BigInteger, primary_key=True, autoincrement=False),
            Column("report", LargeBinary, nullable=False),
        )
        self._prepare()

    @classmethod
    async def open(cls, url: str, *, keep: int = KEEP, prefix: str = "fetcher_") -> Self:
        """A store that is ready. Raises `ReportStoreError`."""
        store = cls(url, keep=keep, prefix=prefix)
        try:
            await store.start()
        except BaseException:
            await store.close()
            raise
        return store

    def _prepare(self) -> None:
        """The statements, built once: building costs as much as running them."""
        last, reports = self._last, self._reports
        insert = sqlite.insert if self._sqlite else postgresql.insert
        upsert = insert(last)
        self._raise_moment = upsert.on_conflict_do_update(
            index_elements=["deployment", "group_name", "reporter"],
            set_={"moment": upsert.excluded.moment},
            where=last.c.moment < upsert.excluded.moment,
        ).returning(last.c.moment)
        self._insert = insert(reports)
        self._select = select(reports.c.report).where(
            *(reports.c[name] == bindparam(name) for name in ("deployment", "group_name", "reporter", "moment"))
        )
        self._select_last = select(last.c.moment).where(
            *(last.c[name] == bindparam(name) for name in ("deployment", "group_name", "reporter"))
        )

    async def start(self) -> None:
        if self._sqlite and self._url.database:
            Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
        async with self._connection() as connection:
            if not self._sqlite:  # there, `if not exists` of two instances at once collides all the same
                await connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('fairmark_report_store'))"))
            for table in (self._last, self._reports):
                await connection.execute(CreateTable(table, if_not_exists=True))

    async def put(self, key: ReportKey, report: bytes) -> bytes:
        row = _row(key)
        async with self._connection() as connection:
            # First, so that the reporter's row is locked: nobody signs for the same reporter until this is decided.
            risen = (await connection.execute(self._raise_moment, row)).scalar()
            if risen is not None:
                await connection.execute(self._insert, {**row, "report": report})
                return report
            kept = (await connection.execute(self._select, row)).scalar()
            if kept is not None:
                return bytes(kept)
            last = (await connection.execute(self._select_last, row)).scalar_one()
            raise MomentPassedError(key.moment, last)

    async def get(self, key: ReportKey) -> bytes | None:
        async with self._connection() as connection:
            kept = (await connection.execute(self._select, _row(key))).scalar()
            return None if kept is None else bytes(kept)

    async def last_moment(self, deployment: str, group: str, reporter: str) -> int | None:
        row = {"deployment": deployment, "group_name": group, "reporter": reporter.lower()}
        async with self._connection() as connection:
            moment: int | None = (await connection.execute(self._select_last, row)).scalar()
            return moment

    async def prune(self) -> int:
        reports, gone = self._reports, 0
        async with self._connection() as connection:
            for key in (await connection.execute(select(*list(self._last.c)[:3]))).all():
                mine = [reports.c[name] == value for name, value in key._mapping.items()]
                newest = select(reports.c.moment).where(*mine).order_by(reports.c.moment.desc())
                edge = (await connection.execute(newest.offset(self._keep).limit(1))).scalar()
                if edge is not None:
                    gone += (await connection.execute(reports.delete().where(*mine, reports.c.moment <= edge))).rowcount
        return gone

    async def ping(self) -> str:
        async with self._connection() as connection:
            await connection.execute(text("SELECT 1"))
        return self._url.get_backend_name()

    async def close(self) -> None:
        await self._engine.dispose()

    async def drop(self) -> None:
        """Remove the tables and all they hold: for tests."""
        async with self._connection() as connection:
            await connection.run_sync(self._metadata.drop_all)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, OSError) as error:
            where = self._url.render_as_string(hide_password=True)
            cause = getattr(error, "orig", None) or error
            raise ReportStoreError(f"{where}: {cause}; check store.url and that the database runs") from error


def _sqlite_engine(url: str) -> AsyncEngine:
    # One connection: SQLite has one writer, and waiting for it here is cheaper than in the database.
    engine = create_async_engine(
        url, pool_size=1, max_overflow=0, pool_timeout=2, connect_args={"timeout": BUSY_MS / 1000}
    )
    return keep_ahead(engine, BUSY_MS)


def _key_columns() -> list[Column[str]]:
    return [Column(name, String(200), primary_key=True) for name in ("deployment", "group_name", "reporter")]


def _row(key: ReportKey) -> dict[str, object]:
    return {
        "deployment": key.deployment,
        "group_name": key.group,
        "reporter": key.reporter.lower(),
        "moment": key.moment,
    }
