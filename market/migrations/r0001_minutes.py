"""The table of minutes; in PostgreSQL partitioned by time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0001"
down_revision = None


def upgrade(op: Operations) -> None:
    postgres = op.get_bind().dialect.name == "postgresql"
    exact = sa.Numeric() if postgres else sa.Text()  # SQLite has floats only: it keeps the digits as text
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "market_minutes",
        sa.Column("mode", sa.String(8), nullable=False),
        sa.Column("pair_name", sa.String(40), nullable=False),
        sa.Column("exchange", sa.String(40), nullable=False),
        sa.Column("timestamp", moment, nullable=False),
        sa.Column("average_price", exact, nullable=False),
        sa.Column("min_price", exact, nullable=False),
        sa.Column("max_price", exact, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("total", exact, nullable=False),
        sa.Column("open_price", exact, nullable=False),
        sa.Column("close_price", exact, nullable=False),
        sa.Column("open_time", moment, nullable=False),
        sa.Column("close_time", moment, nullable=False),
        sa.Column("volume", exact),
        sa.PrimaryKeyConstraint("mode", "pair_name", "exchange", "timestamp", name="market_minutes_key"),
        postgresql_partition_by="RANGE (timestamp)",
    )
    op.create_index("market_minutes_time", "market_minutes", ["timestamp"])
    if postgres:
        op.execute("CREATE TABLE market_minutes_rest PARTITION OF market_minutes DEFAULT")
