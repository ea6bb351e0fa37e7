"""Slow sources and a hung one: how long a median takes a fetcher, beside how long one healthy source takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from prometheus_client import CollectorRegistry

from benchmarks.figures import CannotMeasureError, figures, machine, ms, table
from benchmarks.mock import klines_answer, new_event_loop
from benchmarks.telliot import find, telliot
from core.clock import SystemClock
from core.currency import ConversionGraph
from core.logs import get_logger
from core.types import Feed, Mode, Pair
from fetchers.candidates import make_plans
from fetchers.fetch import Fetcher
from fetchers.reader import PoolReader
from simulator.venues import VENUES, Market
from sources import SourceEntry, SourcePool, load_catalogue

DELAY_S = 0.05
BUDGET_S = 0.65
"""A fetcher's own time of the 800 ms that a round has."""
MEDIANS = 60
WARM_UP = 20
TELLIOT_MEDIANS = 5
"""Medians of telliot-feeds: one with a hung source takes five seconds."""
PAIR = Pair("BTC/USDT")


@dataclass(frozen=True)
class Task:
    """sources, and how many of them never answer (the first ones); wanted: quotes that the feed wants."""

    name: str
    sources: int
    hung: int
    wanted: int
    target: str


TASKS = (
    Task("20 sources at 50 ms, all wanted", 20, 0, 20, "60 ms"),
    Task("5 sources at 50 ms, one hung, four wanted", 5, 1, 4, "1.1 × the slowest healthy"),
)


@asynccontextmanager
async def _venues(hung: set[str], delay_s: float) -> AsyncIterator[str]:
    """Answers as Binance does, after `delay_s`; the hung ones never do."""
    loop = asyncio.get_running_loop()
    entry = load_catalogue()["binance"]

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: Any = transport

        def data_received(self, data: bytes) -> None:
            name = data.split(b"/", 2)[1].decode()
            if name in hung:
                return
            market = Market(
                PAIR, entry.symbol(PAIR), Decimal(71_250), Decimal(71_249), Decimal(71_251), SystemClock().now_ms()
            )
            if b"/klines" in data:
                loop.call_later(delay_s, self.transport.write, klines_answer(market.last))
                return
            body = VENUES["binance"].render(market)
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            loop.call_later(delay_s, self.transport.write, head.encode() + body)

    server = await loop.create_server(Connection, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def measure(
    task: Task, *, medians: int = MEDIANS, warm_up: int = WARM_UP, budget_s: float = BUDGET_S
) -> tuple[list[float], list[float]]:
    """Seconds for each median, and in the same run for one request to a healthy source by itself."""
    names = [f"s{number:02d}" for number in range(task.sources)]
    whole = load_catalogue()["binance"].model_dump(exclude_unset=True)
    fresh = {"symbols": {PAIR: True}, "inverse": {}, "aliases": {}, "batch": None, "stream": None}
    entries = {
        name: SourceEntry.model_validate({**whole, **fresh, "name": name, "base_url": f"https://{name}.example.com"})
        for name in names
    }
    clock, graph = SystemClock(), ConversionGraph(())
    feed = Feed(pair=PAIR, max_price=Decimal(10_000_000), wanted_sources=task.wanted)
    plans = make_plans([feed], names, entries, graph)
    loop = asyncio.get_running_loop()
    took, alone = [], []
    async with _venues(set(names[: task.hung]), DELAY_S) as url:
        base_urls = {name: f"{url}/{name}" for name in names}
        async with SourcePool(entries, names, clock=clock, registry=CollectorRegistry(), base_urls=base_urls) as pool:
            fetcher = Fetcher(PoolReader(pool), graph, get_logger("benchmark", Mode.TEST), hedge_after=pool.hedge_s)
            for turn in range(warm_up + medians):
                started = time.perf_counter()
                seen = await fetcher.fetch(plans, clock.now_ms(), loop.time() + budget_s)
                middle = time.perf_counter()
                await pool.fetch(names[-1], PAIR, deadline=loop.time() + budget_s)
                assert len(seen.quotes) >= task.wanted, (len(seen.quotes), seen.failures)
                if turn >= warm_up:
                    took.append(middle - started)
                    alone.append(time.perf_counter() - middle)
            await fetcher.close()
    return took, alone


async def measure_telliot(task: Task, *, medians: int = TELLIOT_MEDIANS) -> list[float]:
    """Seconds for each median of telliot-feeds, of the same sources. Raises `CannotMeasureError`."""
    names = [f"s{number:02d}" for number in range(task.sources)]
    async with (
        _venues(set(names[: task.hung]), DELAY_S) as url,
        telliot([("binance", f"{url}/{name}") for name in names]) as take,
    ):
        _, seconds = await take(medians)
        return seconds


def run(*, rounds: int | None = None) -> tuple[str, dict[str, Any]]:
    """Measure; the report as Markdown, and the figures."""
    line = machine("uvloop", "httpx-aiohttp", "aiohttp")
    shown: dict[str, Any] = {"machine": line}
    rows = []
    beside, told = "telliot-feeds, p50 ms", ""
    try:
        find()
    except CannotMeasureError as error:
        beside, told = "", f"\n\n{error}"
    for task in TASKS:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            took, alone = map(figures, runner.run(measure(task, medians=rounds or MEDIANS)))
            other = figures(runner.run(measure_telliot(task))) if beside else None
        shown[task.name] = {"median": took, "one healthy source": alone, "telliot-feeds": other}
        row = [task.name, ms(took.p50), ms(took.p99), ms(alone.p50), f"{took.p50 / alone.p50:.2f}", task.target]
        rows.append([*row, ms(other.p50)] if other else row)
    head = [
        "",
        "p50 ms",
        "p99 ms",
        "one healthy source alone, p50 ms",
        "÷ that",
        "target",
        *([beside] if beside else []),
    ]
    return f"{line}{told}\n\n{table(head, rows)}", shown
