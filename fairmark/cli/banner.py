"""What a newcomer sees once everything runs."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

if TYPE_CHECKING:
    from fairmark.embedded import Tree


def command() -> str:
    """How to call `fairmark` from here: by its name where it is on PATH, else by its path."""
    if shutil.which("fairmark") is not None:
        return "fairmark"
    script = Path(sys.executable).parent / "fairmark"
    near = os.path.relpath(script)
    return str(script) if near.startswith("..") else near


def show_banner(console: Console, tree: Tree) -> None:
    """Print mode, addresses, feeds with prices, where to look, how to stop."""
    settings = tree.settings
    api = f"http://{settings.bff.host}:{tree.ports['bff']}"
    prices = Table(box=None, pad_edge=False, header_style="dim")
    for column, justify in (("feed", "left"), ("price", "right"), ("reporters", "right"), ("spread", "right")):
        prices.add_column(column, justify=justify)  # type: ignore[arg-type]
    for feed in settings.feeds:
        price = tree.prices.get(feed.pair)
        if price is None:
            prices.add_row(feed.pair, "[red]none yet[/]", "", f"[dim]see {api}/health[/]")
        else:
            prices.add_row(feed.pair, str(price["price"]), str(price["contributors"]), f"{price['spread_bps']} bps")
    places = Table(box=None, pad_edge=False, show_header=False)
    aggregator = f"http://{settings.aggregator.host}:{tree.ports[settings.aggregator.name]}"
    market = []
    if settings.market.enabled:
        symbol = next(iter(settings.market.symbols))
        newest = f" ({tree.market['price']} at {tree.market['exchange']})" if tree.market else ""
        market = [("market data", f"curl {api}/prices/latest/{symbol}{newest}")]
    for name, value in (
        ("API", f"[bold]{api}/docs[/]"),
        ("a price", f"curl {api}/v1/prices/{settings.feeds[0].pair.replace('/', '-')}"),
        ("a fresh one", f"curl -X POST {api}/v1/prices/{settings.feeds[0].pair.replace('/', '-')}/refresh"),
        *market,
        ("aggregator", aggregator),
        ("chain", f"{settings.chain.rpc_url} (chain id {settings.chain.chain_id})"),
        ("contract", tree.address),
        ("fetchers", ", ".join(f"{name} :{tree.ports.get(name, '?')}" for name in settings.fetchers)),
        ("simulator", settings.simulator.control_url if "simulator" in tree.ports else "not running"),
        ("lose one", f"{command()} stop {next(iter(settings.fetchers))}"),
        ("stop", "Ctrl-C"),
    ):
        places.add_row(f"[dim]{name}[/]", value)
    body = Table.grid(padding=(1, 0))
    body.add_row(prices)
    body.add_row(places)
    mode = settings.mode.upper()
    colour = "green" if settings.mode == "live" else "yellow"
    meaning = "prices from real exchanges" if settings.mode == "live" else "SIMULATED prices, not real ones"
    title = f"Fairmark · mode [bold {colour}]{mode}[/] ({meaning})"
    console.print(Panel(body, title=title, title_align="left", expand=False, border_style=colour))
    console.print(f"[dim]{tree.why}; up in {time.monotonic() - tree.started:.0f} s[/]", highlight=False, soft_wrap=True)
