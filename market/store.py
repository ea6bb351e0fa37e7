"""Where minutes are kept: SQLite or PostgreSQL, one table, one row for each mode, pair, exchange and minute.

A row is written in place of an older one of the same key, unless that one counts more ticks: so a row may be written
again, and an old one that waited in a spool never takes the place of a newer one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from core.databases import bounded, connect
from core.migrations import upgrade
from core.types import Mode
from market import migrations
from market.errors import StoreUnavailableError
from market.minutes import MinuteRow

MIGRATIONS = Path(migrations.__file__).parent
AT_ONCE = 1_000
"""Rows of one statement."""
BUSY_MS = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEY = ("mode", "pair_name", "exchange", "timestamp")


class MinuteStore(Protocol):
    """Keeps minutes. Every call is bounded in time and raises `StoreUnavailableError` when it cannot be done."""

    async def open(self) -> None:
        """Connect, and bring the tables to the newest revision."""
        ...

    async def write(self, rows: Sequence[MinuteRow]) -> None:
        """Write rows; see above what becomes of one that is there already."""
        ...

    async def read(self, mode: Mode, symbol: str, exchange: str | None, from_ms: int, to_ms: int) -> list[MinuteRow]:
        """The minutes that begin in `[from_ms, to_ms)`, by time, then exchange. exchange: None for all."""
        ...

    async def prune(self, before_ms: int) -> None:
        """Drop what began before."""
        ...

    async def ping(self) -> str: ...

    async def close(self) -> None: ...


class _Exact(sa.types.TypeDecorator[Decimal]):
    """A decimal with all its digits: NUMERIC, or text where the database has floats only."""

    impl = sa.Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        return dialect.type_descriptor(sa.Numeric() if dialect.name == "postgresql" else sa.Text())

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        return value if value is None or dialect.name == "postgresql" else format(value, "f")

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


class _Moment(sa.types.TypeDecorator[int]):
    """Milliseconds since the Unix epoch here, a timestamp there (SQLite: in UTC, without a zone)."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment = moment_of(value)
        return moment if dialect.name == "postgresql" else moment.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> int | None:
        if value is None:
            return None
        return (value.replace(tzinfo=value.tzinfo or UTC) - _EPOCH) // timedelta(milliseconds=1)


def moment_of(ms: int) -> datetime:
    """Milliseconds since the Unix epoch as a moment in UTC, exactly."""
    return _EPOCH + timedelta(milliseconds=ms)


TABLE = sa.Table(
    "market_minutes",
    sa.MetaData(),
    sa.Column("mode", sa.String(8), primary_key=True),
    sa.Column("pair_name", sa.String(40), primary_key=True),
    sa.Column("exchange", sa.String(40), primary_key=True),
    sa.Column("timestamp", _Moment, primary_key=True),
    sa.Column("average_price", _Exact, nullable=False),
    sa.Column("min_price", _Exact, nullable=False),
    sa.Column("max_price", _Exact, nullable=False),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("total", _Exact, nullable=False),
    sa.Column("open_price", _Exact, nullable=False),
    sa.Column("close_price", _Exact, nullable=False),
    sa.Column("open_time", _Moment, nullable=False),
    sa.Column("close_time", _Moment, nullable=False),
    sa.Column("volume", _Exact),
)


