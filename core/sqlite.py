"""SQLite as every service keeps it: write-ahead logging, and a bounded wait for another's lock."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import aiosqlite
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine


def keep_ahead(engine: AsyncEngine, busy_ms: int) -> AsyncEngine:
    """Let every connection of `engine` log ahead and wait `busy_ms` for a lock; returns it.

    `synchronous = NORMAL`: a crash of the process loses nothing, a power cut the newest rows, never the file.
    """

    @event.listens_for(engine.sync_engine, "connect")
    def tune(connection: Any, _record: object) -> None:
        connection.run_async(lambda raw: write_ahead(raw, busy_ms))

    return engine


async def write_ahead(connection: aiosqlite.Connection, busy_ms: int) -> None:
    """SQLite's busy timeout does not cover the switch to WAL: of two that open a new file at once, one is told at once
    that it is locked. So ask first, and try again for as long as the timeout would have waited."""
    await connection.execute_fetchall(f"PRAGMA busy_timeout = {busy_ms}")
    deadline = asyncio.get_running_loop().time() + busy_ms / 1000
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
    await connection.execute_fetchall("PRAGMA synchronous = NORMAL")
