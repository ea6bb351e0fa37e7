"""Commands that look at the chain and cost nothing."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Annotated

import typer

from contracts.client import OracleClient
from contracts.readings import GroupReading
from contracts.report import LocalSigner
from core.errors import ConfigurationError, StartError
from core.settings import Settings
from fairmark import assemble
from fairmark.cli.app import DEFAULT_CONFIG, Config, app, settings_from
from fairmark.cli.governing import reporters_of, standing
from fairmark.gas import cost, read_table
from fairmark.plan import changes

chain_app = typer.Typer(help="What stands on the chain.", no_args_is_help=True)
app.add_typer(chain_app, name="chain")
WEI = Decimal(10**18)


@chain_app.command("status")
def chain_status(config: Config = DEFAULT_CONFIG) -> None:
    """Nodes, contract, groups, balances: what stands, and how it differs from the configuration. Exit code 1 if so."""
    settings = settings_from(config)
    if not asyncio.run(_status(settings)):
        raise typer.Exit(1)


async def _status(settings: Settings) -> bool:
    async with assemble.chain_client(settings, settings.named_mode()) as client:
        record = client.record
        head = await client.block_number()
        for url, health in client.rpc.health().items():
            typer.echo(f"node {url}: {health}")
        typer.echo(f"chain {record.chain_id} at block {head}")
        typer.echo(f"FairmarkOracle ({record.mode}) at {record.address}, since block {record.block_number}")
        pending = await client.pending_owner()
        offered = "" if int(pending, 16) == 0 else f", offered to {pending}"
        typer.echo(f"owner {await client.owner()}{offered}; {len(record.adapters)} adapters")
        as_configured = True
        for name in settings.groups:
            as_configured = await _group(settings, client, name, head) and as_configured
        await _balances(settings, client)
        return as_configured


async def _group(settings: Settings, client: OracleClient, name: str, head: int) -> bool:
    state = await standing(client, name)
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
    found = changes(state, settings.group(name), reporters_of(settings, name))
    for change in found:
        typer.echo(f"  differs: {change}")
    return not found


async def _balances(settings: Settings, client: OracleClient) -> None:
    for role, key in (("submitter", assemble.aggregator_key), ("deployer", assemble.deployer_key)):
        try:
            address = LocalSigner(key(settings)).address
        except ConfigurationError:
            continue  # that key lives on another machine
        balance = Decimal(await client.rpc.quantity("eth_getBalance", address, "latest")) / WEI
        low = ", LOW" if role == "submitter" and balance < settings.chain.submission.low_balance else ""
        typer.echo(f"{role} {address}: balance {balance:f}{low}")


@app.command()
def gas(
    gwei: Annotated[str, typer.Option("--gwei", help="The price of gas.")],
    coin: Annotated[
        str | None, typer.Option("--coin", help="What the chain's coin is worth, in your currency.")
    ] = None,
    rounds: Annotated[int | None, typer.Option("--rounds", help="Rounds a day; default: by the heartbeats.")] = None,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """What the configuration costs a day at a price of gas: every feed written in every round, the dearest case."""
    settings = settings_from(config)
    try:
        price, worth = Decimal(gwei), None if coin is None else Decimal(coin)
    except ArithmeticError:
        raise StartError("--gwei and --coin are decimal numbers") from None
    table = read_table()
    total = Decimal(0)
    for group in settings.all_groups():
        one = cost(group, table, gwei=price, rounds=rounds)
        total += one.coin
        typer.echo(
            f"{one.group}: {one.rounds} rounds a day, {one.gas:,} gas each ({one.feeds} feeds, "
            f"{one.signatures} signatures): {one.coin:.6f} a day"
        )
    typer.echo(f"in all {total:.6f} of the chain's coin a day" + (f", {total * worth:.2f} of yours" if worth else ""))
