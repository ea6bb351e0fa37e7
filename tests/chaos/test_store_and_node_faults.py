"""PostgreSQL and the EVM node going away: nothing new is sent, reads go on, and all is well soon after their return."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from aggregator.attempts import AttemptRecord
from aggregator.states import State
from broker.memory import MemoryBus
from tests.support.front import Front, front
from tests.support.postgres_server import PostgresServer, postgres_server
from tests.support.rabbit import Proxy
from tests.support.submission import Anvil, anvil
from tests.support.wait import until

pytestmark = pytest.mark.needs_anvil


@pytest.fixture
async def chain(require_services: None) -> AsyncIterator[Anvil]:
    async with anvil() as node:
        yield node


@pytest.fixture
async def bus() -> AsyncIterator[MemoryBus]:
    one = MemoryBus()
    await one.start()
    yield one
    await one.close()


@pytest.fixture
async def postgres(require_services: None) -> AsyncIterator[PostgresServer]:
    async with postgres_server() as server:
        yield server


class Trap:
    """Breaks something when an attempt enters a state, once."""

    def __init__(self) -> None:
        self.at: State | None = None
        self.sprung: Callable[[], None] = lambda: None

    def __call__(self, record: AttemptRecord) -> None:
        if record.state is self.at:
            self.at = None
            self.sprung()


@pytest.mark.needs_own_postgres
async def test_postgresql_goes_down_between_attempts_and_in_the_middle_of_one(
    chain: Anvil, bus: MemoryBus, postgres: PostgresServer, tmp_path: Path
) -> None:
    trap = Trap()
    async with front(chain, bus, bus, postgres.url, tmp_path, on_state=trap) as one:
        first = (await one.refresh()).json()
        assert first["round"] == 1

        await postgres.stop()
        assert await one.refused() == "store_unavailable"
        await nothing_was_sent_and_reads_go_on(one, first)
        await postgres.start()
        await one.recovers()

        # it freezes when an attempt has its reports and is about to write its transaction down
        sent, rounds = await one.sent(), (await one.client.group_state("majors")).round
        trap.sprung, trap.at = postgres.pause, State.SUBMITTING
        assert await one.refused() == "store_unavailable"
        assert await one.sent() == sent
        assert (await one.client.group_state("majors")).round == rounds
        postgres.resume()
        await one.recovers()

        # every attempt of the time without it is in the record
        await until(lambda: one.service.recorder._unsaved == {})
        answer = await one.aggregator.get("/v1/groups/majors/attempts", params={"limit": 100})
        assert {row["code"] for row in answer.json()} >= {None, "store_unavailable"}
        assert all(row["state"] in ("accepted", "failed") for row in answer.json())


async def nothing_was_sent_and_reads_go_on(one: Front, last: dict[str, object]) -> None:
    assert await one.sent() == last["round"]
    price = await one.read()
    assert (price["round"], price["price"], price["stale"]) == (last["round"], last["price"], False)
    kept = await one.aggregator.get(f"/v1/groups/majors/rounds/{last['round']}")
    assert kept.json()["round"] == last["round"]


async def stale_reads_and_nothing_sent(one: Front, last: dict[str, object]) -> None:
    """The reader lets a few polls fail before it calls a price stale that is young."""
    async with asyncio.timeout(30):
        while not (price := await one.read())["stale"]:  # noqa: ASYNC110 - asked over HTTP
            await asyncio.sleep(0.1)
    assert (price["round"], price["price"]) == (last["round"], last["price"])
    assert await one.sent() == last["round"]


async def test_the_node_goes_down_and_comes_back(chain: Anvil, bus: MemoryBus, tmp_path: Path) -> None:
    proxy = Proxy(chain.url)
    await proxy.start()
    store = f"sqlite+aiosqlite:///{tmp_path / secrets.token_hex(4)}.sqlite"
    try:
        async with front(chain, bus, bus, store, tmp_path, url=f"http://127.0.0.1:{proxy.port}") as one:
            first = (await one.refresh()).json()

            await proxy.refuse()
            proxy.cut()
            assert await one.refused() == "chain_unavailable"
            await stale_reads_and_nothing_sent(one, first)
            await proxy.start()
            await one.recovers()
            last = await one.read()
            assert (last["round"], last["stale"]) == (2, False)

            proxy.freeze()  # connected, and silent
            assert await one.refused() == "chain_unavailable"
            await stale_reads_and_nothing_sent(one, last)
            proxy.cut()
            proxy.thaw()
            await one.recovers()
            assert (await one.read())["round"] == 3 == await one.sent()
    finally:
        await proxy.refuse()
        proxy.cut()
        await proxy.stop()
