"""The client over real nodes: eth-tester's chain and anvil pass the same tests, each in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from web3 import AsyncWeb3

from contracts import DeploymentRecord, LocalSigner, OracleClient
from contracts.abi import Abi
from contracts.artifacts import load
from contracts.client import gas_limit
from contracts.deploy import deploy
from contracts.deployments import read_record, record_path
from contracts.errors import (
    CallRevertedError,
    DeploymentMismatchError,
    RoleMissingError,
    RoundRefusedError,
    RpcUnavailableError,
    TransactionFailedError,
)
from contracts.readings import AnswerStatus
from contracts.report import in_signer_order, median_hints, sign_report
from contracts.rpc import Rpc
from contracts.transactions import TransactionSender
from core.types import Feed, Group, Mode, Pair
from tests.conftest import PROJECT, anvil_binary

DEPLOYER = "0x" + "d1" * 32
RELAYER = "0x" + "d2" * 32
REPORTERS = sorted((LocalSigner(f"0x{number:064x}") for number in range(1, 5)), key=lambda one: int(one.address, 16))
GROUP = Group(
    name="majors",
    feeds=tuple(Feed(pair=Pair(pair)) for pair in ("BTC/USD", "ETH/USD", "DOGE/USD")),
    max_age_ms=60_000,
)
ADDRESSES = {"majors": [one.address for one in REPORTERS]}
FUNDED = [LocalSigner(key).address for key in (DEPLOYER, RELAYER)]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def fund(rpc: Rpc) -> None:
    for address in FUNDED:
        await rpc.call("anvil_setBalance", address, hex(10**24))


@contextlib.asynccontextmanager
async def node(kind: str) -> AsyncIterator[str]:
    """A node of this kind, alone on a free port; its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    if kind == "anvil":
        command = [anvil_binary() or "anvil", "--port", str(port), "--silent", "--accounts", "1"]
    else:
        command = [sys.executable, "-m", "contracts.devchain", "--port", str(port), "--die-with-parent"]
        command += [part for address in FUNDED for part in ("--fund", address)]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=PROJECT, env={**os.environ}, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    rpc = Rpc(url)
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    await rpc.call("eth_chainId")
                    break
                except RpcUnavailableError:
                    assert process.returncode is None, f"{kind} ended with {process.returncode}"
                    await asyncio.sleep(0.02)
        if kind == "anvil":
            await fund(rpc)
        yield url
    finally:
        await rpc.close()
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(10):
            await process.wait()


