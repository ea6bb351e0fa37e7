"""A bound and a name for whatever goes wrong with a database, whichever room asks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from core.errors import FairmarkError
from core.migrations import MigrationError


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
