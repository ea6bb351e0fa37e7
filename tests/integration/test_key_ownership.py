"""One process for each key, wherever attempts are kept: the second waits, and has it when the first has ended."""

from __future__ import annotations

import asyncio
import secrets
import sys
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from aggregator.errors import KeyInUseError
from aggregator.ownership import Ownership
from core.errors import StoreUnavailableError
from core.logs import get_logger
from core.types import Mode
from tests.conftest import PROJECT

LOG = get_logger("aggregator", Mode.TEST)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs_postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'deep' / 'attempts.sqlite'}"
    return postgres_url.replace("postgresql://", "postgresql+asyncpg://")


@pytest.fixture
def address() -> str:
    return "0x" + secrets.token_hex(20)


def ownership(url: str, address: str, chain_id: int = 31337) -> Ownership:
    return Ownership(url, chain_id=chain_id, address=address, logger=LOG)


async def test_a_key_is_held_once_until_it_is_given_back(url: str, address: str):
    first, second = ownership(url, address), ownership(url, address.upper().replace("X", "x"))
    await first.hold()
    await first.hold()
    with pytest.raises(KeyInUseError, match="give each a key of its own"):
        await second.hold()
    for other in (ownership(url, "0x" + secrets.token_hex(20)), ownership(url, address, chain_id=1)):
        await other.hold()
        await other.release()
    await first.release()
    await second.hold()
    assert await second.check() == address.upper().replace("X", "x")
    await second.release()


async def test_a_killed_process_leaves_its_key_to_the_next(url: str, address: str):
    code = (
        "import asyncio, sys\n"
        "from aggregator.ownership import Ownership\nfrom core.logs import get_logger\n"
        f"own = Ownership({url!r}, chain_id=31337, address={address!r}, logger=get_logger('a', 'test'))\n"
        "async def main():\n    await own.hold()\n    print('held', flush=True)\n    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=PROJECT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"held\n"
        mine = ownership(url, address)
        with pytest.raises(KeyInUseError):
            await mine.hold()
    finally:
        process.kill()
        await process.wait()
    async with asyncio.timeout(30):
        while True:
            try:
                await mine.hold()
                break
            except KeyInUseError:
                await asyncio.sleep(0.05)
    await mine.release()


@pytest.mark.needs_postgres
async def test_a_lock_that_went_with_its_connection_is_taken_again_or_missed(
    postgres_url: str, address: str, monkeypatch: pytest.MonkeyPatch
):
    url = postgres_url.replace("postgresql://", "postgresql+asyncpg://")
    mine, other = ownership(url, address), ownership(url, address)
    with pytest.raises(KeyInUseError):
        mine.owned()  # not taken yet
    await mine.hold()
    mine.owned()
    assert mine._lock._connection is not None
    backend = await mine._lock._connection.fetchval("SELECT pg_backend_pid()")
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        await connection.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": backend})
        async with asyncio.timeout(30):
            while True:
                try:
                    await other.hold()
                    break
                except KeyInUseError:
                    await asyncio.sleep(0.05)
    await engine.dispose()
    with pytest.raises(KeyInUseError, match="went with the connection"):
        mine.owned()  # nothing is sent from here on, before anybody looks
    monkeypatch.setattr("aggregator.ownership.LOOK_S", 0.01)
    looking = asyncio.create_task(mine.run())
    async with asyncio.timeout(30):
        while True:
            try:
                await mine.check()
            except KeyInUseError:
                break
            await asyncio.sleep(0.01)
        with pytest.raises(KeyInUseError, match="give each a key of its own"):
            mine.owned()
        await other.release()
        while True:
            try:
                await mine.check()
                break
            except KeyInUseError:
                await asyncio.sleep(0.01)
    mine.owned()
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    await mine.release()


@pytest.mark.needs_postgres
async def test_a_holder_whose_machine_vanishes_is_given_up_by_the_server(postgres_url: str, address: str):
    url = postgres_url.replace("postgresql://", "postgresql+asyncpg://")
    mine = ownership(url, address)
    await mine.hold()
    assert mine._lock._connection is not None
    names = ("idle", "interval", "count")
    probes = [await mine._lock._connection.fetchval(f"SHOW tcp_keepalives_{name}") for name in names]
    assert probes == ["1", "1", "2"]
    assert await mine._lock._connection.fetchval("SHOW tcp_user_timeout") == "3000"
    await mine.release()


@pytest.mark.needs_postgres
async def test_a_lock_taken_by_an_answer_that_never_came_is_not_kept(
    postgres_url: str, address: str, monkeypatch: pytest.MonkeyPatch
):
    url = postgres_url.replace("postgresql://", "postgresql+asyncpg://")
    mine, other = ownership(url, address), ownership(url, address)
    ask = asyncpg.Connection.fetchval

    async def lost(connection: asyncpg.Connection, query: str, *arguments: object) -> object:
        answer = await ask(connection, query, *arguments)
        if "advisory_lock" in query:
            raise TimeoutError
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(asyncpg.Connection, "fetchval", lost)
        with pytest.raises(StoreUnavailableError):
            await mine.hold()
    async with asyncio.timeout(30):
        while True:
            try:
                await other.hold()
                break
            except KeyInUseError:
                await asyncio.sleep(0.05)
    await other.release()
