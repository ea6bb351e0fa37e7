"""A PostgreSQL database of a test's own on the shared server: its tables, its advisory locks, its notifications."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import asyncpg


@contextlib.asynccontextmanager
async def own_database(postgres_url: str) -> AsyncIterator[str]:
    """Its SQLAlchemy URL. It is dropped at the end, with whatever is connected."""
    name = await _create(postgres_url)
    try:
        yield _url(postgres_url, name, "postgresql+asyncpg")
    finally:
        await _drop(postgres_url, name)


@contextlib.contextmanager
def own_database_sync(postgres_url: str) -> Iterator[str]:
    """The same for a test without an event loop; its URL is as operators write it."""
    name = asyncio.run(_create(postgres_url))
    try:
        yield _url(postgres_url, name, "postgresql")
    finally:
        asyncio.run(_drop(postgres_url, name))


def _url(postgres_url: str, name: str, scheme: str) -> str:
    return urlsplit(postgres_url)._replace(scheme=scheme, path=f"/{name}").geturl()


async def _create(postgres_url: str) -> str:
    name = f"t_{secrets.token_hex(6)}"
    await _execute(postgres_url, f'CREATE DATABASE "{name}" TEMPLATE template0')
    return name


async def _drop(postgres_url: str, name: str) -> None:
    await _execute(postgres_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
