"""What stands on the chain, printed."""

from __future__ import annotations

import time
from decimal import Decimal

import typer

from contracts import governor as chain
from contracts.client import OracleClient
from contracts.governance import too_few
from contracts.readings import GroupReading
from contracts.report import LocalSigner
from core.errors import ConfigurationError
from core.settings import Settings
from fairmark import access
from fairmark.feeds import remarks
from fairmark.governing import roles_told
from fairmark.office import progress
from fairmark.plan import changes
from fairmark.reporters import announced, reporters_of

WEI = Decimal(10**18)


async def status(settings: Settings) -> bool:
    """Print it; whether it stands as configured. Raises as `access.chain_client` does."""
    async with access.chain_client(settings, settings.named_mode()) as client:
        record = client.record
        head = await client.block_number()
        for url, health in client.rpc.health().items():
            typer.echo(f"node {url}: {health}")
        typer.echo(f"chain {record.chain_id} at block {head}")
        typer.echo(f"FairmarkOracle ({record.mode}) at {record.address}, since block {record.block_number}")
        typer.echo(f"{len(record.adapters)} adapters")
        for line in await roles_told(client):
            typer.echo(line)
        as_configured = True
        for name in settings.groups:
            as_configured = await _group(settings, client, name, head) and as_configured
        await _balances(settings, client)
        return as_configured


async def _group(settings: Settings, client: OracleClient, name: str, head: int) -> bool:
    state = await chain.group_state(client, name)
    if state is None:
        typer.echo(f"group {name}: not on chain; run `fairmark deploy`")
        return False
    reading: GroupReading = await client.read_group(name)
    paused = ", PAUSED" if state.paused else ""
    age = f", {head - state.accepted_block} blocks ago" if state.round else ""
    typer.echo(
        f"group {name}: version {state.version}, round {state.round}{age}, {len(reading.answers)} of "
        f"{len(reading.pairs)} feeds answered, {state.threshold} of {len(state.signers)} reporters needed{paused}"
    )
    if too_few(state):
        typer.echo("  HALTED: too few signers are left; `fairmark deploy` puts those configured in place")
    rotation = await chain.rotation(client, name)
    if rotation is not None:
        for line in progress(rotation, max(int(time.time()), state.block_timestamp)):
            typer.echo(f"  {line}")
    halted = await chain.halted_feeds(client, state)
    for feed in state.feeds:
        for line in await remarks(client, reading, feed, feed.pair in halted):
            typer.echo(f"  {feed.pair}: {line}")
    found = changes(announced(state, rotation), settings.group(name), reporters_of(settings, name))
    for change in found:
        typer.echo(f"  differs: {change}")
    return not found


async def _balances(settings: Settings, client: OracleClient) -> None:
    for role, key in (("submitter", access.aggregator_key), ("deployer", access.deployer_key)):
        try:
            address = LocalSigner(key(settings)).address
        except ConfigurationError:
            continue  # that key lives on another machine
        balance = Decimal(await client.rpc.quantity("eth_getBalance", address, "latest")) / WEI
        low = ", LOW" if role == "submitter" and balance < settings.chain.submission.low_balance else ""
        typer.echo(f"{role} {address}: balance {balance:f}{low}")
