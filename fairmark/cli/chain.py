"""Commands that look at the chain and cost nothing, and the one that frees a key."""
# ruff: noqa: PLC0415 - commands import what they run when they run: see `fairmark.cli.app`

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Annotated

import typer

from core.errors import StartError
from fairmark.cli.app import DEFAULT_CONFIG, Config, app, settings_from
from fairmark.cli.changing import Yes

chain_app = typer.Typer(help="What stands on the chain.", no_args_is_help=True)
app.add_typer(chain_app, name="chain")


@chain_app.command("status")
def chain_status(config: Config = DEFAULT_CONFIG) -> None:
    """Nodes, contract, groups, balances: what stands, and how it differs from the configuration. Exit code 1 if so."""
    from fairmark.chain_status import status

    if not asyncio.run(status(settings_from(config))):
        raise typer.Exit(1)


@chain_app.command("cancel")
def chain_cancel(config: Config = DEFAULT_CONFIG, yes: Yes = False) -> None:
    """Put nothing in the place of the deployer's first transaction that no block takes: later ones wait for it."""
    from fairmark import governing
    from fairmark.office import Manner

    governing.cancelled(settings_from(config), Manner(yes))


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
    if not all(given.is_finite() and given >= 0 for given in (price, worth) if given is not None):
        raise StartError("--gwei and --coin are not negative")
    if rounds is not None and rounds < 0:
        raise StartError("--rounds is not negative")
    from fairmark.gas import cost, read_table

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
