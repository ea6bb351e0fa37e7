"""kill -9 at every state of an attempt, on both stores: the next life finishes or retires it, and never sends twice."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from aggregator.states import State
from aggregator.store import SqlAttemptStore
from contracts.report import LocalSigner
from tests.support.databases import own_database
from tests.support.killed import Case, Mortals, life
from tests.support.submission import Anvil, anvil

pytestmark = pytest.mark.needs_anvil

POINTS = [*State, "noted", "sent"]
FINISHED = {State.CONFIRMING, State.ACCEPTED, "noted", "sent"}
"""Points behind the writing down of a transaction. Before it, the attempt is retired."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[Anvil]:
    async with anvil() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mortals() -> AsyncIterator[Mortals]:
    program = Mortals()
    await program.start()
    yield program
    await program.stop()


@pytest_asyncio.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs_postgres)], loop_scope="module"
)
async def store_url(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str, require_services: None
) -> AsyncIterator[str]:
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'attempts.sqlite'}"
        return
    async with own_database(postgres_url) as url:
        yield url


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("at", POINTS)
async def test_an_attempt_whose_aggregator_is_killed(
    at: str, store_url: str, node: Anvil, mortals: Mortals, tmp_path: Path
) -> None:
    deployer, relayer = ("0x" + secrets.token_hex(32) for _ in range(2))
    address = LocalSigner(relayer).address
    for key in (deployer, relayer):
        await node.call("anvil_setBalance", LocalSigner(key).address, hex(10**24))
    case = Case(node.url, store_url, str(tmp_path / "deployments"), deployer, relayer, at)

    killed = (await mortals.kill(case))[-1]

    rounds = int(at in FINISHED or at == State.QUEUED)  # a whole round comes before an attempt that waits
    async with life(Case(node.url, store_url, case.folder, deployer, relayer)) as again:
        record = (await again.http.get(f"/v1/attempts/{killed}")).json()
        if at in FINISHED:
            async with asyncio.timeout(60):  # one whose transaction is sent again has to wait for its block
                while record["state"] != "accepted":
                    await asyncio.sleep(0.1)
                    record = (await again.http.get(f"/v1/attempts/{killed}")).json()
            assert (record["state"], record["round"]) == ("accepted", 1)
        else:
            assert (record["state"], record["code"], record["transactions"]) == ("failed", "stopped", [])
        assert (await again.client.group_state("majors")).round == rounds
        following = (await again.http.post("/v1/groups/majors/refresh")).json()
        assert (following["state"], following["round"]) == ("accepted", rounds + 1)
        sent = int(str(await node.call("eth_getTransactionCount", address, "pending")), 16)
        assert sent == rounds + 1  # one transaction a round: nothing was sent twice
        deployment = again.client.deployment.id

    store = SqlAttemptStore(store_url)
    await store.open()
    kept = await store.latest(deployment, "majors")
    assert all(one.state.final for one in kept)
    assert killed in {one.id for one in kept}
    assert sorted(one.round for one in kept if one.round) == list(range(1, rounds + 2))
    await store.close()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("at", POINTS)
async def test_an_attempt_whose_aggregator_is_killed_and_never_returns(
    at: str, store_url: str, node: Anvil, mortals: Mortals, tmp_path: Path
) -> None:
    """Another aggregator over the same store ends it; and the first, when it does return, has nothing to add."""
    deployer, gone, living = ("0x" + secrets.token_hex(32) for _ in range(3))
    for key in (deployer, gone, living):
        await node.call("anvil_setBalance", LocalSigner(key).address, hex(10**24))
    folder = str(tmp_path / "deployments")

    async def sent() -> int:
        keys = (LocalSigner(key).address for key in (gone, living))
        return sum([int(str(await node.call("eth_getTransactionCount", key, "pending")), 16) for key in keys])

    killed = (await mortals.kill(Case(node.url, store_url, folder, deployer, gone, at)))[-1]

    async with life(Case(node.url, store_url, folder, deployer, living)) as other:
        answer = (await other.http.post("/v1/groups/majors/refresh")).json()
        assert answer["state"] == "accepted"
        peers = other.service._peers
        peers._longest_ms = 0  # as if it had been gone for longer than an attempt lasts
        for _ in range(2):
            await peers.sweep()
        record = (await other.http.get(f"/v1/attempts/{killed}")).json()
        if at in (State.CONFIRMING, State.ACCEPTED, "sent"):
            assert (record["state"], record["round"]) == ("accepted", 1)
        elif at == "noted":
            assert (record["state"], record["code"], len(record["transactions"])) == ("failed", "not_confirmed", 1)
        else:
            assert (record["state"], record["code"], record["transactions"]) == ("failed", "retired", [])
        rounds = (await other.client.group_state("majors")).round
        assert rounds == answer["round"] == await sent()

    async with life(Case(node.url, store_url, folder, deployer, gone)) as again:
        assert (await again.http.get(f"/v1/attempts/{killed}")).json()["state"] == record["state"]
        assert await sent() == rounds
        following = (await again.http.post("/v1/groups/majors/refresh")).json()
        assert (following["state"], following["round"]) == ("accepted", rounds + 1)
        assert await sent() == rounds + 1
        deployment = again.client.deployment.id

    store = SqlAttemptStore(store_url)
    await store.open()
    assert await store.unended(deployment) == []
    kept = await store.latest(deployment, "majors")
    assert sorted(one.round for one in kept if one.round) == list(range(1, rounds + 2))
    await store.close()
