"""Where attempts are kept: SQLite or PostgreSQL, by deployment, so that an old record never speaks for a new chain.

One row an attempt. The unique key (deployment, group, moment) is the claim: of several aggregators one gets the row. A
second one, over `open_group`, lets a group have one open attempt at a time, wherever it runs. The record is JSON text
(not a JSON type: it must come back to the byte, and PostgreSQL's would refuse some strings that a hostile fetcher can
write). The table is made and changed by `aggregator.migrations`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from aggregator import migrations
from aggregator.attempts import AttemptRecord, FailureReason
from aggregator.equivocations import Equivocation, found_in, table
from aggregator.equivocations import row as proof_row
from aggregator.listening import CHANNEL, Listener
from aggregator.running import JOIN_WITHIN_MS
from aggregator.states import FINAL, OPEN, State
from core import codec
from core.databases import bounded, connect
from core.errors import StoreUnavailableError
from core.migrations import upgrade

PRUNE_EVERY = 100
"""Saves between looks at the retention."""
PRUNE_BATCH = 1_000
BUSY_MS = 1_000
"""How long one service waits for another's lock on an SQLite file."""
UPGRADE_S = 30.0
"""How long a service that starts waits for the table, while another changes it."""
CLAIM_TRIES = 3
POLL_S = 0.05
"""Between looks at an attempt that another process runs, where the database sends no word."""
MAX_FOUND = 256
"""Attempts that wait for somebody to see to them: as many as are read within a call's bound."""
_FINAL = [str(state) for state in FINAL]


class AttemptStore(Protocol):
    """Keeps attempts. Every call is bounded in time and raises `StoreUnavailableError` when it cannot be done."""

    async def open(self) -> None:
        """Connect, and bring the table to the revision of this code."""
        ...

    async def close(self) -> None: ...

    async def announce(self, record: AttemptRecord) -> None:
        """Write down an attempt that waits for its turn. Changes nothing where it is written down already."""
        ...

    async def claim(self, record: AttemptRecord, arrived_ms: int | None = None) -> AttemptRecord | None:
        """Write a new attempt as the group's open one. None when it is; else the attempt that is in the way: an open
        one of another aggregator, or whichever has had this (deployment, group, moment), or one of another aggregator
        that was accepted after `arrived_ms` and joins a request of that time.

        An open one of the same `relayer` is never in the way: one process has the key, and runs one at a time.
        """
        ...

    async def note(self, record: AttemptRecord, raw: str) -> bool:
        """Replace an open attempt's record; False when it has ended, by another aggregator's word: then it must not go
        on.

        raw: the bytes of the transaction that is about to be sent, 0x-hex, kept beside the record until it is settled.
        """
        ...

    async def retire(self, record: AttemptRecord) -> bool:
        """Replace an open attempt's record by an ended one. False when it has ended already, or the record that is kept
        has other transactions: one was noted since this one was read, and must not be lost."""
        ...

    async def save(self, record: AttemptRecord) -> None:
        """Replace the attempt's record, or write it where there is none (an attempt that failed before its claim)."""
        ...

    async def raw(self, attempt: str) -> str | None:
        """The bytes of the attempt's newest transaction, while it is not settled."""
        ...

    async def get(self, deployment: str, attempt: str) -> AttemptRecord | None: ...

    async def by_round(self, deployment: str, group: str, round_: int) -> AttemptRecord | None:
        """The accepted attempt that made this round, where this system made it."""
        ...

    async def latest(self, deployment: str, group: str, limit: int = 20) -> list[AttemptRecord]:
        """The newest attempts first."""
        ...

    async def unended(self, deployment: str) -> list[AttemptRecord]:
        """Attempts that have not ended, whoever runs them, the oldest first; at most `MAX_FOUND`."""
        ...

    async def unsettled(self, deployment: str, relayer: str) -> list[AttemptRecord]:
        """A relayer's attempts whose transaction's bytes are still kept: the accepted before all others, the newest
        first; at most `MAX_FOUND`."""
        ...

    async def equivocations(self, deployment: str, limit: int = 100) -> list[Equivocation]:
        """The latest moments first: every one that a saved record ever proved."""
        ...

    async def changed(self, attempt: str, timeout_s: float) -> None:
        """Wait until the attempt's record may have changed, at most `timeout_s`. Raises nothing."""
        ...

    async def ping(self) -> str: ...


