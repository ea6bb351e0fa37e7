"""What the commands on the chain do: say what changes, ask, apply, print the transactions."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence

import typer

from contracts.client import OracleClient
from contracts.deploy import deploy as deploy_contract
from contracts.deployments import DeploymentRecord
from contracts.errors import CallRevertedError, DeploymentMismatchError, TransactionFailedError
from contracts.keys import DEVELOPMENT_CHAINS
from contracts.readings import GroupState
from contracts.rpc import Rpc
from core.errors import ConfigurationError, StartError
from core.settings import Settings, secrets_of
from core.types import Group
from fairmark import assemble
from fairmark.plan import Change, Kind, changes, rules

GAS = 100_000
RECEIPT_S = 120.0


def agree(lines: Sequence[str], chain_id: int, yes: bool) -> None:
    """Say what is to be done, and ask, unless `yes` or on a development chain. Raises `typer.Exit` at a no."""
    for line in lines:
        typer.echo(f"- {line}")
    if yes or chain_id in DEVELOPMENT_CHAINS:
        return
    if not sys.stdin.isatty():
        raise StartError("nobody to ask: give --yes to do this")
    if not typer.confirm(f"Do this on chain {chain_id}?"):
        raise typer.Exit(1)


def say(what: str, transaction: str) -> None:
    """Print a transaction that was sent."""
    typer.echo(f"{what}: {transaction}")


def reporters_of(settings: Settings, group: str) -> dict[str, str]:
    """Addresses by name. Raises `ConfigurationError` or `DevelopmentKeyError`."""
    return {name: assemble.reporter_address(settings, name) for name in settings.reporters(group)}


async def standing(client: OracleClient, group: str) -> GroupState | None:
    """The group on chain; None where the contract does not know it."""
    try:
        return await client.group_state(group)
    except CallRevertedError as error:
        if error.name != "UnknownGroup":
            raise
        return None


def deploy(settings: Settings, yes: bool) -> None:
    """Deploy the contract for the configured groups and reporters, or verify what stands; prints the record.

    Run again after a failure, it goes on where it stopped; where all stands as configured, it sends nothing.
    """
    reporting = dict.fromkeys(reporter for name in settings.groups for reporter in settings.reporters(name))
    keys = [f"fetchers.{reporter}.key" for reporter in reporting if settings.fetchers[reporter].address is None]
    secrets_of(settings, ["chain.deployer_key", *keys])  # all that are missing, at once
    reporters = {name: reporters_of(settings, name) for name in settings.groups}
    chain = settings.chain
    agree(asyncio.run(_deployment_plan(settings, reporters)), chain.chain_id, yes)
    record = apply(settings, settings.all_groups(), reporters)
    typer.echo(f"FairmarkOracle ({record.mode}) at {record.address} on chain {record.chain_id}")
    typer.echo(f"recorded in {chain.deployments_dir / f'{record.chain_id}.json'}")


def apply(settings: Settings, groups: Sequence[Group], reporters: Mapping[str, Mapping[str, str]]) -> DeploymentRecord:
    """See that these groups stand as configured, printing each transaction. Raises as `contracts.deploy.deploy`."""
    chain = settings.chain
    return asyncio.run(
        deploy_contract(
            chain.rpc_url,
            assemble.deployer_key(settings),
            mode=settings.named_mode(),
            groups=groups,
            reporters={name: list(by_name.values()) for name, by_name in reporters.items()},
            owner=chain.admin,
            guardian=chain.guardian,
            deployments_dir=chain.deployments_dir,
            fees=assemble.fee_policy(settings),
            announce=say,
        )
    )


async def _deployment_plan(settings: Settings, reporters: Mapping[str, Mapping[str, str]]) -> list[str]:
    mode, chain = settings.named_mode(), settings.chain
    rpc = Rpc(chain.rpc_urls, timeout_s=chain.request_timeout_s)
    try:
        if (found := await rpc.quantity("eth_chainId")) != chain.chain_id:
            raise ConfigurationError([f"chain.chain_id: {chain.chain_id}, and {chain.rpc_url} is chain {found}"])
    finally:
        await rpc.close()
    try:
        async with assemble.chain_client(settings, mode) as client:
            found_changes = [
                change
                for group in settings.all_groups()
                for change in changes(await standing(client, group.name), group, reporters[group.name])
            ]
            where = f"the contract at {client.record.address} on chain {chain.chain_id} stands"
            return [where, *(str(change) for change in found_changes)] if found_changes else [f"{where} as configured"]
    except (StartError, DeploymentMismatchError):
        lines = [f"deploy FairmarkOracle ({mode}) to chain {chain.chain_id} at {chain.rpc_url}"]
        lines += [str(c) for group in settings.all_groups() for c in changes(None, group, reporters[group.name])]
        return [*lines, "deploy an AggregatorV3 adapter for each feed"]


# ------------------------------------------------------------------------------------------------ feeds


def feeds_list(settings: Settings) -> None:
    """Every feed on chain with its rules, and how it differs from the configuration."""

    async def read() -> list[tuple[Group, GroupState | None]]:
        async with assemble.chain_client(settings, settings.named_mode()) as client:
            return [(group, await standing(client, group.name)) for group in settings.all_groups()]

    for group, state in asyncio.run(read()):
        there = {} if state is None else {feed.pair: feed for feed in state.feeds}
        different = {change.name: change for change in changes(state, group, {}) if change.kind in _FEED_KINDS}
        for pair in dict.fromkeys([*there, *(feed.pair for feed in group.feeds)]):
            feed = there.get(pair)
            shown = rules(feed) if feed is not None else "not on chain"
            note = f" [{different[pair].kind} in the configuration]" if pair in different else ""
            typer.echo(f"{group.name} {pair}: {shown}{note}")


_FEED_KINDS = {Kind.FEED_ADDED, Kind.FEED_CHANGED, Kind.FEED_REMOVED}


def feeds_add(settings: Settings, pair: str, yes: bool) -> None:
    """Put a configured feed on chain."""
    group = _group_of(settings, pair)
    _change(settings, group, lambda c: c.kind is Kind.FEED_ADDED and c.name == pair, yes)


def feeds_set(settings: Settings, pair: str, yes: bool) -> None:
    """Bring a feed's rules on chain to what is configured."""
    group = _group_of(settings, pair)
    _change(settings, group, lambda c: c.kind is Kind.FEED_CHANGED and c.name == pair, yes)


