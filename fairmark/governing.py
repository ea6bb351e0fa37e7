"""Commands on the contract as a whole: deploying it, pausing it, who governs it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import typer
from eth_utils.address import is_address, to_checksum_address

from contracts import artifacts
from contracts import governor as chain
from contracts.client import OracleClient
from contracts.deploy import deploy as deploy_contract
from contracts.deployments import DeploymentRecord
from contracts.errors import DeploymentMismatchError
from contracts.governance import (
    Role,
    accept_ownership,
    offer_ownership,
    pause,
    set_guardian,
    set_managers,
    steps,
    unpause,
)
from contracts.rpc import Rpc
from core.errors import ConfigurationError, StartError
from core.settings import Settings, secrets_of
from core.types import Group
from fairmark import access
from fairmark.office import Manner, Office, agree, govern, say
from fairmark.plan import changes
from fairmark.reporters import announced, delays, reporters_of


def deploy(settings: Settings, yes: bool) -> None:
    """Deploy the contract for the configured groups and reporters, or verify what stands; prints the record.

    Run again after a failure, it goes on where it stopped; where all stands as configured, it sends nothing.
    """
    reporting = dict.fromkeys(reporter for name in settings.groups for reporter in settings.reporters(name))
    fetchers = [name for name in reporting if name in settings.fetchers and settings.fetchers[name].address is None]
    # all that are missing, at once
    secrets_of(settings, ["chain.deployer_key", *(f"fetchers.{name}.key" for name in fetchers)])
    for name in reporting:
        if name in settings.strategies and settings.strategies[name].address is None:
            access.strategy_key(settings, name)  # on one machine the first to start makes it, and that may be this
    reporters = {name: reporters_of(settings, name) for name in settings.groups}
    own = settings.chain
    agree(asyncio.run(_deployment_plan(settings, reporters)), own.chain_id, yes)
    record = apply(settings, settings.all_groups(), reporters)
    typer.echo(f"FairmarkOracle ({record.mode}) at {record.address} on chain {record.chain_id}")
    typer.echo(f"recorded in {own.deployments_dir / f'{record.chain_id}.json'}")


def apply(settings: Settings, groups: Sequence[Group], reporters: Mapping[str, Mapping[str, str]]) -> DeploymentRecord:
    """See that these groups stand as configured, printing each transaction. Raises as `contracts.deploy.deploy`."""
    own = settings.chain
    return asyncio.run(
        deploy_contract(
            own.rpc_urls,
            access.deployer_key(settings),
            mode=settings.named_mode(),
            groups=groups,
            reporters={name: list(by_name.values()) for name, by_name in reporters.items()},
            owner=own.admin,
            guardian=own.guardian,
            deployments_dir=own.deployments_dir,
            timeout_s=120,
            request_timeout_s=own.request_timeout_s,
            max_lag_s=own.max_lag_s,
            fees=access.fee_policy(settings),
            announce=say,
        )
    )


async def _deployment_plan(settings: Settings, reporters: Mapping[str, Mapping[str, str]]) -> list[str]:
    mode, own = settings.named_mode(), settings.chain
    rpc = Rpc(own.rpc_urls, timeout_s=own.request_timeout_s, max_lag_s=own.max_lag_s)
    try:
        if (found := await rpc.quantity("eth_chainId")) != own.chain_id:
            raise ConfigurationError([f"chain.chain_id: {own.chain_id}, and {rpc.url} is chain {found}"])
    finally:
        await rpc.close()
    try:
        async with access.chain_client(settings, mode) as client:
            return await _changes_planned(settings, client, reporters)
    except (StartError, DeploymentMismatchError):
        lines = [f"deploy FairmarkOracle ({mode}) to chain {own.chain_id} at {', '.join(own.rpc_urls)}"]
        lines += [str(c) for group in settings.all_groups() for c in changes(None, group, reporters[group.name])]
        return [*lines, "deploy an AggregatorV3 adapter for each feed"]


async def _changes_planned(
    settings: Settings, client: OracleClient, reporters: Mapping[str, Mapping[str, str]]
) -> list[str]:
    record = client.record
    office = Office(settings, client, Manner(calldata=True))
    lines = []
    for group in settings.all_groups():
        state = await chain.group_state(client, group.name)
        rotation = None if state is None else await chain.rotation(client, group.name)
        lines += [str(each) for each in changes(announced(state, rotation), group, reporters[group.name])]
        calls = steps(client.abi, state, rotation, group, list(reporters[group.name].values()))
        lines += await delays(office, state, calls)
    where = f"the contract at {record.address} on chain {record.chain_id} stands"
    if record.source_hash != artifacts.load("FairmarkOracle").source_hash:
        where += " (made from other sources than these; to replace it, deploy into another chain.deployments_dir)"
    return [where, *lines] if lines else [f"{where} as configured"]


# ------------------------------------------------------------------------------------------------ pausing


def paused(settings: Settings, manner: Manner, *, wanted: bool) -> None:
    """Halt the contract, or let rounds go on."""

    async def work(office: Office) -> None:
        record = office.client.record
        if await chain.paused(office.client) == wanted:
            typer.echo(f"nothing to do: the contract is {'paused already' if wanted else 'not paused'}")
            return
        effect = "no rounds are taken and readers revert" if wanted else "rounds are taken again"
        call = pause(office.client.abi) if wanted else unpause(office.client.abi)
        await office.carry_out([call], [f"{record.address} on chain {record.chain_id}: {effect}"])

    govern(settings, manner, work)


def cancelled(settings: Settings, manner: Manner) -> None:
    """Free the deployer's key of a transaction that no block takes."""
    govern(settings, manner, Office.cancel)


