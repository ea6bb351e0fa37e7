"""Commands that change the chain: each says what it will do, asks or takes --yes, and prints its transactions."""
# ruff: noqa: PLC0415 - commands import what they run when they run: see `fairmark.cli.app`

from __future__ import annotations

from typing import Annotated

import typer

from fairmark.cli.app import DEFAULT_CONFIG, Config, app, settings_from

feeds_app = typer.Typer(help="The feeds on chain, against those configured.", no_args_is_help=True)
reporters_app = typer.Typer(help="The reporters on chain, against those configured.", no_args_is_help=True)
app.add_typer(feeds_app, name="feeds")
app.add_typer(reporters_app, name="reporters")

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
PairName = Annotated[str, typer.Argument(metavar="PAIR", help="A configured feed, such as BTC/USD.")]
ReporterName = Annotated[str, typer.Argument(metavar="NAME", help="A configured fetcher, such as fetcher-a.")]
GoneAddress = Annotated[str, typer.Argument(metavar="ADDRESS", help="A key that is configured no more.")]
OldAddress = Annotated[str, typer.Argument(metavar="OLD", help="The address that the fetcher's new key replaces.")]


@app.command()
def deploy(config: Config = DEFAULT_CONFIG, yes: Yes = False) -> None:
    """Deploy the contract for the configured groups and reporters, or verify what stands; prints the record.

    Run again after a failure, it goes on where it stopped; where all stands as configured, it sends nothing.
    """
    from fairmark import governing

    governing.deploy(settings_from(config), yes)


@feeds_app.command("list")
def feeds_list(config: Config = DEFAULT_CONFIG) -> None:
    """Every feed on chain with its rules, and how it differs from the configuration."""
    from fairmark import governing

    governing.feeds_list(settings_from(config))


@feeds_app.command("add")
def feeds_add(pair: PairName, config: Config = DEFAULT_CONFIG, yes: Yes = False) -> None:
    """Put a configured feed on chain."""
    from fairmark import governing

    governing.feeds_add(settings_from(config), pair, yes)


@feeds_app.command("set")
def feeds_set(pair: PairName, config: Config = DEFAULT_CONFIG, yes: Yes = False) -> None:
    """Bring a feed's rules on chain to what is configured."""
    from fairmark import governing

    governing.feeds_set(settings_from(config), pair, yes)


@reporters_app.command("list")
def reporters_list(config: Config = DEFAULT_CONFIG) -> None:
    """Every reporter on chain and in the configuration, by group."""
    from fairmark import governing

    governing.reporters_list(settings_from(config))


@reporters_app.command("add")
def reporters_add(name: ReporterName, config: Config = DEFAULT_CONFIG, yes: Yes = False) -> None:
    """Register a configured fetcher's key with the groups it reports for."""
    from fairmark import governing

    governing.reporters_add(settings_from(config), name, yes)


@reporters_app.command("remove")
def reporters_remove(address: GoneAddress, config: Config = DEFAULT_CONFIG, yes: Yes = False) -> None:
    """Strike a key that is configured no more from every group that has it."""
    from fairmark import governing

    governing.reporters_remove(settings_from(config), address, yes)


@reporters_app.command("rotate")
def reporters_rotate(name: ReporterName, old: OldAddress, config: Config = DEFAULT_CONFIG, yes: Yes = False) -> None:
    """Put a fetcher's new key, as configured now, in the place of its old one."""
    from fairmark import governing

    governing.reporters_rotate(settings_from(config), name, old, yes)


@app.command()
def pause(config: Config = DEFAULT_CONFIG, yes: Yes = False) -> None:
    """Halt the contract: no rounds, and readers revert. For the guardian or the owner, whose key the deployer's is."""
    from fairmark import governing

    governing.pause(settings_from(config), yes)


@app.command()
def unpause(config: Config = DEFAULT_CONFIG, yes: Yes = False) -> None:
    """Let rounds go on. For the owner."""
    from fairmark import governing

    governing.unpause(settings_from(config), yes)
