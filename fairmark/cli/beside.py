"""Commands on adapters and the directory."""
# ruff: noqa: PLC0415 - commands import what they run when they run: see `fairmark.cli.app`

from __future__ import annotations

from typing import Annotated

import typer

from fairmark.cli.app import DEFAULT_CONFIG, Config, app, settings_from
from fairmark.cli.changing import Calldata, Yes
from fairmark.cli.feeds import PairName

adapters_app = typer.Typer(help="Contracts through which others read a feed.", no_args_is_help=True)
directory_app = typer.Typer(help="Where consumers look up which oracle a feed is read at.", no_args_is_help=True)
app.add_typer(adapters_app, name="adapters")
app.add_typer(directory_app, name="directory")

Sequencer = Annotated[str, typer.Option("--sequencer", help="Address of the rollup's uptime feed.")]
Grace = Annotated[int, typer.Option("--grace", min=0, help="Seconds without answers after the sequencer came back.")]
Base = Annotated[str, typer.Option("--base", help="Address of the asset that the feed prices.")]
Quote = Annotated[str, typer.Option("--quote", help="Address of the asset that it is priced in.")]
Decimals = Annotated[int, typer.Option(min=0, max=36)]
MaxAge = Annotated[int, typer.Option("--max-age", min=1, help="Seconds: an older answer reverts.")]
Owner = Annotated[str | None, typer.Option("--owner", help="Who may move feeds; default: the deployer.")]
Oracle = Annotated[str | None, typer.Option("--to", help="An oracle's address; default: this deployment's.")]


@adapters_app.command("list")
def adapters_list(config: Config = DEFAULT_CONFIG) -> None:
    """Every contract that the deployment's record names beside the oracle."""
    from fairmark import beside

    beside.listed(settings_from(config))


@adapters_app.command("gated")
def adapters_gated(
    pair: PairName, sequencer: Sequencer, grace: Grace = 3_600, config: Config = DEFAULT_CONFIG, yes: Yes = False
) -> None:
    """Deploy an AggregatorV3 adapter for a rollup: it asks the sequencer's uptime feed first."""
    from fairmark import beside
    from fairmark.office import Manner

    beside.gated(settings_from(config), pair, sequencer, grace, Manner(yes))


@adapters_app.command("quote")
def adapters_quote(
    pair: PairName,
    base: Base,
    base_decimals: Decimals,
    quote: Quote,
    quote_decimals: Decimals,
    max_age: MaxAge,
    config: Config = DEFAULT_CONFIG,
    yes: Yes = False,
) -> None:
    """Deploy an ERC-7726 adapter: how much of one asset so much of another is worth."""
    from fairmark import beside
    from fairmark.office import Manner

    assets = (base, base_decimals), (quote, quote_decimals)
    beside.quoting(settings_from(config), pair, *assets, max_age, Manner(yes))


@directory_app.command("deploy")
def directory_deploy(owner: Owner = None, config: Config = DEFAULT_CONFIG, yes: Yes = False) -> None:
    """Deploy the directory."""
    from fairmark import beside
    from fairmark.office import Manner

    beside.directory_deployed(settings_from(config), owner, Manner(yes))


@directory_app.command("list")
def directory_list(config: Config = DEFAULT_CONFIG) -> None:
    """Where the directory says that each configured feed is read, and what moves."""
    from fairmark import beside

    beside.directory_listed(settings_from(config))


@directory_app.command("move")
def directory_move(
    pair: PairName, to: Oracle = None, config: Config = DEFAULT_CONFIG, yes: Yes = False, calldata: Calldata = False
) -> None:
    """Announce where a feed is read: a new one at once, any other two days later. For the directory's owner."""
    from fairmark import beside
    from fairmark.office import Manner

    beside.moved(settings_from(config), pair, to, Manner(yes, calldata))
