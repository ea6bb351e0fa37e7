"""Revisions of the tables of attempts and of equivocations, applied by `core.migrations.upgrade` when the store opens.

A revision stands as it is once it is released: a change of the table is a further one.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

FOLDER = Path(__file__).parent
TABLE = "fairmark_attempts"
EQUIVOCATIONS = "fairmark_equivocations"


def existing(connection: sa.Connection) -> str | None:
    """The revision of a table that was made before there were revisions."""
    inspector = sa.inspect(connection)
    if not inspector.has_table(TABLE):
        return None
    return "0002" if "raw" in {column["name"] for column in inspector.get_columns(TABLE)} else "0001"
