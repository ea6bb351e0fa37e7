"""Two hundred feeds from ten sources each, every ten seconds: what that costs one fetcher in time and in memory.

A process of its own asks, another answers. No batch endpoint and no stream is used: two hundred requests a second, the
most that polling can cost.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from benchmarks.figures import machine, table
from benchmarks.mock import new_event_loop, serve_answers
from core.clock import SystemClock
from core.currency import ConversionGraph
from core.logs import get_logger
from core.types import Feed, Mode, Pair
from fetchers.candidates import make_plans
from fetchers.fetch import Fetcher
from fetchers.reader import PoolReader
from simulator.venues import VENUES, Market
from sources import SourceEntry, SourcePool, load_catalogue

SOURCES = (
    "binance",
    "bitget",
    "bitstamp",
    "bybit",
    "coinbase",
    "cryptocom",
    "gate",
    "gemini",
    "kraken",
    "okx",
)
FEEDS = 200
PERIOD_S = 10.0
GROUPS = 10
"""Feeds are asked group by group, evenly over the period, as a fetcher's groups are."""
BUDGET_S = 5.0
PERIODS = 3


def catalogue(feeds: int) -> dict[str, SourceEntry]:
    """The ten sources, each with as many markets in dollars, and without their batches."""
    symbols = dict.fromkeys(pairs(feeds), True)
    whole = load_catalogue()
    fresh = {"symbols": symbols, "inverse": {}, "aliases": {}, "batch": None, "stream": None}
    return {
        name: SourceEntry.model_validate({**whole[name].model_dump(exclude_unset=True), **fresh}) for name in SOURCES
    }


def pairs(feeds: int) -> list[Pair]:
    return [Pair(f"C{number:03d}/USD") for number in range(feeds)]


def answers(entries: dict[str, SourceEntry], now_ms: int) -> dict[bytes, bytes]:
    made: dict[bytes, bytes] = {}
    for name, entry in entries.items():
        for number, pair in enumerate(entry.pairs):
            last = Decimal(100 + number) + Decimal(SOURCES.index(name)) / 100
            market = Market(pair, entry.symbol(pair), last, last - Decimal("0.01"), last + Decimal("0.01"), now_ms)
            body = VENUES[name].render(market)
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            made[f"/{name}{entry.request_path(pair)}".encode()] = head.encode() + body
    return made


async def ask(url: str, feeds: int, periods: int, period_s: float) -> dict[str, Any]:
    """Poll for `periods` and tell what it took."""
    entries, graph, clock = catalogue(feeds), ConversionGraph(()), SystemClock()
    plans = make_plans(
        [Feed(pair=pair, max_price=Decimal(10_000), wanted_sources=len(SOURCES)) for pair in pairs(feeds)],
        SOURCES,
        entries,
        graph,
    )
    groups = [plans[start::GROUPS] for start in range(GROUPS)]
    loop = asyncio.get_running_loop()
    base_urls = {name: f"{url}/{name}" for name in SOURCES}
    async with SourcePool(entries, SOURCES, clock=clock, registry=CollectorRegistry(), base_urls=base_urls) as pool:
        fetcher = Fetcher(PoolReader(pool), graph, get_logger("benchmark", Mode.TEST))
        quotes = answered = late = 0
        began, spent = loop.time(), time.process_time()
        for turn in range(periods * GROUPS):
            due = began + turn * period_s / GROUPS
            await asyncio.sleep(max(0.0, due - loop.time()))
            seen = await fetcher.fetch(groups[turn % GROUPS], clock.now_ms(), loop.time() + BUDGET_S)
            quotes += len(seen.quotes)
            answered += len(seen.answers)
            late += loop.time() > due + period_s / GROUPS
        await asyncio.sleep(max(0.0, began + periods * period_s - loop.time()))
        return {
            "feeds": feeds,
            "requests": len(plans) * len(SOURCES) * periods,
            "quotes": quotes,
            "answers": answered,
            "late_groups": late,
            "core": round((time.process_time() - spent) / (loop.time() - began), 4),
            "mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        }


@contextmanager
def _child(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.many", *arguments],
        cwd=Path(__file__).resolve().parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def measure(*, feeds: int = FEEDS, periods: int = PERIODS, period_s: float = PERIOD_S) -> dict[str, Any]:
    """What polling took: see `ask`."""
    with _child("answer", str(feeds)) as mock:
        assert mock.stdout is not None
        url = mock.stdout.readline().strip()
        with _child("ask", url, str(feeds), str(periods), str(period_s)) as asker:
            assert asker.stdout is not None
            found: dict[str, Any] = json.loads(asker.stdout.readline())
            return found


def run(*, rounds: int | None = None) -> tuple[str, dict[str, Any]]:
    """Measure; the report as Markdown, and the figures."""
    line = machine("uvloop", "httpx", "httpx-aiohttp", "aiohttp", "msgspec")
    found = measure(periods=rounds or PERIODS)
    head = ("", "measured", "target")
    rows = [
        ("of one core", f"{found['core']:.1%}", "25 %"),
        ("memory at its most, MiB", f"{found['mib']:.0f}", "150"),
        ("quotes", f"{found['quotes']:,} of {found['requests']:,}", ""),
        ("groups that came later than the next was due", found["late_groups"], ""),
    ]
    return f"{line}\n\n{table(head, rows)}", {"machine": line, **found}


def main() -> None:
    what, *rest = sys.argv[1:]
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        if what == "answer":
            entries = catalogue(int(rest[0]))
            runner.run(serve_answers(lambda now_ms: answers(entries, now_ms)))
        else:
            url, feeds, periods, period_s = rest
            print(json.dumps(runner.run(ask(url, int(feeds), int(periods), float(period_s)))), flush=True)


if __name__ == "__main__":
    main()
