"""Putting the oracle on a chain, once: what stands as it should is left alone, what is missing is added."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from eth_utils.address import to_checksum_address

from contracts import artifacts
from contracts.artifacts import Artifact
from contracts.client import OracleClient
from contracts.creation import Creator, Journal
from contracts.deployments import DeploymentRecord, read_record, write_record
from contracts.errors import DeploymentMismatchError
from contracts.fees import FeePolicy
from contracts.governance import offer_ownership, steps
from contracts.governor import Governor, group_state, rotation
from contracts.report import LocalSigner, bytes32
from contracts.rpc import MAX_LAG_S, Rpc
from contracts.transactions import Announce, TransactionSender
from core.errors import ConfigurationError
from core.types import Group, Mode

ORACLE_GAS, ADAPTER_GAS = 9_000_000, 1_200_000


@dataclass
class _Site:
    """Where a deployment goes, and who carries it out."""

    rpc: Rpc
    creator: Creator
    chain_id: int
    mode: Mode
    deployments_dir: Path

    @property
    def address(self) -> str:
        return self.creator.sender.address

    def keep(self, record: DeploymentRecord) -> DeploymentRecord:
        write_record(self.deployments_dir, record)
        return record


async def deploy(
    url: str | Sequence[str],
    key: str,
    *,
    mode: Mode,
    groups: Sequence[Group],
    reporters: Mapping[str, Sequence[str]],
    owner: str | None = None,
    guardian: str | None = None,
    deployments_dir: Path,
    timeout_s: float = 30.0,
    request_timeout_s: float = 5.0,
    max_lag_s: float = MAX_LAG_S,
    fees: FeePolicy | None = None,
    announce: Announce = lambda _what, _transaction: None,
) -> DeploymentRecord:
    """See that the oracle, its groups and one AggregatorV3 adapter for each feed stand; the record of it.

    url: of a node, or of several of one chain, the preferred first: when one fails the next takes over, and nothing is
    sent while they disagree. key: the deployer's, in hex. reporters: addresses by group name. owner: who is offered
    ownership once all stands, and must accept it; default: the deployer stays. guardian: default: the owner.
    timeout_s: for each transaction. request_timeout_s: for each answer of a node. max_lag_s: as `Rpc`. announce: called
    with what each transaction does, and its hash.

    What the record in `deployments_dir` names is kept when it stands: then only groups that differ are changed and
    missing adapters added, and nothing at all is sent, nor the record written, when all is as asked for. What an
    earlier run sent and did not see mined is taken up again. A record of a chain whose history is gone is replaced.
    Signers of a group that has made rounds are rotated: see `contracts.governance.steps`.

    Raises `DeploymentMismatchError` (other mode, or other code than these sources give stands there),
    `RoleMissingError` (the key may not change what differs), `ChangeRefusedError`, `TransactionFailedError`, or
    `RpcUnavailableError`; before anything is sent, `ConfigurationError` where two of a group's reporters share an
    address.
    """
    _check_distinct(reporters)
    rpc = Rpc(url, timeout_s=request_timeout_s, max_lag_s=max_lag_s)
    try:
        chain_id = await rpc.quantity("eth_chainId")
        sender = TransactionSender(rpc, LocalSigner(key), chain_id, fees)
        journal = Journal(deployments_dir, chain_id)
        site = _Site(rpc, Creator(rpc, sender, journal, timeout_s, announce), chain_id, mode, deployments_dir)
        record = await _standing(site)
        if record is None:
            record = site.keep(await _create(site, guardian or owner))
        client = await OracleClient.connect(url, record, mode, timeout_s=request_timeout_s, max_lag_s=max_lag_s)
        try:
            governor = Governor(client, sender, timeout_s=timeout_s, announce=announce)
            for group in groups:
                await _configure(governor, client, group, reporters[group.name])
            record = await _adapters(site, record, groups)
            journal.clear()
            if owner is not None:
                await _offer(governor, client, owner)
        finally:
            await client.close()
        return record
    finally:
        await rpc.close()


async def _standing(site: _Site) -> DeploymentRecord | None:
    """The record, if what it names is on this chain. Raises `DeploymentMismatchError` where it is something else."""
    record = read_record(site.deployments_dir, site.chain_id)
    if record is None:
        return None
    block = await site.rpc.call("eth_getBlockByNumber", hex(record.block_number), False)
    if block is None or block["hash"] != record.block_hash:
        return None
    code = await _code(site.rpc, record.address)
    if not code:
        return None
    where = f"{site.deployments_dir}/{site.chain_id}.json"
    if record.mode != site.mode:
        raise DeploymentMismatchError(
            f"{where} is a {record.mode} deployment, and mode is {site.mode}: use another deployments_dir for each mode"
        )
    artifact = artifacts.load("FairmarkOracle")
    if record.source_hash == artifact.source_hash and not is_code_of(artifact, code):
        raise DeploymentMismatchError(
            f"the code at {record.address} is not what the sources named in {where} give: another contract stands there"
        )
    return record


def is_code_of(artifact: Artifact, code: bytes) -> bool:
    """Whether code on chain was made from the artifact: the same bytes but where the constructor filled blanks in."""
    blank = artifact.deployed_bytecode
    return len(code) == len(blank) and all(ours in (0, theirs) for ours, theirs in zip(blank, code, strict=True))


async def _code(rpc: Rpc, address: str) -> bytes:
    return bytes.fromhex((await rpc.call("eth_getCode", address, "latest"))[2:])


async def _create(site: _Site, guardian: str | None) -> DeploymentRecord:
    artifact = artifacts.load("FairmarkOracle")
    data = artifact.bytecode + artifact.abi.construct(site.mode is Mode.TEST, site.address, guardian or site.address)
    receipt, address = await site.creator.create("deploying the oracle", data, ORACLE_GAS)
    return DeploymentRecord(
        chain_id=site.chain_id,
        address=address,
        block_hash=receipt.block_hash,
        block_number=receipt.block_number,
        transaction=receipt.transaction,
        mode=site.mode,
        source_hash=artifact.source_hash,
        deployed_at=datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


async def _configure(governor: Governor, client: OracleClient, group: Group, signers: Sequence[str]) -> None:
    state = await group_state(client, group.name)
    under_way = None if state is None else await rotation(client, group.name)
    for call in steps(client.abi, state, under_way, group, signers):
        await governor.do(call)


async def _adapters(site: _Site, record: DeploymentRecord, groups: Sequence[Group]) -> DeploymentRecord:
    """The record with an adapter for each feed. Those it names are looked at, and deployed anew where none stands."""
    artifact = artifacts.load("FairmarkFeedAdapter")
    pairs = [feed.pair for group in groups for feed in group.feeds]
    known = [pair for pair in pairs if pair in record.adapters]
    codes = await asyncio.gather(*(_code(site.rpc, record.adapters[pair]) for pair in known))
    standing = {pair for pair, code in zip(known, codes, strict=True) if code}
    missing = [pair for pair in pairs if pair not in standing]
    if not missing:
        return record

    async def make(pair: str) -> None:
        nonlocal record
        data = artifact.bytecode + artifact.abi.construct(record.address, bytes32(pair))
        _, address = await site.creator.create(f"deploying {pair}", data, ADAPTER_GAS)
        record = msgspec.structs.replace(record, adapters=record.adapters | {str.__str__(pair): address})
        site.keep(record)

    making = [asyncio.create_task(make(pair)) for pair in missing]
    try:
        await asyncio.gather(*making)
    finally:
        for one in making:
            one.cancel()
        await asyncio.gather(*making, return_exceptions=True)
    return record


async def _offer(governor: Governor, client: OracleClient, owner: str) -> None:
    """Offer ownership, unless it is theirs or offered to them already, or not ours to give."""
    standing, pending = await client.owner(), await client.pending_owner()
    if standing.lower() == governor.address.lower() and owner.lower() not in {standing.lower(), pending.lower()}:
        await governor.do(offer_ownership(client.abi, owner))


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
