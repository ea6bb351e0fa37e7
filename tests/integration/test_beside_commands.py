"""The commands that put adapters of other shapes, and the directory, beside an oracle; on a real node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts import OracleClient, artifacts
from contracts.beside import Place, place
from contracts.deployments import read_record
from contracts.errors import CallRevertedError, RoleMissingError
from contracts.report import LocalSigner, bytes32
from core.errors import StartError
from core.types import Pair
from fairmark import beside, governing
from fairmark.office import Manner
from tests.support.governed import DAY_S, Governed, governed
from tests.support.solidity import compile_fixture
from tests.support.submission import RELAYERS

pytestmark = [pytest.mark.needs_anvil, pytest.mark.needs_solc]

DO = Manner(yes=True)
BTC, ETH = 6_000_000_000_000, 300_000_000_000
WBTC, USD = "0x" + "11" * 20, "0x" + "00" * 18 + "0348"
OTHER = "0x2222222222222222222222222222222222222222"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Governed]:
    with governed(tmp_path) as found:
        governing.deploy(found.settings(), yes=True)
        found.round(BTC, ETH)
        yield found


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]):
    def look() -> str:
        return capsys.readouterr().out

    look()
    return look


def kept(here: Governed) -> dict[str, str]:
    record = read_record(here.folder / "deployments", 31337)
    assert record is not None
    return record.beside


def asked(here: Governed, artifact: str, to: str, function: str, *arguments: Any) -> tuple[Any, ...]:
    abi = artifacts.load(artifact).abi

    async def work(client: OracleClient) -> str:
        call = {"to": to, "data": "0x" + abi.call(function, *arguments).hex()}
        found: str = await client.rpc.call("eth_call", call, "latest")
        return found

    return abi.result(function, bytes.fromhex(here.run(work)[2:]))


def uptime(here: Governed, answer: int, since: int) -> str:
    """An uptime feed that says so."""
    abi, code = compile_fixture("Consumers")["Uptime"]

    async def work(client: OracleClient) -> str:
        sender = client.sender(RELAYERS[1])
        made = await client.wait_receipt(await sender.send(None, code + abi.construct(), gas=2_000_000), 10)
        found = await client.rpc.call("eth_getTransactionReceipt", made.transaction)
        address: str = found["contractAddress"]
        await client.wait_receipt(await sender.send(address, abi.call("set", answer, since), gas=200_000), 10)
        return address

    return here.run(work)


def test_an_adapter_behind_a_rollups_gate(here: Governed, said):
    up = uptime(here, 0, 1)
    beside.gated(here.settings(), "BTC/USD", up, 3_600, DO)
    ((name, address),) = kept(here).items()
    printed = said()
    assert f"deploying {name}: 0x" in printed
    assert f"{address} is gated BTC/USD behind" in printed
    assert asked(here, "FairmarkGatedFeedAdapter", address, "latestRoundData")[1] == BTC
    assert asked(here, "FairmarkGatedFeedAdapter", address, "grace") == (3_600,)
    beside.gated(here.settings(), "BTC/USD", up, 3_600, DO)
    assert f"nothing to do: {address}" in said()
    beside.listed(here.settings())
    assert f"{address} {name}" in said()
    governing.deploy(here.settings(), yes=True)  # keeps what stands beside
    assert kept(here) == {name: address}


def test_what_is_no_uptime_feed_and_what_is_no_feed_is_refused_before_anything_is_paid(here: Governed):
    for address in (OTHER, here.run(_oracle)):
        with pytest.raises(StartError, match="uptime feed"):
            beside.gated(here.settings(), "BTC/USD", address, 60, DO)
    with pytest.raises(CallRevertedError, match="UnknownFeed"):
        beside.quoting(here.settings(), "NO/FEED", (WBTC, 8), (USD, 6), 60, DO)
    assert kept(here) == {}


async def _oracle(client: OracleClient) -> str:
    return client.record.address


def test_an_adapter_that_speaks_erc_7726(here: Governed):
    beside.quoting(here.settings(), "BTC/USD", (WBTC, 8), (USD, 6), 600, DO)
    (address,) = kept(here).values()
    assert asked(here, "FairmarkQuoteAdapter", address, "getQuote", 10**8, WBTC, USD) == (60_000 * 10**6,)


def test_the_directory_is_deployed_filled_and_announces_a_move(here: Governed, said):
    with pytest.raises(StartError, match="fairmark directory deploy"):
        beside.directory_listed(here.settings())
    beside.directory_deployed(here.settings(), None, DO)
    at = kept(here)["directory"]
    beside.moved(here.settings(), "BTC/USD", None, DO)
    oracle = here.run(_oracle)
    assert f"BTC/USD: read at {oracle} at once, it is new there" in said()

    def now() -> Place:
        return here.run(lambda client: place(client, at, Pair("BTC/USD")))

    assert now() == Place(oracle)
    beside.moved(here.settings(), "BTC/USD", None, DO)
    assert "nothing to do" in said()
    beside.moved(here.settings(), "BTC/USD", OTHER, DO)
    assert now().next == OTHER
    beside.directory_listed(here.settings())
    printed = said()
    assert f"BTC/USD: {oracle} (this deployment); moves to {OTHER} at " in printed
    assert "ETH/USD: not there" in printed
    here.pass_time(2 * DAY_S)
    assert now() == Place(OTHER)


def test_only_its_owner_moves_feeds_and_a_wallet_gets_what_to_send(here: Governed, said):
    owner = LocalSigner(RELAYERS[0]).address
    beside.directory_deployed(here.settings(), owner, DO)
    at = kept(here)["directory"]
    with pytest.raises(RoleMissingError, match=f"is for the owner of {at}"):
        beside.moved(here.settings(), "BTC/USD", None, DO)
    said()
    beside.moved(here.settings(), "BTC/USD", None, Manner(calldata=True))
    data = artifacts.load("FairmarkDirectory").abi.call("move", bytes32("BTC/USD"), here.run(_oracle)).hex()
    assert f"by the owner of {at}\n  to   {at}\n  data 0x{data}" in said()
