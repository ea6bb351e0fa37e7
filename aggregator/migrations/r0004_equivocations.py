"""Proofs of equivocation have a table of their own: attempts are pruned, proofs are not."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision, down_revision = "0004", "0003"


def upgrade(op: Operations) -> None:
    op.create_table(
        "fairmark_equivocations",
        sa.Column("deployment", sa.String(128), primary_key=True),
        sa.Column("group_name", sa.String(64), primary_key=True),
        sa.Column("moment", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("signer", sa.String(64), primary_key=True),
        sa.Column("proof", sa.Text, nullable=False),
    )