class SqlMinuteStore:
    """`MinuteStore` over SQLAlchemy Core.

    url: an async SQLAlchemy URL. partition: in PostgreSQL, new partitions for each `day` or `month`, so that old ones
    can be dropped whole; `none` keeps all rows in one. timeout_s: bound of each call.
    """

    def __init__(self, url: str, *, partition: str = "none", timeout_s: float = 3.0) -> None:
        self._url = make_url(url)
        self._partition = partition
        self._timeout_s = timeout_s
        self._engine: AsyncEngine | None = None
        self._made: set[str] = set()

    @property
    def _postgres(self) -> bool:
        return self._url.get_backend_name() == "postgresql"

    async def open(self) -> None:
        if self._engine is not None:
            return
        engine = connect(self._url, timeout_s=self._timeout_s, busy_ms=BUSY_MS, postgres=3, sqlite=2)
        try:
            async with bounded(self._url, 4 * self._timeout_s, StoreUnavailableError):
                await upgrade(engine, MIGRATIONS, room="market")
        except BaseException:
            await engine.dispose()
            raise
        self._engine = engine

    async def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    async def write(self, rows: Sequence[MinuteRow]) -> None:
        if not rows:
            return
        async with self._begin() as connection:
            if self._postgres and self._partition != "none":
                await self._make_partitions(connection, rows)
            dialect = postgresql if self._postgres else sqlite
            insert: Any = dialect.insert(TABLE)
            changed = {column.name: insert.excluded[column.name] for column in TABLE.columns if column.name not in _KEY}
            statement = insert.on_conflict_do_update(
                index_elements=_KEY, set_=changed, where=insert.excluded["count"] >= TABLE.c["count"]
            )
            for start in range(0, len(rows), AT_ONCE):
                await connection.execute(statement, [_values(row) for row in rows[start : start + AT_ONCE]])

    async def read(self, mode: Mode, symbol: str, exchange: str | None, from_ms: int, to_ms: int) -> list[MinuteRow]:
        columns = TABLE.c
        query = sa.select(TABLE).where(
            columns.mode == str(mode),
            columns.pair_name == symbol,
            columns.timestamp >= from_ms,
            columns.timestamp < to_ms,
        )
        if exchange is not None:
            query = query.where(columns.exchange == exchange)
        query = query.order_by(columns.timestamp, columns.exchange)
        async with self._begin() as connection:
            return [_row(found) for found in (await connection.execute(query)).mappings()]

    async def prune(self, before_ms: int) -> None:
        async with self._begin() as connection:
            if self._postgres:
                for name in await self._partitions(connection):
                    if (ended := _end_of(name)) is not None and ended <= before_ms:
                        await connection.execute(sa.text(f'DROP TABLE "{name}"'))
                        self._made.discard(name)
            await connection.execute(sa.delete(TABLE).where(TABLE.c.timestamp < before_ms))

    async def ping(self) -> str:
        async with self._begin() as connection:
            await connection.execute(sa.text("SELECT 1"))
        return self._url.get_backend_name()

    async def _make_partitions(self, connection: AsyncConnection, rows: Iterable[MinuteRow]) -> None:
        """Partitions for these rows. Rows that have none go to the one for the rest, and are found there."""
        for name, (start, end) in {_partition_of(row.minute_ms, self._partition) for row in rows}:
            if name in self._made:
                continue
            try:
                async with connection.begin_nested():
                    await connection.execute(
                        sa.text(
                            f'CREATE TABLE IF NOT EXISTS "{name}" PARTITION OF market_minutes '
                            f"FOR VALUES FROM ('{start.isoformat()}') TO ('{end.isoformat()}')"
                        )
                    )
            except SQLAlchemyError:
                pass  # the rest holds rows of this time already: they stay together there
            self._made.add(name)

    @staticmethod
    async def _partitions(connection: AsyncConnection) -> list[str]:
        query = (
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = 'market_minutes'::regclass"
        )
        return list((await connection.execute(sa.text(query))).scalars())

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[AsyncConnection]:
        if self._engine is None:
            raise StoreUnavailableError("the database of minutes is not open")
        async with bounded(self._url, self._timeout_s, StoreUnavailableError), self._engine.begin() as connection:
            yield connection


def _partition_of(minute_ms: int, kind: str) -> tuple[str, tuple[datetime, datetime]]:
    """The name of the partition of a minute, and its bounds."""
    moment = moment_of(minute_ms)
    start = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if kind == "day":
        return f"market_minutes_{start:%Y%m%d}", (start, start + timedelta(days=1))
    start = start.replace(day=1)
    return f"market_minutes_{start:%Y%m}", (start, (start + timedelta(days=32)).replace(day=1))


def _end_of(name: str) -> int | None:
    """When the partition of this name ends, in milliseconds; None where it is not one of ours."""
    digits = name.removeprefix("market_minutes_")
    if not digits.isdigit() or len(digits) not in (6, 8):
        return None
    start = datetime(int(digits[:4]), int(digits[4:6]), int(digits[6:] or 1), tzinfo=UTC)
    end = start + timedelta(days=1) if len(digits) == 8 else (start + timedelta(days=32)).replace(day=1)
    return (end - _EPOCH) // timedelta(milliseconds=1)


def _values(row: MinuteRow) -> dict[str, Any]:
    return {
        "mode": str(row.mode),
        "pair_name": row.symbol,
        "exchange": row.exchange,
        "timestamp": row.minute_ms,
        "average_price": row.average,
        "min_price": row.low,
        "max_price": row.high,
        "count": row.count,
        "total": row.total,
        "open_price": row.open,
        "close_price": row.close,
        "open_time": row.open_ms,
        "close_time": row.close_ms,
        "volume": row.volume,
    }


def _row(found: Any) -> MinuteRow:
    return MinuteRow(
        mode=Mode(found["mode"]),
        symbol=found["pair_name"],
        exchange=found["exchange"],
        minute_ms=found["timestamp"],
        average=found["average_price"],
        low=found["min_price"],
        high=found["max_price"],
        count=found["count"],
        total=found["total"],
        open=found["open_price"],
        close=found["close_price"],
        open_ms=found["open_time"],
        close_ms=found["close_time"],
        volume=found["volume"],
    )