@pytest.fixture(scope="module", params=["devchain", pytest.param("anvil", marks=pytest.mark.needs_anvil)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def running(kind: str):
    """One node for the module's tests: started and stopped on a loop of its own."""
    if kind == "anvil" and anvil_binary() is None:
        yield ""
        return
    with asyncio.Runner() as runner:
        context = node(kind)
        url = runner.run(context.__aenter__())
        yield url
        runner.run(context.__aexit__(None, None, None))


@pytest.fixture
async def url(running: str) -> AsyncIterator[str]:
    """The node as it was before the test."""
    rpc = Rpc(running)
    snapshot = await rpc.call("evm_snapshot")
    yield running
    await rpc.call("evm_revert", snapshot)
    await rpc.close()


async def put(url: str, folder: Path, **changes: object) -> DeploymentRecord:
    asked = {"mode": Mode.TEST, "groups": [GROUP], "reporters": ADDRESSES, "deployments_dir": folder, **changes}
    return await deploy(url, DEPLOYER, **asked)  # type: ignore[arg-type]


@pytest.fixture
async def client(url: str, tmp_path: Path) -> AsyncIterator[OracleClient]:
    connected = await OracleClient.connect(url, await put(url, tmp_path), Mode.TEST)
    yield connected
    await connected.close()


@pytest.fixture
def relayer(client: OracleClient) -> TransactionSender:
    return client.sender(RELAYER)


async def calldata(client: OracleClient, rows: list[tuple[int, ...]], **changes: int) -> bytes:
    state = await client.group_state("majors")
    fields = {
        "previous_moment": state.last_moment,
        "moment": max(GROUP.moment_at(time.time_ns() // 1_000_000), state.last_moment + GROUP.grid_ms),
        **changes,
    }
    reports = in_signer_order(
        {
            by.address: sign_report(
                by, client.domain, group="majors", group_hash=state.group_hash, prices=row, **fields
            )
            for by, row in zip(REPORTERS, rows, strict=False)
        }
    )
    return client.build_submission("majors", reports, median_hints(reports, state.feeds))


ROWS = [(101, 5, 7), (103, 5, 7), (102, 5, 0)]


async def test_the_state_before_any_round(client: OracleClient):
    state = await client.group_state("majors")
    assert (state.group, state.version, state.round, state.last_moment, state.accepted_block) == ("majors", 1, 0, 0, 0)
    assert (state.threshold, state.f, state.max_age_ms, state.paused) == (3, 1, 60_000, False)
    assert state.signers == tuple(one.address for one in REPORTERS)
    assert [(f.pair, f.decimals, f.min_contributors, f.deviation_bps, f.heartbeat_s) for f in state.feeds] == [
        (pair, 8, 3, 50, 60) for pair in ("BTC/USD", "ETH/USD", "DOGE/USD")
    ]
    assert abs(state.block_timestamp - time.time()) < 30
    reading = await client.read_group("majors")
    assert (reading.round, reading.moment, reading.answers) == (0, 0, {})
    assert reading.pairs == ("BTC/USD", "ETH/USD", "DOGE/USD")


async def test_a_round_from_reports_to_reading(client: OracleClient, relayer: TransactionSender):
    data = await calldata(client, ROWS)
    await client.simulate(data, relayer.address)
    receipt = await client.wait_receipt(await client.submit(data, relayer), 5)
    assert receipt.ok
    assert receipt.gas_used < gas_limit(data)
    reading = await client.read_group("majors")
    assert (reading.round, reading.accepted_block, reading.mode) == (1, receipt.block_number, Mode.TEST)
    assert list(reading.answers) == ["BTC/USD", "ETH/USD"]  # DOGE/USD had two prices of the three it needs
    answer = reading.answers[Pair("BTC/USD")]
    assert (answer.value, answer.price, answer.decimals) == (102, Decimal("0.00000102"), 8)
    assert (answer.round, answer.contributors, answer.spread_bps) == (1, 3, 196)
    assert (answer.status, answer.heartbeat_s, answer.stale_after_s) == (AnswerStatus.FRESH, 60, 120)
    assert answer.observed_ms == reading.moment == (await client.group_state("majors")).last_moment
    assert answer.updated_at == min(reading.moment // 1000, reading.block_timestamp)
    assert await client.round_transaction("majors", 1, receipt.block_number) == receipt.transaction
    assert await client.round_transaction("majors", 1, receipt.block_number - 1) is None
    assert await client.round_transaction("majors", 2, receipt.block_number) is None


async def test_a_feed_left_alone_keeps_the_moment_of_its_own_round(client: OracleClient, relayer: TransactionSender):
    await client.wait_receipt(await client.submit(await calldata(client, [(1, 2, 3)] * 3), relayer), 5)
    first = (await client.read_group("majors")).moment
    await client.wait_receipt(await client.submit(await calldata(client, [(1, 2, 0)] * 3), relayer), 5)
    reading = await client.read_group("majors")
    doge = reading.answers[Pair("DOGE/USD")]
    assert (doge.round, doge.observed_ms, reading.round) == (1, first, 2)
    assert reading.moment > first


async def test_a_refused_round_is_named_with_its_reason(client: OracleClient, relayer: TransactionSender):
    an_hour_ago = (int(time.time()) - 3_600) * 1000
    old = await calldata(client, ROWS, moment=an_hour_ago)
    with pytest.raises(RoundRefusedError) as caught:
        await client.simulate(old, relayer.address)
    assert (caught.value.name, caught.value.code) == ("StaleMoment", "round_refused")
    assert caught.value.arguments[0] == an_hour_ago
    receipt = await client.wait_receipt(await client.submit(old, relayer), 5)
    assert not receipt.ok
    late = await calldata(client, ROWS, previous_moment=5)
    with pytest.raises(RoundRefusedError, match=r"UnexpectedPreviousMoment\(0, 5\)"):
        await client.simulate(late, relayer.address)


async def test_an_unknown_group_is_named(client: OracleClient):
    with pytest.raises(CallRevertedError) as caught:
        await client.group_state("nobody")
    assert caught.value.name == "UnknownGroup"


async def test_ten_rounds_one_after_the_other(client: OracleClient, relayer: TransactionSender):
    for number in range(1, 11):
        data = await calldata(client, [(1_000 + number, 1, 1)] * 3)
        await client.simulate(data, relayer.address)
        assert (await client.wait_receipt(await client.submit(data, relayer), 5)).ok
    reading = await client.read_group("majors")
    assert (reading.round, reading.answers[Pair("BTC/USD")].value) == (10, 1_010)
    assert reading.block_timestamp <= time.time() + 2


async def test_one_key_sends_many_at_once(client: OracleClient, relayer: TransactionSender):
    pause = client.abi.call("paused")
    sent = await asyncio.gather(*(relayer.send(client.record.address, pause, gas=50_000) for _ in range(8)))
    receipts = [await client.wait_receipt(one, 5) for one in sent]
    assert len({receipt.transaction for receipt in receipts}) == 8
    assert all(receipt.ok for receipt in receipts)


async def test_a_nonce_used_elsewhere_is_found_again(client: OracleClient):
    data, to = client.abi.call("paused"), client.record.address
    first, second = client.sender(RELAYER), client.sender(RELAYER)
    for sender in (first, second, first, second):
        assert (await client.wait_receipt(await sender.send(to, data, gas=50_000), 5)).ok


async def test_no_funds_is_said(client: OracleClient):
    pauper = client.sender("0x" + "ee" * 32)
    with pytest.raises(TransactionFailedError, match=pauper.address):
        await pauper.send(client.record.address, b"", gas=50_000)


async def test_health(client: OracleClient):
    assert await client.ping() == f"chain 31337 at block {await client.block_number()}"


# ------------------------------------------------------------------------------------------------ deployment


async def test_deploying_again_changes_nothing(url: str, tmp_path: Path):
    rpc = Rpc(url)
    record = await put(url, tmp_path)
    block = await rpc.call("eth_blockNumber")
    assert await put(url, tmp_path) == record == read_record(tmp_path, 31337)
    assert await rpc.call("eth_blockNumber") == block
    assert set(record.adapters) == {"BTC/USD", "ETH/USD", "DOGE/USD"}
    abi: Abi = load("FairmarkFeedAdapter").abi
    for pair, address in record.adapters.items():
        data = await rpc.call("eth_call", {"to": address, "data": "0x" + abi.call("description").hex()}, "latest")
        assert abi.result("description", bytes.fromhex(data[2:])) == (pair.replace("/", " / "),)
    await rpc.close()


async def test_an_appended_feed_is_configured_where_the_oracle_stands(url: str, tmp_path: Path):
    record = await put(url, tmp_path)
    wider = msgspec.structs.replace(GROUP, feeds=(*GROUP.feeds, Feed(pair=Pair("SOL/USD"), decimals=6)))
    after = await put(url, tmp_path, groups=[wider])
    assert (after.address, set(after.adapters) - set(record.adapters)) == (record.address, {"SOL/USD"})
    client = await OracleClient.connect(url, after, Mode.TEST)
    assert (await client.group_state("majors")).version == 2
    await client.close()


async def test_who_does_not_own_the_oracle_cannot_reconfigure_it(url: str, tmp_path: Path):
    await put(url, tmp_path)
    changed = msgspec.structs.replace(GROUP, max_age_ms=30_000)
    with pytest.raises(RoleMissingError, match="is for the owner"):
        await deploy(url, RELAYER, mode=Mode.TEST, groups=[changed], reporters=ADDRESSES, deployments_dir=tmp_path)


async def test_the_owner_named_is_offered_ownership(url: str, tmp_path: Path):
    owner = LocalSigner(RELAYER).address
    client = await OracleClient.connect(url, await put(url, tmp_path, owner=owner), Mode.TEST)
    assert (await client.owner(), await client.pending_owner()) == (LocalSigner(DEPLOYER).address, owner)
    block = await client.block_number()
    await put(url, tmp_path, owner=owner)  # offered already
    assert await client.block_number() == block
    sender = client.sender(RELAYER)
    await client.wait_receipt(
        await sender.send(client.record.address, client.abi.call("acceptOwnership"), gas=90_000), 5
    )
    assert await client.owner() == owner
    await client.close()


async def test_a_record_of_a_lost_history_is_replaced(url: str, tmp_path: Path):
    record = await put(url, tmp_path)
    lost = msgspec.structs.replace(record, block_hash="0x" + "00" * 32)
    record_path(tmp_path, 31337).write_bytes(msgspec.json.encode(lost))
    assert (await put(url, tmp_path)).address != record.address


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"block_hash": "0x" + "00" * 32}, "another history"),
        ({"chain_id": 1}, "is chain 31337"),
        ({"address": "0x" + "22" * 20}, "no contract stands"),
        ({"mode": Mode.LIVE}, "not of a test one"),
    ],
)
async def test_a_client_refuses_what_is_not_its_deployment(client: OracleClient, url: str, change: dict, says: str):
    other = msgspec.structs.replace(client.record, **change)
    with pytest.raises(DeploymentMismatchError, match=says):
        await OracleClient.connect(url, other, Mode.TEST)


async def test_a_client_refuses_a_contract_of_the_other_mode(client: OracleClient, url: str, tmp_path: Path):
    with pytest.raises(DeploymentMismatchError, match="'Fairmark test'"):
        await OracleClient.connect(url, msgspec.structs.replace(client.record, mode=Mode.LIVE), Mode.LIVE)
    with pytest.raises(DeploymentMismatchError, match="each mode"):
        await put(url, tmp_path, mode=Mode.LIVE)


# ------------------------------------------------------------------------------------------------ others' tools


async def test_web3_reads_the_same_chain(client: OracleClient, relayer: TransactionSender):
    web3 = AsyncWeb3(client.rpc.provider)
    assert await web3.is_connected()
    receipt = await client.wait_receipt(await client.submit(await calldata(client, ROWS), relayer), 5)
    entries = list(load("FairmarkOracle").entries)
    contract = web3.eth.contract(address=client.record.address, abi=entries)
    assert (await contract.functions.getPrice(b"BTC/USD".ljust(32, b"\0")).call())[0] == 102
    seen = await web3.eth.get_transaction_receipt(receipt.transaction)  # type: ignore[arg-type]
    (event,) = contract.events.RoundAccepted().process_receipt(seen)
    assert (event["args"]["round"], event["args"]["written"]) == (1, 0b011)
    transaction = await web3.eth.get_transaction(receipt.transaction)  # type: ignore[arg-type]
    assert transaction["from"] == relayer.address
    block = await web3.eth.get_block(receipt.block_number, full_transactions=True)
    assert block["hash"].to_0x_hex() == receipt.block_hash
    assert [one["hash"] for one in block["transactions"]] == [transaction["hash"]]
    assert (await web3.eth.fee_history(1, "latest"))["baseFeePerGas"][0] == block["baseFeePerGas"]
    assert await web3.eth.get_balance(relayer.address) > 0
    assert await contract.functions.pause().estimate_gas({"from": LocalSigner(DEPLOYER).address}) < 100_000
