"""How every room keeps a database: its connections, and a bound and a name for whatever goes wrong with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from core.errors import FairmarkError
from core.migrations import MigrationError
from core.sqlite import keep_ahead


def connect(url: URL, *, timeout_s: float, busy_ms: int, postgres: int, sqlite: int) -> AsyncEngine:
    """An engine that keeps at most so many connections, `postgres` or `sqlite` by the kind of `url`.

    timeout_s: of a wait for one of them, and of making one. busy_ms: of SQLite's wait for another's lock. SQLite's file
    gets its folder.
    """
    if url.get_backend_name() != "sqlite":
        return create_async_engine(
            url,
            pool_size=postgres,
            max_overflow=0,
            pool_timeout=timeout_s,
            pool_pre_ping=True,
            connect_args={"timeout": timeout_s},
        )
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(
        url, pool_size=sqlite, max_overflow=0, pool_timeout=timeout_s, connect_args={"timeout": busy_ms / 1000}
    )
    return keep_ahead(engine, busy_ms)


@asynccontextmanager
async def bounded(url: URL, timeout_s: float, failure: type[FairmarkError]) -> AsyncIterator[None]:
    """Let the block take `timeout_s` seconds at most; what the database does not do is raised as `failure`.

    The message names the database, without its password, and its first word on the matter.
    """
    where = url.render_as_string(hide_password=True)
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise failure(f"{where} did not answer within {timeout_s:g} s") from error
    except MigrationError as error:
        raise failure(f"{where}: {error}") from error
    except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise failure(f"{where} cannot be used: {reason}") from error
