"""Deploying over nodes that die on the way, and after a process that did: nothing is paid for twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from eth_utils.crypto import keccak

from contracts import LocalSigner, OracleClient, artifacts
from contracts.creation import Creation, Creator, Journal
from contracts.deploy import deploy
from contracts.deployments import DeploymentRecord, read_record
from contracts.errors import DeploymentMismatchError, NodesDisagreeError, RpcRejectedError
from contracts.rpc import Rpc
from contracts.transactions import TransactionSender, read_raw, wait_receipt
from core import codec
from core.types import Feed, Group, Mode, Pair
from tests.support.submission import DEPLOYER, REPORTERS, Anvil, anvil
from tests.support.wait import until

pytestmark = pytest.mark.needs_anvil
GROUP = Group(name="majors", feeds=tuple(Feed(pair=Pair(f"{name}/USD")) for name in ("BTC", "ETH", "SOL")))
STEPS = 5
"""Transactions of a whole deployment: the oracle, the group, three adapters."""
TRIED = (1, 2, 4)
"""One of each kind."""


class Mortal:
    """A node in front of another, until it dies.

    dies_at: with the transaction of this number, counted from 1, or never. passes: whether it gives that last one to
    the others before it dies.
    """

    def __init__(self, target: Rpc) -> None:
        self.target = target
        self.sent = 0
        self.dies_at = 0
        self.passes = True
        self.answers = False
        self.dead = False
        self.forks = False
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        method, params = asked["method"], asked["params"]
        if self.dead:
            return self._gone(request)
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"]}
        if method == "eth_sendRawTransaction":
            self.sent += 1
            self.dead = self.sent == self.dies_at
        if self.dead and not self.passes:
            if self.answers:
                return web.json_response({**reply, "result": "0x" + keccak(hexstr=params[0]).hex()})
            return self._gone(request)
        try:
            result = await self.target.call(method, *params)
        except RpcRejectedError as error:
            refusal = {"code": error.rpc_code, "message": error.rpc_message, "data": error.data}
            return web.json_response({**reply, "error": refusal})
        if self.dead and not self.answers:
            return self._gone(request)
        if method == "eth_getBlockByNumber" and self.forks:
            result = {**result, "hash": "0x" + "ee" * 32}
        return web.json_response({**reply, "result": result})

    @staticmethod
    def _gone(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()


@pytest.fixture
async def node() -> AsyncIterator[Anvil]:
    async with anvil() as running:
        yield running


@pytest.fixture
async def mortal(node: Anvil) -> AsyncIterator[Mortal]:
    proxy = Mortal(Rpc(node.url))
    app = web.Application()
    app.router.add_post("/", proxy.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield proxy
    await runner.cleanup()
    await proxy.target.close()


async def put(folder: Path, *urls: str, **changes: Any) -> DeploymentRecord:
    asked = {"mode": Mode.TEST, "groups": [GROUP], "deployments_dir": folder, "request_timeout_s": 1, **changes}
    return await deploy(urls, DEPLOYER, reporters={"majors": [one.address for one in REPORTERS]}, **asked)


async def used(node: Anvil) -> int:
    """Transactions of the deployer's in blocks."""
    return await node.rpc.quantity("eth_getTransactionCount", LocalSigner(DEPLOYER).address, "latest")


async def stands(node: Anvil, folder: Path) -> DeploymentRecord:
    """The record, of which everything is there and as configured."""
    record = read_record(folder, 31337)
    assert record is not None
    assert set(record.adapters) == {str.__str__(feed.pair) for feed in GROUP.feeds}
    for address in (record.address, *record.adapters.values()):
        assert len(await node.rpc.call("eth_getCode", address, "latest")) > 2
    client = await OracleClient.connect(node.url, record, Mode.TEST)
    try:
        assert (await client.group_state("majors")).version == 1
    finally:
        await client.close()
    assert not (folder / "31337.sending.json").exists()
    return record


@pytest.mark.parametrize("step", TRIED)
@pytest.mark.parametrize(("passes", "answers"), [(True, False), (False, False), (False, True)])
async def test_when_the_preferred_node_dies_at_any_step_the_other_carries_on(
    step: int, passes: bool, answers: bool, node: Anvil, mortal: Mortal, tmp_path: Path
):
    mortal.dies_at, mortal.passes, mortal.answers = step, passes, answers
    await put(tmp_path, mortal.url, node.url)
    assert mortal.dead
    await stands(node, tmp_path)
    assert await used(node) == STEPS


async def test_nothing_is_deployed_while_the_nodes_tell_different_histories(
    node: Anvil, mortal: Mortal, tmp_path: Path
):
    mortal.forks = True
    with pytest.raises(NodesDisagreeError):
        await put(tmp_path, mortal.url, node.url)
    assert await used(node) == 0