# ------------------------------------------------------------------------------------------------ roles


def roles_listed(settings: Settings) -> None:
    """Who may change what."""

    async def work(office: Office) -> None:
        for line in await roles_told(office.client):
            typer.echo(line)

    govern(settings, Manner(calldata=True), work)


async def roles_told(client: OracleClient) -> list[str]:
    """Who has which role, in words."""
    held = await chain.roles(client)
    pending = await client.pending_owner()
    offered = f", offered to {pending}" if int(pending, 16) else ""
    lines = [f"owner {held[Role.OWNER]}{offered}"]
    for role in (Role.GUARDIAN, Role.FEEDS_MANAGER, Role.SIGNERS_MANAGER):
        who = held[role] if int(held[role], 16) else "nobody beside the owner"
        lines.append(f"{role} {who}")
    return lines


def roles_set(
    settings: Settings,
    manner: Manner,
    *,
    owner: str | None,
    guardian: str | None,
    feeds_manager: str | None,
    signers_manager: str | None,
) -> None:
    """Name others; who is not named stays. Ownership is offered, and counts once it is accepted."""
    named = {
        role: _address(address)
        for role, address in zip(Role, (owner, guardian, feeds_manager, signers_manager), strict=True)
        if address is not None
    }

    async def work(office: Office) -> None:
        held, abi = await chain.roles(office.client), office.client.abi
        pending = await office.client.pending_owner()
        managers = (Role.FEEDS_MANAGER, Role.SIGNERS_MANAGER)
        calls = []
        if (other := named.get(Role.GUARDIAN, held[Role.GUARDIAN])) != held[Role.GUARDIAN]:
            calls.append(set_guardian(abi, other))
        if any(named.get(role, held[role]) != held[role] for role in managers):
            calls.append(set_managers(abi, *(named.get(role, held[role]) for role in managers)))
        if (heir := named.get(Role.OWNER)) is not None and heir not in {held[Role.OWNER], pending}:
            calls.append(offer_ownership(abi, heir))
        if not calls:
            typer.echo("nothing to do: they have these roles, or are offered them")
            return
        await office.carry_out(calls)

    govern(settings, manner, work)


def roles_accept(settings: Settings, manner: Manner) -> None:
    """Accept the ownership that is offered to this key."""

    async def work(office: Office) -> None:
        pending = await office.client.pending_owner()
        if not int(pending, 16):
            typer.echo("nothing to do: ownership is offered to nobody")
            return
        if office.address not in (None, pending):
            raise StartError(f"ownership is offered to {pending}, not to {office.address}")
        await office.carry_out([accept_ownership(office.client.abi)])

    govern(settings, manner, work)


def _address(text: str) -> str:
    if not is_address(text):
        raise StartError(f"{text} is not an address")
    return to_checksum_address(text)
