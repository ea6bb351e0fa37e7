"""One row a document."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision, down_revision = "0001", None


def upgrade(op: Operations) -> None:
    op.create_table(
        op.get_context().opts["table"],
        sa.Column("scope", sa.String(160), primary_key=True),
        sa.Column("name", sa.String(160), primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
    )