class Ended(BaseException):
    """The process ends here."""


async def broken_off(url: str, folder: Path, step: int) -> str:
    """A run that ends as soon as its transaction of this number is sent; the transaction."""
    sent: list[str] = []

    def end(_what: str, transaction: str) -> None:
        sent.append(transaction)
        if len(sent) == step:
            raise Ended

    with pytest.raises(Ended):
        await put(folder, url, announce=end)
    return sent[-1]


@pytest.mark.parametrize("step", TRIED)
async def test_a_run_that_ends_at_any_step_is_taken_up_by_the_next_and_nothing_sent_twice(
    step: int, node: Anvil, tmp_path: Path
):
    await broken_off(node.url, tmp_path, step)
    await put(tmp_path, node.url)
    record = await stands(node, tmp_path)
    assert await used(node) == STEPS
    assert await put(tmp_path, node.url) == record
    assert await used(node) == STEPS


@pytest.mark.parametrize("fate", ["in the pool", "dropped", "replaced"])
async def test_what_was_sent_and_is_in_no_block_is_waited_for_or_sent_again_as_it_was_signed(
    fate: str, node: Anvil, tmp_path: Path
):
    await node.stop_mining()
    sent = await broken_off(node.url, tmp_path, 1)
    assert (tmp_path / "31337.sending.json").exists()
    if fate != "in the pool":
        await node.call("anvil_dropAllTransactions")
    await node.call("evm_setAutomine", True)
    if fate == "replaced":
        sender = TransactionSender(node.rpc, LocalSigner(DEPLOYER), 31337)
        await wait_receipt(node.rpc, await sender.send(sender.address, b"", gas=21_000), 10)
    elif fate == "in the pool":
        await node.mine()
    await put(tmp_path, node.url)
    record = await stands(node, tmp_path)
    assert (record.transaction == sent) == (fate != "replaced")
    assert await used(node) == STEPS + (fate == "replaced")


async def test_a_creation_that_no_block_takes_is_offered_for_more_at_its_nonce_and_found_again_whichever_is_mined(
    node: Anvil, tmp_path: Path
):
    await node.stop_mining()
    sent: list[str] = []
    journal = Journal(tmp_path, 31337)
    sender = TransactionSender(node.rpc, LocalSigner(DEPLOYER), 31337)
    code = artifacts.load("FairmarkDirectory")
    data = code.bytecode + code.abi.construct(sender.address)

    def creator(of: Journal) -> Creator:
        return Creator(node.rpc, sender, of, 10, lambda _, transaction: sent.append(transaction), replace_after_s=0.2)

    making = asyncio.create_task(creator(journal).create("the directory", data, 3_000_000))
    await until(lambda: len(sent) >= 3)
    making.cancel()  # the process ends here
    await asyncio.gather(making, return_exceptions=True)
    assert await node.pool() == 1
    (written,) = codec.decode(journal.path.read_bytes(), list[Creation])
    kept = [read_raw(raw)[0].transaction for raw in (written.raw, *written.earlier)]
    assert kept[-len(sent) :] == sent[::-1]
    first = read_raw(written.earlier[-1])[0]
    await node.call("anvil_dropAllTransactions")  # another node's pool had only the first
    await node.call("eth_sendRawTransaction", first.raw)
    await node.mine()
    receipt, address = await creator(Journal(tmp_path, 31337)).create("the directory", data, 3_000_000)
    assert (receipt.transaction, await used(node)) == (first.transaction, 1)
    assert len(await node.call("eth_getCode", address, "latest")) > 2


async def test_a_standing_contract_of_other_code_is_not_taken_for_ours(node: Anvil, tmp_path: Path):
    record = await put(tmp_path, node.url)
    await node.call("anvil_setCode", record.address, "0x6001600155")
    with pytest.raises(DeploymentMismatchError, match="another contract stands there"):
        await put(tmp_path, node.url)
    assert await used(node) == STEPS


async def test_an_adapter_that_is_gone_is_deployed_anew(node: Anvil, tmp_path: Path):
    record = await put(tmp_path, node.url)
    await node.call("anvil_setCode", record.adapters["ETH/USD"], "0x")
    after = await put(tmp_path, node.url)
    assert {pair for pair in after.adapters if after.adapters[pair] != record.adapters[pair]} == {"ETH/USD"}


async def test_a_journal_that_cannot_be_read_is_not_ignored(node: Anvil, tmp_path: Path):
    (tmp_path / "31337.sending.json").write_text("{")
    with pytest.raises(DeploymentMismatchError, match="may be on its way"):
        await put(tmp_path, node.url)
    assert await used(node) == 0