TABLE = sa.Table(
    migrations.TABLE,
    sa.MetaData(),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("deployment", sa.String(128), nullable=False),
    sa.Column("group_name", sa.String(64), nullable=False),
    sa.Column("moment", sa.BigInteger),  # null: it has none yet, or failed before it had one
    sa.Column("started_ms", sa.BigInteger, nullable=False),
    sa.Column("ended_ms", sa.BigInteger),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("code", sa.String(32)),
    sa.Column("round", sa.BigInteger),
    sa.Column("relayer", sa.String(64)),
    sa.Column("open_group", sa.String(64)),  # the group's name while it is open
    sa.Column("record", sa.Text, nullable=False),
    sa.Column("raw", sa.Text),  # null: nothing was sent, or it is settled; not in the record: that is public
)


PROOFS = table(TABLE.metadata)


class SqlAttemptStore:
    """`AttemptStore` over SQLAlchemy Core.

    url: an async SQLAlchemy URL (`sqlite+aiosqlite:///…` or `postgresql+asyncpg://…`). keep: attempts kept of each
    deployment, oldest pruned first, in batches. timeout_s: bound of each call but `open`.
    """

    def __init__(self, url: str, *, keep: int = 100_000, timeout_s: float = 2.0) -> None:
        self._url = make_url(url)
        self._keep = keep
        self._timeout_s = timeout_s
        self._saves = 0
        self._told: deque[str] = deque(maxlen=256)
        self._engine: AsyncEngine | None = None
        self._listener = Listener(self._url, timeout_s) if self._url.get_backend_name() == "postgresql" else None

    async def open(self) -> None:
        if self._engine is not None:
            return
        async with bounded(self._url, self._timeout_s, StoreUnavailableError):
            engine = connect(self._url, timeout_s=self._timeout_s, busy_ms=BUSY_MS, postgres=4, sqlite=2)
        try:
            async with bounded(self._url, UPGRADE_S, StoreUnavailableError):
                await upgrade(engine, migrations.FOLDER, room="aggregator", existing=migrations.existing)
        except BaseException:
            await engine.dispose()
            raise
        self._engine = engine
        if self._listener is not None:
            self._listener.start()

    async def close(self) -> None:
        engine, self._engine = self._engine, None
        if self._listener is not None:
            await self._listener.stop()
        if engine is not None:
            await engine.dispose()

    async def announce(self, record: AttemptRecord) -> None:
        async with self._begin() as connection:
            await connection.execute(self._insert(connection).values(**_row(record)).on_conflict_do_nothing())

    async def claim(self, record: AttemptRecord, arrived_ms: int | None = None) -> AttemptRecord | None:
        row = _row(record)
        async with self._begin() as connection:
            if arrived_ms is not None and (served := await self._served(connection, row, arrived_ms)) is not None:
                return served
            for _ in range(CLAIM_TRIES):
                insert = self._insert(connection).values(**row).on_conflict_do_nothing()
                if (await connection.execute(insert)).rowcount == 1:
                    return None
                if (found := await self._in_the_way(connection, row)) is not None:
                    return found
        raise StoreUnavailableError(f"attempt {record.id} could not be claimed: others come and go too fast")

    async def _served(self, connection: AsyncConnection, row: dict[str, Any], arrived_ms: int) -> AttemptRecord | None:
        query = (
            sa.select(TABLE.c.record)
            .where(
                # by the moment, which has an index: every request asks this on its way
                *(TABLE.c[name] == row[name] for name in ("deployment", "group_name")),
                TABLE.c.moment >= arrived_ms - JOIN_WITHIN_MS,
                TABLE.c.state == State.ACCEPTED,
                TABLE.c.ended_ms > arrived_ms,
                TABLE.c.relayer != row["relayer"],
            )
            .order_by(TABLE.c.moment.desc())
            .limit(1)
        )
        text = (await connection.execute(query)).scalar_one_or_none()
        return None if text is None else codec.decode(text, AttemptRecord)

    async def _in_the_way(self, connection: AsyncConnection, row: dict[str, Any]) -> AttemptRecord | None:
        """Make way where what stands in it is our own; return it where it is not."""
        same = [TABLE.c[name] == row[name] for name in ("deployment", "group_name")]
        # ours has ended, though its record is not saved yet, or it is of a former life of this process
        ours = (*same, TABLE.c.open_group.is_not(None), TABLE.c.relayer == row["relayer"])
        await connection.execute(sa.update(TABLE).where(*ours).values(open_group=None))
        either = sa.or_(TABLE.c.moment == row["moment"], TABLE.c.open_group.is_not(None))
        query = sa.select(TABLE.c.record).where(*same, either).order_by(TABLE.c.open_group.is_(None)).limit(1)
        text = (await connection.execute(query)).scalar_one_or_none()
        if text is not None:
            return codec.decode(text, AttemptRecord)
        announced = (TABLE.c.id == row["id"], TABLE.c.moment.is_(None))
        await connection.execute(sa.delete(TABLE).where(*announced))
        return None

    async def note(self, record: AttemptRecord, raw: str) -> bool:
        return await self._replace_open({**_row(record), "raw": raw})

    async def retire(self, record: AttemptRecord) -> bool:
        query = sa.select(TABLE.c.record).where(TABLE.c.id == record.id)
        async with self._begin() as connection:
            text = (await connection.execute(query)).scalar_one_or_none()
        if text is not None and codec.decode(text, AttemptRecord).transactions != record.transactions:
            return False
        return await self._replace_open(_row(record), TABLE.c.record == text)

    async def _replace_open(self, row: dict[str, Any], *only: sa.ColumnElement[bool]) -> bool:
        """Write the row, over an open one where there is one and it is as `only` says."""
        async with self._begin() as connection:
            insert = self._insert(connection).values(**row)
            changes = {name: row[name] for name in _CHANGING & row.keys()}
            update = insert.on_conflict_do_update(
                index_elements=["id"], set_=changes, where=sa.and_(TABLE.c.state.not_in(_FINAL), *only)
            )
            replaced = bool((await connection.execute(update)).rowcount == 1)
            if replaced and row["open_group"] is None:
                await self._tell(connection, row["id"])
            return replaced

    async def save(self, record: AttemptRecord) -> None:
        row = _row(record)
        if record.settled or record.code == FailureReason.REORGED:
            row["raw"] = None
        async with self._begin() as connection:
            changes = {name: row[name] for name in _CHANGING & row.keys()}
            insert = self._insert(connection).values(**row)
            await connection.execute(insert.on_conflict_do_update(index_elements=["id"], set_=changes))
            for proof in found_in(record):
                insert = self._insert(connection, PROOFS).values(**proof_row(proof))
                await connection.execute(insert.on_conflict_do_nothing())
            if record.id not in self._told:  # it is saved again for late reports, and when it is settled
                await self._tell(connection, record.id)
            self._saves += 1
            if self._saves % PRUNE_EVERY == 0:
                await self._prune(connection, record.deployment)

    async def _tell(self, connection: AsyncConnection, attempt: str) -> None:
        """Whoever waits for it, in whichever process, hears of it when this is committed."""
        self._told.append(attempt)
        if self._listener is not None:
            await connection.execute(sa.select(sa.func.pg_notify(CHANNEL, attempt)))

    async def _prune(self, connection: AsyncConnection, deployment: str) -> None:
        oldest = (
            sa.select(TABLE.c.id)
            .where(TABLE.c.deployment == deployment)
            .order_by(TABLE.c.started_ms.desc())
            .offset(self._keep)
            .limit(PRUNE_BATCH)
        )
        await connection.execute(sa.delete(TABLE).where(TABLE.c.id.in_(oldest.scalar_subquery())))

    async def get(self, deployment: str, attempt: str) -> AttemptRecord | None:
        return await self._one(sa.select(TABLE.c.record).where(TABLE.c.id == attempt, TABLE.c.deployment == deployment))

    async def raw(self, attempt: str) -> str | None:
        async with self._begin() as connection:
            query = sa.select(TABLE.c.raw).where(TABLE.c.id == attempt)
            return (await connection.execute(query)).scalar_one_or_none()

    async def by_round(self, deployment: str, group: str, round_: int) -> AttemptRecord | None:
        return await self._one(
            sa.select(TABLE.c.record)
            .where(TABLE.c.deployment == deployment, TABLE.c.group_name == group, TABLE.c.round == round_)
            .order_by(TABLE.c.started_ms.desc())
            .limit(1)
        )

    async def latest(self, deployment: str, group: str, limit: int = 20) -> list[AttemptRecord]:
        query = (
            sa.select(TABLE.c.record)
            .where(TABLE.c.deployment == deployment, TABLE.c.group_name == group)
            .order_by(TABLE.c.started_ms.desc())
            .limit(limit)
        )
        return await self._all(query)

    async def unended(self, deployment: str) -> list[AttemptRecord]:
        # `ended_ms` is what the index has; rows from before it was kept have none, and tell by their state
        which = (TABLE.c.deployment == deployment, TABLE.c.ended_ms.is_(None), TABLE.c.state.not_in(_FINAL))
        return await self._all(sa.select(TABLE.c.record).where(*which).order_by(TABLE.c.started_ms).limit(MAX_FOUND))

    async def unsettled(self, deployment: str, relayer: str) -> list[AttemptRecord]:
        which = (TABLE.c.deployment == deployment, TABLE.c.relayer == relayer, TABLE.c.raw.is_not(None))
        order = ((TABLE.c.state == State.ACCEPTED).desc(), TABLE.c.started_ms.desc())
        return await self._all(sa.select(TABLE.c.record).where(*which).order_by(*order).limit(MAX_FOUND))

    async def equivocations(self, deployment: str, limit: int = 100) -> list[Equivocation]:
        query = (
            sa.select(PROOFS.c.proof)
            .where(PROOFS.c.deployment == deployment)
            .order_by(PROOFS.c.moment.desc(), PROOFS.c.group_name, PROOFS.c.signer)
            .limit(limit)
        )
        async with self._begin() as connection:
            texts = (await connection.execute(query)).scalars().all()
        return [codec.decode(text, Equivocation) for text in texts]

    async def changed(self, attempt: str, timeout_s: float) -> None:
        if self._listener is not None:
            await self._listener.heard(attempt, timeout_s)
        else:
            await asyncio.sleep(min(timeout_s, POLL_S))

    async def ping(self) -> str:
        async with self._begin() as connection:
            await connection.execute(sa.text("SELECT 1"))
        return self._url.get_backend_name()

    async def _one(self, query: sa.Select[Any]) -> AttemptRecord | None:
        async with self._begin() as connection:
            text = (await connection.execute(query)).scalar_one_or_none()
        return None if text is None else codec.decode(text, AttemptRecord)

    async def _all(self, query: sa.Select[Any]) -> list[AttemptRecord]:
        async with self._begin() as connection:
            texts = (await connection.execute(query)).scalars().all()
        return [codec.decode(text, AttemptRecord) for text in texts]

    def _insert(self, connection: AsyncConnection, into: sa.Table = TABLE) -> Any:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        return dialect.insert(into)

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[AsyncConnection]:
        if self._engine is None:
            raise StoreUnavailableError("the store of attempts is not open")
        async with bounded(self._url, self._timeout_s, StoreUnavailableError), self._engine.begin() as connection:
            yield connection


_CHANGING = frozenset({"ended_ms", "state", "code", "round", "open_group", "record", "raw"})


def _row(record: AttemptRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "deployment": record.deployment,
        "group_name": record.group,
        "moment": record.moment or None,
        "started_ms": record.started_ms,
        "ended_ms": record.ended_ms,
        "state": str(record.state),
        "code": record.code,
        "round": record.round,
        "relayer": record.relayer,
        "open_group": record.group if record.state in OPEN else None,
        "record": codec.encode(record).decode(),
    }
