"""Contracts that may stand beside the oracle: an adapter behind a rollup's gate, one that speaks ERC-7726, a directory.

Each is created once: the deployment's record keeps it under a name that says all that it was made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from eth_utils.address import to_checksum_address

from contracts import artifacts
from contracts.abi import Abi
from contracts.client import OracleClient
from contracts.creation import Creator, Journal
from contracts.deploy import ADAPTER_GAS, is_code_of
from contracts.deployments import DeploymentRecord, write_record
from contracts.errors import RpcRejectedError
from contracts.governance import Call, Role
from contracts.report import bytes32
from contracts.transactions import Announce, TransactionSender
from core.types import Pair

DIRECTORY = "directory"


@dataclass(frozen=True)
class Beside:
    """name: in the record. artifact: what it is. arguments: its constructor's."""

    name: str
    artifact: str
    arguments: tuple[Any, ...]

    @property
    def creation(self) -> bytes:
        """What makes it: bytecode and arguments."""
        artifact = artifacts.load(self.artifact)
        return artifact.bytecode + artifact.abi.construct(*self.arguments)


def gated_adapter(oracle: str, pair: Pair, sequencer: str, grace_s: int) -> Beside:
    """An AggregatorV3 adapter that answers only while the rollup's sequencer is up, and has been for `grace_s`."""
    name = f"gated {pair} behind {sequencer}, {grace_s} s"
    return Beside(name, "FairmarkGatedFeedAdapter", (oracle, bytes32(pair), sequencer, grace_s))


def quote_adapter(oracle: str, pair: Pair, base: tuple[str, int], quote: tuple[str, int], max_age_s: int) -> Beside:
    """An ERC-7726 adapter. base, quote: each asset's address and decimals; the feed prices one base in quote."""
    name = f"quote {pair} of {base[0]} ({base[1]}) in {quote[0]} ({quote[1]}), {max_age_s} s"
    return Beside(name, "FairmarkQuoteAdapter", (oracle, bytes32(pair), *base, *quote, max_age_s))


def directory(owner: str) -> Beside:
    """Where consumers look up which oracle a feed stands in. owner: who may move feeds."""
    return Beside(DIRECTORY, "FairmarkDirectory", (owner,))


async def stands(client: OracleClient, what: Beside) -> str | None:
    """Its address, where the record has it and its code is on chain. Raises `RpcUnavailableError`."""
    address = client.record.beside.get(what.name)
    if address is None:
        return None
    code = bytes.fromhex((await client.rpc.call("eth_getCode", address, "latest"))[2:])
    return address if is_code_of(artifacts.load(what.artifact), code) else None


async def create(
    client: OracleClient,
    sender: TransactionSender,
    what: Beside,
    *,
    deployments_dir: Path,
    timeout_s: float = 120.0,
    announce: Announce = lambda _what, _transaction: None,
) -> tuple[DeploymentRecord, str]:
    """The record with it, and its address. What an earlier run sent and did not see mined is taken up again.

    Raises as `TransactionSender.place` and `confirmed` do.
    """
    journal = Journal(deployments_dir, client.record.chain_id)
    creator = Creator(client.rpc, sender, journal, timeout_s, announce)
    _, address = await creator.create(f"deploying {what.name}", what.creation, ADAPTER_GAS)
    record = msgspec.structs.replace(client.record, beside=client.record.beside | {what.name: address})
    write_record(deployments_dir, record)
    journal.clear()
    return record, address


async def answers_as_uptime_feed(client: OracleClient, address: str) -> bool:
    """Whether a contract there answers as an uptime feed does: 0 or 1, and since when. Raises `RpcUnavailableError`."""
    abi = artifacts.load("FairmarkFeedAdapter").abi
    call = {"to": address, "data": "0x" + abi.call("latestRoundData").hex()}
    try:
        data = bytes.fromhex((await client.rpc.call("eth_call", call, "latest"))[2:])
    except RpcRejectedError:
        return False
    return len(data) == 5 * 32 and int.from_bytes(data[32:64], "big") in {0, 1}


# ------------------------------------------------------------------------------------------------ the directory


@dataclass(frozen=True)
class Place:
    """Where a feed is read. oracle: now; None: the directory does not know it. next, from_s: an announced move."""

    oracle: str | None
    next: str | None = None
    from_s: int = 0


async def place(client: OracleClient, directory_at: str, pair: Pair) -> Place:
    """Raises `RpcUnavailableError`."""
    abi = _directory_abi()
    try:
        (oracle,) = await _asked(client, abi, directory_at, "oracleOf", bytes32(pair))
    except RpcRejectedError:
        return Place(None)
    following, from_s = await _asked(client, abi, directory_at, "moveOf", bytes32(pair))
    return Place(to_checksum_address(oracle), to_checksum_address(following) if from_s else None, from_s)


def move(directory_at: str, pair: Pair, oracle: str) -> Call:
    """Announce that a feed moves; a feed's first place counts at once."""
    data = _directory_abi().call("move", bytes32(pair), oracle)
    return Call(f"moving {pair} to {oracle} in the directory", data, (Role.OWNER,), directory_at)


def _directory_abi() -> Abi:
    return artifacts.load("FairmarkDirectory").abi


async def _asked(client: OracleClient, abi: Abi, to: str, function: str, *arguments: Any) -> tuple[Any, ...]:
    call = {"to": to, "data": "0x" + abi.call(function, *arguments).hex()}
    return abi.result(function, bytes.fromhex((await client.rpc.call("eth_call", call, "latest"))[2:]))
