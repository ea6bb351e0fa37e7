"""Two traders over one register: the second waits, takes over when the first has ended, and neither runs beside the
other."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from core.clock import FixedClock
from core.documents import SqlDocuments
from core.errors import LockTakenError
from core.locks import ProcessLock
from tests.support.signals import START_MS, Desk, Speaker
from tests.support.wait import until

KEY = f"0x{11:064x}"
BOUND_S = 30.0


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs_postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'trader.sqlite'}"
    return postgres_url.replace("postgresql://", "postgresql+asyncpg://")


@pytest.fixture
async def name(url: str) -> AsyncIterator[str]:
    made = f"traders_{secrets.token_hex(6)}"
    yield made
    if url.startswith("postgresql"):
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.execute(sa.text(f'DROP TABLE IF EXISTS "{made}"'))
        await engine.dispose()


class Running:
    """A trader that runs. name: of the register's table, and of its lock."""

    def __init__(self, url: str, name: str, clock: FixedClock) -> None:
        self.lock = ProcessLock(url, name, purpose="trader")
        self.desk = Desk(documents=SqlDocuments(url, table=name), clock=clock, lock=self.lock)
        self._task = asyncio.create_task(self.desk.service.run())

    async def ready(self) -> tuple[int, str]:
        response = await self.desk.http.get("/ready")
        return response.status_code, response.text

    async def until_ready(self, status: int, says: str = "") -> None:
        async with asyncio.timeout(BOUND_S):
            while True:
                found, text = await self.ready()
                if found == status and says in text:
                    return
                await asyncio.sleep(0.02)

    async def end(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


async def test_the_second_waits_and_takes_over_register_and_answer(url: str, name: str) -> None:
    clock = FixedClock(START_MS)
    first = Running(url, name, clock)
    await first.until_ready(200)
    second = Running(url, name, clock)
    try:
        await second.until_ready(503, "another trader runs on this register")
        alpha = Speaker(first.desk, "alpha", KEY)
        assert (await alpha.register()).status_code == 200
        assert (await alpha.produce("0.25")).status_code == 200
        before = await first.desk.signal()
        assert (before["state"], before["value"]) == ("ok", "0.2500")
        alpha.desk = second.desk
        assert (await alpha.register()).json()["code"] == "store_unavailable"
        assert (await second.desk.signal())["code"] == "store_unavailable"
        trader = first.desk.service.trader
        await until(lambda: not trader._unkept, within_s=BOUND_S)
    finally:
        await first.end()
    try:
        await second.until_ready(200)
        found = await second.desk.signal()
        assert (found["state"], found["value"], found["of"]) == ("ok", "0.2500", before["of"])
        assert await second.desk.states() == {"alpha": "running"}
        assert (await alpha.leave()).status_code == 200
    finally:
        await second.end()


@pytest.mark.needs_postgres
async def test_a_trader_whose_session_the_database_ended_stops_when_another_has_taken_its_place(
    postgres_url: str, name: str
) -> None:
    url = postgres_url.replace("postgresql://", "postgresql+asyncpg://")
    clock = FixedClock(START_MS)
    first = Running(url, name, clock)
    other = ProcessLock(url, name, purpose="trader")
    try:
        await first.until_ready(200)
        alpha = Speaker(first.desk, "alpha", KEY)
        assert (await alpha.register()).status_code == 200
        await _end_session_and_hold(url, first.lock, other)
        await first.until_ready(503, "another trader runs on this register")
        assert (await alpha.produce("0.25")).json()["code"] == "store_unavailable"
        await other.release()
        await first.until_ready(200)
        assert (await alpha.produce("0.25")).status_code == 200
    finally:
        await first.end()
        await other.release()


async def _end_session_and_hold(url: str, mine: ProcessLock, other: ProcessLock) -> None:
    """Whoever asks first has a lock that went with its session: end it until that is `other`."""
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection, asyncio.timeout(BOUND_S):
            while True:
                if mine._connection is not None and not mine._connection.is_closed():
                    pid = mine._connection.get_server_pid()
                    await connection.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
                with contextlib.suppress(LockTakenError):
                    await other.hold()
                    return
                await asyncio.sleep(0.01)
    finally:
        await engine.dispose()