# ------------------------------------------------------------------------------------------------ reporters


def reporters_list(settings: Settings) -> None:
    """Every reporter on chain and in the configuration, by group."""

    async def read() -> dict[str, GroupState | None]:
        async with assemble.chain_client(settings, settings.named_mode()) as client:
            return {name: await standing(client, name) for name in settings.groups}

    for name, state in asyncio.run(read()).items():
        configured = {address.lower(): reporter for reporter, address in reporters_of(settings, name).items()}
        there = {} if state is None else {address.lower(): address for address in state.signers}
        for address in dict.fromkeys([*there, *configured]):
            who = configured.get(address, "not configured")
            typer.echo(f"{name} {there.get(address, address)} {who}{'' if address in there else ' (not on chain)'}")


def reporters_add(settings: Settings, name: str, yes: bool) -> None:
    """Register a configured fetcher's key with the groups it reports for."""
    address = _address_of(settings, name)
    for group in _groups_of(settings, name):
        _change(settings, group, lambda c: c.kind is Kind.REPORTER_ADDED and c.name == address, yes)


def reporters_remove(settings: Settings, address: str, yes: bool) -> None:
    """Strike a key that is configured no more from every group that has it."""
    for name in settings.groups:
        _change(
            settings,
            settings.group(name),
            lambda c: c.kind is Kind.REPORTER_REMOVED and c.name == address.lower(),
            yes,
        )


def reporters_rotate(settings: Settings, name: str, old: str, yes: bool) -> None:
    """Put a fetcher's new key, as configured now, in the place of its old one."""
    new = _address_of(settings, name)
    allowed = {(Kind.REPORTER_ADDED, new), (Kind.REPORTER_REMOVED, old.lower())}
    for group in _groups_of(settings, name):
        _change(settings, group, lambda c: (c.kind, c.name) in allowed, yes)


def _group_of(settings: Settings, pair: str) -> Group:
    for group in settings.all_groups():
        if any(feed.pair == pair for feed in group.feeds):
            return group
    raise StartError(f"{pair} is not configured: add it to [[feeds]] and to a group first")


def _groups_of(settings: Settings, reporter: str) -> list[Group]:
    groups = [group for group in settings.all_groups() if reporter in settings.reporters(group.name)]
    if not groups:
        raise StartError(f"{reporter} reports for no group; known: {', '.join(sorted(settings.fetchers))}")
    return groups


def _address_of(settings: Settings, reporter: str) -> str:
    if reporter not in settings.fetchers:
        raise StartError(f"{reporter} is no configured fetcher; known: {', '.join(sorted(settings.fetchers))}")
    return assemble.reporter_address(settings, reporter).lower()


def _change(settings: Settings, group: Group, meant: Callable[[Change], bool], yes: bool) -> None:
    """Bring the group on chain to its configuration, if that changes only what is meant. Raises `StartError`."""
    reporters = reporters_of(settings, group.name)

    async def differences() -> list[Change]:
        async with assemble.chain_client(settings, settings.named_mode()) as client:
            return changes(await standing(client, group.name), group, reporters)

    found = asyncio.run(differences())
    wanted, others = [c for c in found if meant(c)], [c for c in found if not meant(c)]
    if not wanted:
        typer.echo(f"{group.name}: nothing to do, it stands on chain as configured")
        return
    if others:
        listed = "\n".join(f"  - {change}" for change in others)
        raise StartError(
            f"the configuration of {group.name} differs from the chain in more than that; `fairmark deploy` applies "
            f"all of it:\n{listed}"
        )
    agree([str(change) for change in wanted], settings.chain.chain_id, yes)
    apply(settings, [group], {group.name: reporters})


# ------------------------------------------------------------------------------------------------ pausing


def pause(settings: Settings, yes: bool) -> None:
    """Halt the contract: no rounds, and readers revert. For the guardian or the owner, whose key the deployer's is."""
    _switch(settings, "pause", yes)


def unpause(settings: Settings, yes: bool) -> None:
    """Let rounds go on. For the owner."""
    _switch(settings, "unpause", yes)


def _switch(settings: Settings, function: str, yes: bool) -> None:
    key = assemble.deployer_key(settings)
    record = assemble.deployment_record(settings)
    agree([f"{function} {record.address} on chain {record.chain_id}"], record.chain_id, yes)

    async def send() -> None:
        async with assemble.chain_client(settings, settings.named_mode()) as client:
            sender, data = client.sender(key), client.abi.call(function)
            await client.simulate(data, sender.address)
            transaction = await sender.send(record.address, data, gas=GAS)
            say(function, transaction)
            receipt = await client.wait_receipt(transaction, RECEIPT_S)
            if not receipt.ok:
                raise TransactionFailedError(f"{transaction} reverted in block {receipt.block_number}")
            typer.echo(f"done in block {receipt.block_number}")

    asyncio.run(send())
