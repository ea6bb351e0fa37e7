"""Commands that check: sources, configuration, version."""

from __future__ import annotations

import asyncio
import platform
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from core.errors import ConfigurationError, StartError
from core.ops import VERSION
from core.settings import load
from core.types import Mode, Quote
from fairmark.cli.app import DEFAULT_CONFIG, Config, app, settings_from
from fairmark.probe import Answered, ask_every_pair
from fairmark.settings_table import settings_table
from sources import load_catalogue

sources_app = typer.Typer(help="The catalogue of exchanges and indexes.", no_args_is_help=True)
config_app = typer.Typer(help="The configuration file.", no_args_is_help=True)
app.add_typer(sources_app, name="sources")
app.add_typer(config_app, name="config")


@sources_app.command("check")
def sources_check(
    name: Annotated[str | None, typer.Argument(help="One source; default: all of them.")] = None,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Ask each source once for each of its pairs: parsed value, age, latency, or the error. Exit code 1 if none works.

    In mode `test` the simulator is asked instead of the exchanges.
    """
    settings = settings_from(config)
    catalogue = load_catalogue()
    if name is not None and name not in catalogue:
        raise StartError(f"{name} is not in sources/catalogue; known: {', '.join(sorted(catalogue))}")
    names = [name] if name else sorted(catalogue)
    mode = Mode.TEST if settings.mode == "test" else Mode.LIVE
    answered = asyncio.run(ask_every_pair(settings, {each: catalogue[each] for each in names}, mode))
    table = Table(title=f"sources, mode {mode.value}", title_justify="left")
    for column in ("source", "pair", "price", "bid", "ask", "age", "latency", "error"):
        table.add_column(column, overflow="fold")
    for each in answered:
        table.add_row(*_row(each))
    Console().print(table)
    working = sum(1 for each in answered if isinstance(each.outcome, Quote))
    Console().print(f"{working} of {len(answered)} answered with a usable quote")
    if not working:
        raise typer.Exit(1)


def _row(answered: Answered) -> tuple[str, ...]:
    outcome, latency = answered.outcome, f"{answered.latency_ms:.0f} ms"
    if not isinstance(outcome, Quote):
        return outcome.source, outcome.pair, "", "", "", "", latency, f"[red]{outcome.code}[/] {outcome.detail}"
    age = "no source time"
    if outcome.source_time_ms is not None:
        age = f"{(outcome.received_ms - outcome.source_time_ms) / 1000:.1f} s"
    return (
        outcome.source,
        outcome.pair,
        f"{outcome.price:f}",
        "" if outcome.bid is None else f"{outcome.bid:f}",
        "" if outcome.ask is None else f"{outcome.ask:f}",
        age,
        latency,
        "",
    )


@config_app.command("check")
def config_check(config: Config = DEFAULT_CONFIG) -> None:
    """Validate the configuration and its sources, listing every problem at once."""
    settings = load(config)
    catalogue = load_catalogue()
    problems = [
        f"fetchers.{name}.sources: {source} is not in sources/catalogue"
        for name, fetcher in settings.fetchers.items()
        for source in fetcher.sources
        if source not in catalogue
    ]
    if problems:
        raise ConfigurationError(problems, str(config))
    feeds = sum(len(group.feeds) for group in settings.all_groups())
    Console().print(
        f"{config}: valid; mode {settings.mode}, {len(settings.fetchers)} fetchers, "
        f"{feeds} feeds in {len(settings.groups)} group(s), {len(catalogue)} sources in the catalogue",
        highlight=False,
    )


@config_app.command("docs")
def config_docs() -> None:
    """Print docs/settings.md, made from the settings' definitions."""
    typer.echo(settings_table(), nl=False)


@app.command()
def version() -> None:
    """Fairmark's version."""
    Console().print(f"fairmark {VERSION} (Python {platform.python_version()})", highlight=False)
