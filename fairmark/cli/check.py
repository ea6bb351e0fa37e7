"""Commands that check: sources, configuration, version."""
# ruff: noqa: PLC0415 - commands import what they run when they run: see `fairmark.cli.app`

from __future__ import annotations

import asyncio
import platform
from typing import Annotated

import typer

from core.errors import ConfigurationError, StartError
from core.types import Mode, Quote
from fairmark.cli.app import DEFAULT_CONFIG, Config, app, output, settings_from

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
    from fairmark.cli.source_table import source_table
    from fairmark.probe import ask_every_pair
    from sources import load_catalogue

    settings = settings_from(config)
    catalogue = load_catalogue()
    if name is not None and name not in catalogue:
        raise StartError(f"{name} is not in sources/catalogue; known: {', '.join(sorted(catalogue))}")
    names = [name] if name else sorted(catalogue)
    mode = Mode.TEST if settings.mode == "test" else Mode.LIVE
    answered = asyncio.run(ask_every_pair(settings, {each: catalogue[each] for each in names}, mode))
    console = output()
    console.print(source_table(answered, mode, console.width))
    working = sum(1 for each in answered if isinstance(each.outcome, Quote))
    console.print(f"{working} of {len(answered)} answered with a usable quote")
    if not working:
        raise typer.Exit(1)


@config_app.command("check")
def config_check(config: Config = DEFAULT_CONFIG) -> None:
    """Validate the configuration and its sources, listing every problem at once."""
    from core.settings import load
    from sources import load_catalogue

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
    output().print(
        f"{config}: valid; mode {settings.mode}, {len(settings.fetchers)} fetchers, "
        f"{feeds} feeds in {len(settings.groups)} group(s), {len(catalogue)} sources in the catalogue",
        highlight=False,
    )


@config_app.command("docs")
def config_docs() -> None:
    """Print docs/settings.md, made from the settings' definitions."""
    from fairmark.settings_table import settings_table

    typer.echo(settings_table(), nl=False)


@app.command()
def version() -> None:
    """Fairmark's version."""
    from core.ops import VERSION

    output().print(f"fairmark {VERSION} (Python {platform.python_version()})", highlight=False)
