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

sources_app = typer.Typer(help="The exchanges and indexes: how they are, and what the catalogue says of them.")
config_app = typer.Typer(help="The configuration file.", no_args_is_help=True)
app.add_typer(sources_app, name="sources")
app.add_typer(config_app, name="config")


@sources_app.callback(invoke_without_command=True)
def sources_shown(
    context: typer.Context,
    config: Config = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """How each source is, as the running fetchers tell: state, health, latency, errors, what may still be asked.

    Where no fetcher runs, what the catalogue says.
    """
    if context.invoked_subcommand is not None:
        return
    import msgspec

    from fairmark.ask_sources import ask_fetchers
    from fairmark.cli.state_table import catalogue_entry, catalogue_table, state_table
    from sources import load_catalogue

    settings, catalogue = settings_from(config), load_catalogue()
    asked = asyncio.run(ask_fetchers(settings))
    told = [each.told for each in asked if each.told is not None]
    if as_json:
        entries = [catalogue_entry(entry) for entry in catalogue.values()]
        typer.echo(msgspec.json.encode({"fetchers": asked, "catalogue": entries}).decode())
        return
    console = output()
    for each in told:
        console.print(state_table(each))
    if not told:
        configured = {name: fetcher.sources for name, fetcher in settings.fetchers.items()}
        console.print(catalogue_table(catalogue, configured))
        console.print("no fetcher answers, so this is the catalogue alone, and nothing is known of how they are:")
    for one in asked:
        if one.problem:
            console.print(f"{one.fetcher}: {one.problem}", markup=False, highlight=False)


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
    problems += [
        f"sources.timeouts.{name}: is not in sources/catalogue"
        for name in settings.sources.timeouts
        if name not in catalogue
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
