"""Finds attempts that have not ended, and those whose transaction's bytes are kept, however many others there are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision, down_revision = "0005", "0004"
TABLE = "fairmark_attempts"


def upgrade(op: Operations) -> None:
    for name, where in (("unended", "ended_ms IS NULL"), ("raw", "raw IS NOT NULL")):
        only = sa.text(where)
        op.create_index(f"{TABLE}_{name}", TABLE, ["deployment", "relayer"], postgresql_where=only, sqlite_where=only)
