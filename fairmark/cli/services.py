"""Commands that run things: the whole tree, or one service as a process of its own."""
# ruff: noqa: PLC0415 - commands import what they run when they run: see `fairmark.cli.app`

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from core.errors import StartError
from core.logs import configure_logging, get_logger
from fairmark.cli.app import DEFAULT_CONFIG, Config, DieWithParent, app, settings_from
from fairmark.runtime import run_until_stopped


@app.command()
def up(config: Config = DEFAULT_CONFIG) -> None:
    """Start everything in one process tree: chain, simulator (in test mode), fetchers, market data, aggregator,
    bff."""
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
def market(
    config: Config = DEFAULT_CONFIG,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65_535, help="Listen here; default: market.port.")
    ] = None,
) -> None:
    """Run the market data: ticks in, a window of the last minutes, minutes out, prices and statistics over HTTP.

    Sources, pairs, Redis and the database are set in the table `market` of the configuration file; docs/market.md
    describes them. With mode "auto" it takes the real exchanges if enough of them answer, else the simulator.
    """
    from fairmark import assemble
    from fairmark.embedded import decide_mode

    settings = settings_from(config)
    if port is not None:
        settings = settings.model_copy(update={"market": settings.market.model_copy(update={"port": port})})

    async def run() -> None:
        mode, why = await decide_mode(settings)
        configure_logging(settings.log.level, settings.log.format, mode.value)
        get_logger("market", mode).info("market_starts", because=why)
        await assemble.run_market(settings.model_copy(update={"mode": mode.value}))

    run_until_stopped(run())


@app.command()
def simulator(
    config: Config = DEFAULT_CONFIG,
    replay: Annotated[
        Path | None, typer.Option("--replay", help="Serve the recorded bodies in this folder, verbatim.")
    ] = None,
    tcp: Annotated[
        bool, typer.Option("--tcp", help="Also send lines of JSON on three TCP ports, from simulator.tcp_port on.")
    ] = False,
    die_with_parent: DieWithParent = False,
) -> None:
    """Run test mode's exchanges: the real formats, a seeded market, faults on demand."""
    from fairmark import assemble

    run_until_stopped(
        assemble.run_simulator(settings_from(config), recordings=replay, tcp=tcp), die_with_parent=die_with_parent
    )
