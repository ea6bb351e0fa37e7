"""Brings a room's tables to the revision that this code was written for, with Alembic, when a service opens its store.

A room keeps its revisions as modules of a folder: each has `revision`, `down_revision` and `upgrade(op)`. They are
given their `Operations` as an argument, not through Alembic's global proxy: stores of several rooms may open at once in
one process. Each room has a version table of its own, for rooms may share a database.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.ext.asyncio import AsyncEngine

from core.errors import FairmarkError

Existing = Callable[[sa.Connection], str | None]
"""Says at which revision a database is that has no version table: None where the room's tables are not there."""


class MigrationError(FairmarkError):
    """The database is at a revision that this code does not have."""

    code: ClassVar[str] = "store_unavailable"


def version_table(room: str) -> str:
    """Where the revision of a room's tables is kept."""
    return f"{room}_alembic_version"


async def upgrade(
    engine: AsyncEngine, folder: Path, *, room: str, existing: Existing = lambda _: None, table: str = ""
) -> None:
    """Bring the tables of `room` to the newest revision in `folder`, in one transaction: all of it, or nothing.

    table: for revisions that make a table of any name, which find it as `op.get_context().opts["table"]`.

    Several processes may do so at once: one upgrades, the others wait for it and find it done (PostgreSQL: an advisory
    lock for the length of the transaction; SQLite: the file's write lock). Raises `MigrationError` where a newer
    Fairmark has been there, and SQLAlchemy's errors; the caller bounds the time.
    """
    async with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(
                sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"fairmark:{room}"}
            )
        else:
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
        await connection.run_sync(_upgrade, folder, room, existing, table)
        await connection.commit()


def _upgrade(connection: sa.Connection, folder: Path, room: str, existing: Existing, table: str) -> None:
    script = ScriptDirectory(str(folder), version_locations=[str(folder)])

    def steps(heads: tuple[str, ...], _context: MigrationContext) -> list[RevisionStep]:
        return [*script._upgrade_revs("head", heads)]  # type: ignore[arg-type]  # as Alembic's own command calls it

    versions = version_table(room)
    context = MigrationContext.configure(connection, opts={"fn": steps, "version_table": versions, "table": table})
    try:
        if not context.get_current_heads() and (found := existing(connection)) is not None:
            context.stamp(script, found)
        context.run_migrations(op=Operations(context))
    except CommandError as error:
        raise MigrationError(
            f"{versions} names a revision that this Fairmark does not have ({error}): run the version that wrote it, "
            "or a newer one"
        ) from error
