"""The bytes of the newest transaction, beside the record, until it is settled."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision, down_revision = "0002", "0001"


def upgrade(op: Operations) -> None:
    op.add_column("fairmark_attempts", sa.Column("raw", sa.Text))
