"""Putting the oracle on a chain, once: what stands as it should is left alone, what is missing is added."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from eth_utils.address import to_checksum_address

from contracts import artifacts
from contracts.client import OracleClient
from contracts.deployments import DeploymentRecord, read_record, write_record
from contracts.errors import CallRevertedError, DeploymentMismatchError, TransactionFailedError
from contracts.fees import FeePolicy
from contracts.readings import GroupState, Receipt
from contracts.report import LocalSigner, bytes32
from contracts.rpc import Rpc
from contracts.transactions import Announce, TransactionSender, wait_receipt
from core.errors import ConfigurationError
from core.types import Feed, Group, Mode

ORACLE_GAS, ADAPTER_GAS = 9_000_000, 1_200_000
LIMIT_BPS, MAX_SPREAD_BPS = 1_000, 1_000
"""The breaker's limits where a feed declares none: a tenth, growing to four tenths over sixteen heartbeats."""


@dataclass
class _Hand:
    """Who deploys: sends a transaction and sees that it worked."""

    rpc: Rpc
    sender: TransactionSender
    timeout_s: float
    announce: Announce

    async def send(self, to: str | None, data: bytes, gas: int, what: str) -> Receipt:
        transaction = await self.sender.send(to, data, gas=gas)
        return await self.see(transaction, what)

    async def see(self, transaction: str, what: str) -> Receipt:
        self.announce(what, transaction)
        receipt = await wait_receipt(self.rpc, transaction, self.timeout_s)
        if not receipt.ok:
            raise TransactionFailedError(f"{what}: {transaction} reverted in block {receipt.block_number}")
        return receipt

    async def created(self, transaction: str, what: str) -> tuple[Receipt, str]:
        receipt = await self.see(transaction, what)
        found = await self.rpc.call("eth_getTransactionReceipt", transaction)
        return receipt, to_checksum_address(found["contractAddress"])


async def deploy(
    url: str,
    key: str,
    *,
    mode: Mode,
    groups: Sequence[Group],
    reporters: Mapping[str, Sequence[str]],
    owner: str | None = None,
    guardian: str | None = None,
    deployments_dir: Path,
    timeout_s: float = 30.0,
    fees: FeePolicy | None = None,
    announce: Announce = lambda _what, _transaction: None,
) -> DeploymentRecord:
    """See that the oracle, its groups and one AggregatorV3 adapter for each feed stand at `url`; the record of it.

    key: the deployer's, in hex. reporters: addresses by group name. owner: who is offered ownership once all stands,
    and must accept it; default: the deployer stays. guardian: default: the owner. timeout_s: for each transaction.
    announce: called with what each transaction does, and its hash.

    What the record in `deployments_dir` names is kept when it stands: then only groups that differ are configured and
    missing adapters added, and nothing at all is sent, nor the record written, when all is as asked for. A record of a
    chain whose history is gone is replaced.

    Raises `DeploymentMismatchError` (other mode; a group differs and the deployer does not own the oracle),
    `TransactionFailedError`, or `RpcUnavailableError`; before anything is sent, `ConfigurationError` where two of a
    group's reporters share an address.
    """
    _check_distinct(reporters)
    rpc = Rpc(url)
    try:
        chain_id = await rpc.quantity("eth_chainId")
        hand = _Hand(rpc, TransactionSender(rpc, LocalSigner(key), chain_id, fees), timeout_s, announce)
        record = await _standing(rpc, chain_id, mode, deployments_dir)
        if record is None:
            record = await _create(hand, chain_id, mode, guardian or owner)
            write_record(deployments_dir, record)
        client = await OracleClient.connect(url, record, mode)
        try:
            for group in groups:
                await _configure(hand, client, group, _ascending(reporters[group.name]))
            complete = await _adapters(hand, record, groups)
            if complete != record:
                record = complete
                write_record(deployments_dir, record)
            if owner is not None:
                await _offer(hand, client, owner)
        finally:
            await client.close()
        return record
    finally:
        await rpc.close()


async def _standing(rpc: Rpc, chain_id: int, mode: Mode, deployments_dir: Path) -> DeploymentRecord | None:
    """The record, if what it names is on this chain."""
    record = read_record(deployments_dir, chain_id)
    if record is None:
        return None
    block = await rpc.call("eth_getBlockByNumber", hex(record.block_number), False)
    if block is None or block["hash"] != record.block_hash:
        return None
    if len(await rpc.call("eth_getCode", record.address, "latest")) <= 2:
        return None
    if record.mode != mode:
        raise DeploymentMismatchError(
            f"{deployments_dir}/{chain_id}.json is a {record.mode} deployment, and mode is {mode}: "
            "use another deployments_dir for each mode"
        )
    return record


