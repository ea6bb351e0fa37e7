"""What a slow or a hung source costs a fetcher that hedges, beside one that does not, in turns in one run.

`python -m benchmarks.hedging` measures.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from prometheus_client import CollectorRegistry

from benchmarks.figures import machine, ms, percentile, table
from benchmarks.mock import SOURCES, new_event_loop
from benchmarks.slow_mock import Manners, running
from core.clock import SystemClock
from core.currency import DOLLARS, ConversionGraph
from core.logs import get_logger
from core.types import Feed, Mode, Pair
from fetchers.candidates import make_plans
from fetchers.fetch import Fetcher
from fetchers.reader import PoolReader
from sources import SourcePool, load_catalogue

ROUNDS = 5
FETCHES = 60
WARM_UP = 20
BUDGET_S = 0.62
"""What a job of 800 ms leaves the sources."""
PAIR = Pair("BTC/USDT")
STEADY = Manners(ms=20)
SLOW_ONCE_IN_TEN = {source: STEADY for source in SOURCES} | {SOURCES[0]: Manners(ms=20, every=10, slow_ms=200)}
ONE_HANGS = {source: Manners(ms=50) for source in SOURCES} | {SOURCES[0]: Manners(ms=0, hang=True)}
NONE_HANGS = {source: Manners(ms=50) for source in SOURCES[1:]}


@dataclass
class Side:
    """One fetcher's fetches, in seconds by round, and the requests that each round cost."""

    rounds: list[list[float]] = field(default_factory=list)
    requests: list[float] = field(default_factory=list)
    first: float = 0.0

    @property
    def samples(self) -> list[float]:
        return [each for samples in self.rounds for each in samples]


@asynccontextmanager
async def _fetcher(manners: dict[str, Manners], wanted: int, hedging: bool) -> AsyncIterator[tuple[Any, Any]]:
    """How to fetch once, and how many requests were sent so far."""
    catalogue, clock, graph, registry = load_catalogue(), SystemClock(), ConversionGraph(DOLLARS), CollectorRegistry()
    rules = Feed(pair=PAIR, wanted_sources=wanted, min_price=Decimal(1000), max_price=Decimal(10_000_000))
    plans = make_plans([rules], list(manners), catalogue, graph)
    loop = asyncio.get_running_loop()
    with running(manners) as urls:
        async with SourcePool(catalogue, urls, clock=clock, registry=registry, base_urls=urls) as pool:
            # without: whoever is silent is waited for until two fifths of the time are over, longer than any answer
            after = pool.hedge_s if hedging else (lambda _: None)
            fetcher = Fetcher(PoolReader(pool), graph, get_logger("benchmark", Mode.TEST), hedge_after=after)

            async def fetch() -> None:
                seen = await fetcher.fetch(plans, clock.now_ms(), loop.time() + BUDGET_S)
                assert len(seen.quotes) >= wanted, seen.failures

            def sent() -> float:
                samples = [sample for metric in registry.collect() for sample in metric.samples]
                return sum(each.value for each in samples if each.name == "fairmark_sources_requests_total")

            yield fetch, sent
            await fetcher.close()


async def _in_turns(
    sides: dict[str, tuple[dict[str, Manners], int, bool]], rounds: int, fetches: int
) -> dict[str, Side]:
    async with AsyncExitStack() as stack:
        made = {name: await stack.enter_async_context(_fetcher(*each)) for name, each in sides.items()}
        found = {name: Side() for name in sides}
        for name, (fetch, _) in made.items():
            found[name].first = (await _timed(fetch, 1))[0]
            await _timed(fetch, WARM_UP)
        names = list(sides)
        for turn in range(rounds):
            first = turn % len(names)
            for name in (*names[first:], *names[:first]):
                fetch, sent = made[name]
                before = sent()
                found[name].rounds.append(await _timed(fetch, fetches))
                found[name].requests.append((sent() - before) / fetches)
        return found


async def _timed(fetch: Any, times: int) -> list[float]:
    took = []
    for _ in range(times):
        started = time.perf_counter()
        await fetch()
        took.append(time.perf_counter() - started)
    return took


SCENES = {
    "one of three is slow once in ten": {
        "without hedging": (SLOW_ONCE_IN_TEN, 3, False),
        "with hedging": (SLOW_ONCE_IN_TEN, 3, True),
    },
    "one of five never answers, four wanted": {
        "the four alone": (NONE_HANGS, 4, True),
        "without hedging": (ONE_HANGS, 4, False),
        "with hedging": (ONE_HANGS, 4, True),
    },
}
"""Of each scene the first side is what the others are held against."""


def measure(*, rounds: int = ROUNDS, fetches: int = FETCHES) -> dict[str, dict[str, Side]]:
    """By scene and side. Raises `AssertionError` where a fetch ends without the quotes it wanted."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return {name: runner.run(_in_turns(sides, rounds, fetches)) for name, sides in SCENES.items()}


def run(*, rounds: int | None = None) -> tuple[str, dict[str, Any]]:
    """Measure; the report as Markdown, and the figures."""
    line, rounds = machine("uvloop", "aiohttp"), rounds or ROUNDS
    text = [line, f"{rounds} rounds of {FETCHES} fetches each after {WARM_UP + 1}, in turns."]
    shown: dict[str, Any] = {"machine": line, "rounds": rounds, "fetches": FETCHES, "scenes": {}}
    for scene, sides in measure(rounds=rounds).items():
        base = percentile(next(iter(sides.values())).samples, 95)
        rows = []
        shown["scenes"][scene] = {}
        for name, side in sides.items():
            p50, p95 = (percentile(side.samples, percent) * 1000 for percent in (50, 95))
            requests = sum(side.requests) / len(side.requests)
            rows.append((name, f"{p95 / base / 1000:.2f}", ms(p50), ms(p95), ms(side.first * 1000), f"{requests:.2f}"))
            shown["scenes"][scene][name] = {
                "p50": p50,
                "p95": p95,
                "first": side.first * 1000,
                "requests": requests,
                "rounds_ms": [[round(each * 1000, 3) for each in samples] for samples in side.rounds],
            }
        head = ("", "p95 ÷ first row's", "p50 ms", "p95 ms", "very first fetch, ms", "requests a fetch")
        text += ["", f"**{scene}**", "", table(head, rows)]
    return "\n".join(text), shown


if __name__ == "__main__":
    print(run()[0])
