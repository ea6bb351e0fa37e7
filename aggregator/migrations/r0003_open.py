"""At most one open attempt of a group, wherever it runs: `open_group` is the group's name until the attempt has ended.

Attempts of before have none: those that a crash left open are taken up by their own aggregator.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision, down_revision = "0003", "0002"
TABLE = "fairmark_attempts"


def upgrade(op: Operations) -> None:
    op.add_column(TABLE, sa.Column("relayer", sa.String(64)))
    op.add_column(TABLE, sa.Column("ended_ms", sa.BigInteger))
    op.add_column(TABLE, sa.Column("open_group", sa.String(64)))
    op.create_index(f"{TABLE}_open", TABLE, ["deployment", "open_group"], unique=True)
