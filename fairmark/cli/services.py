"""Commands that run things: the whole tree, or one service as a process of its own."""
# ruff: noqa: PLC0415 - commands import what they run when they run: see `fairmark.cli.app`

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from core.errors import StartError
from fairmark.cli.app import DEFAULT_CONFIG, Config, DieWithParent, app, settings_from
from fairmark.runtime import run_until_stopped


@app.command()
def up(config: Config = DEFAULT_CONFIG) -> None:
    """Start everything in one process tree: chain, simulator (in test mode), fetchers, aggregator, bff."""
    from fairmark import embedded
    from fairmark.cli.banner import show_banner

    settings = settings_from(config)
    errors = Console(stderr=True)
    run_until_stopped(
        embedded.up(
            settings,
            config,
            progress=lambda line: errors.print(f"[dim]fairmark[/] {line}", highlight=False),
            banner=lambda tree: show_banner(Console(), tree),
        )
    )
    errors.print("[dim]fairmark[/] stopped", highlight=False)


@app.command()
def stop(
    name: Annotated[str, typer.Argument(help="A fetcher of the running tree, such as fetcher-b.")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Stop one fetcher of a tree started by `fairmark up`: rounds go on with the others."""
    import httpx

    from fairmark import embedded

    settings = settings_from(config)
    running = embedded.read_running(settings)
    if name not in running.ports or name not in settings.fetchers:
        raise StartError(f"{name} is no running fetcher; known: {', '.join(sorted(settings.fetchers))}")
    url = f"http://{settings.fetchers[name].host}:{running.ports[name]}/stop"
    try:
        response = httpx.post(url, headers={"Authorization": f"Bearer {running.token}"}, timeout=5, trust_env=False)
    except httpx.HTTPError as error:
        raise StartError(f"{name} does not answer at {url}: {error}") from error
    if not response.is_success:
        raise StartError(f"{name} refused to stop: {response.text}")
    Console().print(f"{name} stops; the others go on")


@app.command()
def fetcher(
    name: Annotated[str, typer.Option("--name", "-n", help="Which of the configured fetchers this process is.")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Run one fetcher: jobs in, signed reports out."""
    from fairmark import assemble

    run_until_stopped(assemble.run_fetcher(settings_from(config), name))


@app.command()
def aggregator(config: Config = DEFAULT_CONFIG) -> None:
    """Run an aggregator: rounds, their record, their HTTP interface."""
    from fairmark import assemble

    run_until_stopped(assemble.run_aggregator(settings_from(config)))


@app.command()
def bff(config: Config = DEFAULT_CONFIG) -> None:
    """Run the BFF: what web and mobile clients see."""
    from fairmark import assemble

    run_until_stopped(assemble.run_bff(settings_from(config)))


@app.command()
def simulator(
    config: Config = DEFAULT_CONFIG,
    replay: Annotated[
        Path | None, typer.Option("--replay", help="Serve the recorded bodies in this folder, verbatim.")
    ] = None,
    die_with_parent: DieWithParent = False,
) -> None:
    """Run test mode's exchanges: the real formats, a seeded market, faults on demand."""
    from fairmark import assemble

    run_until_stopped(assemble.run_simulator(settings_from(config), recordings=replay), die_with_parent=die_with_parent)
