"""One row an attempt; the unique key (deployment, group, moment) is the claim."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision, down_revision = "0001", None
TABLE = "fairmark_attempts"


def upgrade(op: Operations) -> None:
    op.create_table(
        TABLE,
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("deployment", sa.String(128), nullable=False),
        sa.Column("group_name", sa.String(64), nullable=False),
        sa.Column("moment", sa.BigInteger),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("code", sa.String(32)),
        sa.Column("round", sa.BigInteger),
        sa.Column("record", sa.Text, nullable=False),
        sa.UniqueConstraint("deployment", "group_name", "moment", name=f"{TABLE}_claim"),
    )
    op.create_index(f"{TABLE}_round", TABLE, ["deployment", "group_name", "round"])
    op.create_index(f"{TABLE}_started", TABLE, ["deployment", "group_name", "started_ms"])
