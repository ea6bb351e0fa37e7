"""Commands on feeds."""
# ruff: noqa: PLC0415 - commands import what they run when they run: see `fairmark.cli.app`

from __future__ import annotations

from typing import Annotated

import typer

from fairmark.cli.app import DEFAULT_CONFIG, Config, app, settings_from
from fairmark.cli.changing import Calldata, Yes

feeds_app = typer.Typer(help="The feeds on chain, against those configured.", no_args_is_help=True)
app.add_typer(feeds_app, name="feeds")

PairName = Annotated[str, typer.Argument(metavar="PAIR", help="A configured feed, such as BTC/USD.")]
Price = Annotated[str | None, typer.Option("--price", help="The candidate that is meant: refuse where another waits.")]


@feeds_app.command("list")
def feeds_list(config: Config = DEFAULT_CONFIG) -> None:
    """Every feed on chain with its rules, how it differs from the configuration, and what the breaker holds back."""
    from fairmark import feeds

    feeds.listed(settings_from(config))


@feeds_app.command("add")
def feeds_add(pair: PairName, config: Config = DEFAULT_CONFIG, yes: Yes = False, calldata: Calldata = False) -> None:
    """Put a configured feed on chain. For the feeds' manager or the owner."""
    from fairmark import feeds
    from fairmark.office import Manner

    feeds.add(settings_from(config), pair, Manner(yes, calldata))


@feeds_app.command("set")
def feeds_set(pair: PairName, config: Config = DEFAULT_CONFIG, yes: Yes = False, calldata: Calldata = False) -> None:
    """Bring a feed's rules on chain to what is configured. For the feeds' manager or the owner."""
    from fairmark import feeds
    from fairmark.office import Manner

    feeds.set_rules(settings_from(config), pair, Manner(yes, calldata))


@feeds_app.command("describe")
def feeds_describe(
    pair: PairName,
    description: Annotated[str, typer.Argument(help="What its adapter's description() returns; empty: the pair.")],
    config: Config = DEFAULT_CONFIG,
    yes: Yes = False,
    calldata: Calldata = False,
) -> None:
    """Say on chain what people call a feed. For the feeds' manager or the owner."""
    from fairmark import feeds
    from fairmark.office import Manner

    feeds.describe(settings_from(config), pair, description, Manner(yes, calldata))


@feeds_app.command("confirm")
def feeds_confirm(
    pair: PairName, price: Price = None, config: Config = DEFAULT_CONFIG, yes: Yes = False, calldata: Calldata = False
) -> None:
    """Make the candidate that the breaker holds back the feed's answer. For the owner."""
    from fairmark import feeds
    from fairmark.office import Manner

    feeds.resolve(settings_from(config), pair, price, Manner(yes, calldata), confirm=True)


@feeds_app.command("discard")
def feeds_discard(
    pair: PairName, price: Price = None, config: Config = DEFAULT_CONFIG, yes: Yes = False, calldata: Calldata = False
) -> None:
    """Forget the candidate that the breaker holds back. For the owner."""
    from fairmark import feeds
    from fairmark.office import Manner

    feeds.resolve(settings_from(config), pair, price, Manner(yes, calldata), confirm=False)


@feeds_app.command("halt")
def feeds_halt(pair: PairName, config: Config = DEFAULT_CONFIG, yes: Yes = False, calldata: Calldata = False) -> None:
    """Halt one feed: its readers revert, rounds go on writing it. For the guardian or the owner."""
    from fairmark import feeds
    from fairmark.office import Manner

    feeds.halt(settings_from(config), pair, Manner(yes, calldata), halted=True)


@feeds_app.command("resume")
def feeds_resume(pair: PairName, config: Config = DEFAULT_CONFIG, yes: Yes = False, calldata: Calldata = False) -> None:
    """End the halt of one feed. For the owner."""
    from fairmark import feeds
    from fairmark.office import Manner

    feeds.halt(settings_from(config), pair, Manner(yes, calldata), halted=False)