async def _create(hand: _Hand, chain_id: int, mode: Mode, guardian: str | None) -> DeploymentRecord:
    artifact = artifacts.load("FairmarkOracle")
    me = hand.sender.address
    data = artifact.bytecode + artifact.abi.construct(mode is Mode.TEST, me, guardian or me)
    receipt, address = await hand.created(await hand.sender.send(None, data, gas=ORACLE_GAS), "deploying the oracle")
    return DeploymentRecord(
        chain_id=chain_id,
        address=address,
        block_hash=receipt.block_hash,
        block_number=receipt.block_number,
        transaction=receipt.transaction,
        mode=mode,
        source_hash=artifact.source_hash,
        deployed_at=datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


async def _configure(hand: _Hand, client: OracleClient, group: Group, signers: Sequence[str]) -> None:
    try:
        state = await client.group_state(group.name)
    except CallRevertedError as error:
        if error.name != "UnknownGroup":
            raise
    else:
        if _as_asked(state, group, signers):
            return
    if (owner := await client.owner()).lower() != hand.sender.address.lower():
        raise DeploymentMismatchError(
            f"group {group.name} is not configured as asked for, and {hand.sender.address} cannot change it: "
            f"{client.record.address} is owned by {owner}"
        )
    feeds = [_feed(feed) for feed in group.feeds]
    data = client.abi.call(
        "configureGroup", bytes32(group.name), feeds, signers, group.f, group.threshold, group.max_age_ms
    )
    gas = min(16_000_000, 600_000 + 60_000 * len(feeds) + 10_000 * len(signers))
    await hand.send(client.record.address, data, gas, f"configuring group {group.name}")


async def _adapters(hand: _Hand, record: DeploymentRecord, groups: Sequence[Group]) -> DeploymentRecord:
    artifact = artifacts.load("FairmarkFeedAdapter")
    missing = [feed.pair for group in groups for feed in group.feeds if feed.pair not in record.adapters]
    sent = [
        await hand.sender.send(
            None, artifact.bytecode + artifact.abi.construct(record.address, bytes32(pair)), gas=ADAPTER_GAS
        )
        for pair in missing
    ]
    made = await asyncio.gather(
        *(hand.created(one, f"deploying {pair}") for one, pair in zip(sent, missing, strict=True))
    )
    added = {str.__str__(pair): address for pair, (_, address) in zip(missing, made, strict=True)}
    return msgspec.structs.replace(record, adapters=record.adapters | added)


async def _offer(hand: _Hand, client: OracleClient, owner: str) -> None:
    """Offer ownership, unless it is theirs or offered to them already, or not ours to give."""
    standing, pending = await client.owner(), await client.pending_owner()
    if standing.lower() == hand.sender.address.lower() and owner.lower() not in {standing.lower(), pending.lower()}:
        offer = client.abi.call("transferOwnership", owner)
        await hand.send(client.record.address, offer, 100_000, "offering ownership")


def _check_distinct(reporters: Mapping[str, Sequence[str]]) -> None:
    """The contract would refuse them with an error that names no reporter, after the oracle itself is deployed."""
    problems = [
        f"groups.{name}: {address} is the address of {count} of its reporters; give each a key of its own"
        for name, addresses in reporters.items()
        for address, count in Counter(to_checksum_address(each) for each in addresses).items()
        if count > 1
    ]
    if problems:
        raise ConfigurationError(problems)


def _ascending(addresses: Sequence[str]) -> list[str]:
    return sorted(addresses, key=lambda address: int(address, 16))


def _feed(feed: Feed) -> tuple[bytes, int, int, int, int, int, int]:
    heartbeat_s = -(-feed.heartbeat_ms // 1000)
    limits = max(LIMIT_BPS, 4 * feed.deviation_bps), MAX_SPREAD_BPS
    return bytes32(feed.pair), feed.decimals, feed.min_contributors, feed.deviation_bps, heartbeat_s, *limits


def _as_asked(state: GroupState, group: Group, signers: Sequence[str]) -> bool:
    standing = [(bytes32(f.pair), *dataclasses.astuple(f)[1:]) for f in state.feeds]
    return (
        standing == [_feed(feed) for feed in group.feeds]
        and [signer.lower() for signer in state.signers] == [signer.lower() for signer in signers]
        and (state.f, state.threshold, state.max_age_ms) == (group.f, group.threshold, group.max_age_ms)
    )
