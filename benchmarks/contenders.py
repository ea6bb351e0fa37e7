"""Who is measured by benchmarks/fetch: each turns five sources on the mock into one median, by its own means.

Every contender keeps its connections, its formats and its clients from one median to the next.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from statistics import median_low
from types import ModuleType
from typing import Any

import aiohttp
import httpx
from prometheus_client import CollectorRegistry

from benchmarks.figures import CannotMeasureError
from benchmarks.mock import SOURCES
from core.clock import SystemClock
from core.currency import DOLLARS, ConversionGraph
from core.logs import get_logger
from core.types import Feed, Mode, Pair
from fetchers.candidates import make_plans
from fetchers.fetch import Fetcher
from fetchers.reader import PoolReader
from sources import SourceEntry, SourcePool, load_catalogue

Ask = Callable[[], Awaitable[Decimal]]
"""One median of five sources."""

BUDGET_S = 0.62
"""What a job of 800 ms leaves the sources."""


@dataclass(frozen=True)
class Task:
    """What is asked. asked: (source, pair) of every request, the feed's five first; the rest are conversion rates."""

    name: str
    feed: Feed
    asked: tuple[tuple[str, Pair], ...]

    def median(self, prices: list[Decimal]) -> Decimal:
        """The lower median of the five, those in USDT taken to USD by the lower median of the rates."""
        rates = prices[len(SOURCES) :]
        usdt = median_low(rates) if rates else Decimal(1)
        return median_low(
            price * (usdt if pair.quote != self.feed.pair.quote else 1)
            for price, (_, pair) in zip(prices, self.asked[: len(SOURCES)], strict=False)
        )


def _feed(pair: str) -> Feed:
    return Feed(pair=Pair(pair), min_price=Decimal(1000), max_price=Decimal(10_000_000), wanted_sources=len(SOURCES))


_IN_USD = ("coinbase", "kraken", "bitstamp")
TASKS = (
    Task("BTC/USDT, 5 requests", _feed("BTC/USDT"), tuple((source, Pair("BTC/USDT")) for source in SOURCES)),
    Task(
        "BTC/USD, 5 + 3 requests",
        _feed("BTC/USD"),
        (
            *((source, Pair("BTC/USD" if source in _IN_USD else "BTC/USDT")) for source in SOURCES),
            *((source, Pair("USDT/USD")) for source in _IN_USD),
        ),
    ),
)
"""The same five requests for every contender; and the same eight where the price has to be converted to dollars."""


@asynccontextmanager
async def fairmark(task: Task, url: str) -> AsyncIterator[Ask]:
    """A fetcher's own way: pool, retries' bookkeeping, metrics, judgement, conversion, outliers, lower median."""
    catalogue = load_catalogue()
    graph, clock = ConversionGraph(DOLLARS), SystemClock()
    plans = make_plans([task.feed], SOURCES, catalogue, graph)
    asked = {(each.source, each.pair) for plan in plans for each in plan.candidates}
    assert asked == set(task.asked), "the contenders would not do the same"
    loop = asyncio.get_running_loop()
    base_urls = dict.fromkeys(SOURCES, url)
    async with SourcePool(catalogue, SOURCES, clock=clock, registry=CollectorRegistry(), base_urls=base_urls) as pool:
        fetcher = Fetcher(PoolReader(pool), graph, get_logger("benchmark", Mode.TEST))

        async def ask() -> Decimal:
            seen = await fetcher.fetch(plans, clock.now_ms(), loop.time() + BUDGET_S)
            assert len(seen.quotes) == len(task.asked), seen.failures
            return seen.answers[task.feed.pair]

        yield ask


def ccxt_module() -> ModuleType:
    """ccxt's async side. Raises `CannotMeasureError` saying how to install it."""
    try:
        import ccxt.async_support as ccxt  # type: ignore[import-not-found] # noqa: PLC0415 - optional
    except ImportError as error:
        raise CannotMeasureError(
            f"ccxt is not here ({error}). It pins versions of its own, so give it an environment of its own: "
            "python3 -m venv .cache/bench && .cache/bench/bin/pip install -e '.[dev,bench]' "
            "&& .cache/bench/bin/python -m benchmarks fetch"
        ) from error
    return ccxt  # type: ignore[no-any-return]


_CCXT_NAMES = {"coinbase": "coinbaseexchange"}


@asynccontextmanager
async def ccxt(task: Task, url: str) -> AsyncIterator[Ask]:
    """`fetch_ticker` on five exchanges, gathered. Its markets are set beforehand, and its own rate limit is off."""
    module, catalogue = ccxt_module(), load_catalogue()
    async with AsyncExitStack() as stack:
        exchanges: dict[str, Any] = {}
        for source in SOURCES:
            exchange = getattr(module, _CCXT_NAMES.get(source, source))({"enableRateLimit": False})
            stack.push_async_callback(exchange.close)
            exchange.urls["api"] = _moved(exchange.urls["api"], url)
            pairs = [pair for name, pair in task.asked if name == source]
            exchange.set_markets([_market(exchange, catalogue[source], pair) for pair in pairs])
            exchanges[source] = exchange
        asked = [(exchanges[source], str.__str__(pair)) for source, pair in task.asked]

        async def ask() -> Decimal:
            tickers = await asyncio.gather(*(exchange.fetch_ticker(symbol) for exchange, symbol in asked))
            return task.median([Decimal(str(ticker["last"])) for ticker in tickers])

        yield ask


def _moved(urls: Any, to: str) -> Any:
    if isinstance(urls, dict):
        return {name: _moved(each, to) for name, each in urls.items()}
    return re.sub(r"^https?://[^/]+", to, urls)


def _market(exchange: Any, entry: SourceEntry, pair: Pair) -> Any:
    return exchange.safe_market_structure(
        {
            "id": entry.symbol(pair),
            "symbol": str.__str__(pair),
            "base": pair.base,
            "quote": pair.quote,
            "baseId": pair.base,
            "quoteId": pair.quote,
            "type": "spot",
            "spot": True,
            "active": True,
            "precision": {"amount": 1e-8, "price": 1e-8},
        }
    )


_LAST: Mapping[str, Callable[[Any], str]] = {
    "binance": lambda body: body["lastPrice"],
    "coinbase": lambda body: body["price"],
    "kraken": lambda body: next(iter(body["result"].values()))["c"][0],
    "bitstamp": lambda body: body["last"],
    "okx": lambda body: body["data"][0]["last"],
}


def _bare(task: Task, get: Callable[[str, str], Awaitable[bytes]], url: str) -> Ask:
    """The least that gives a median: no judgement, no retries, no outliers, no records."""
    catalogue = load_catalogue()
    asked = [(source, url + catalogue[source].request_path(pair)) for source, pair in task.asked]

    async def ask() -> Decimal:
        bodies = await asyncio.gather(*(get(source, target) for source, target in asked))
        read = [Decimal(_LAST[source](json.loads(body))) for (source, _), body in zip(asked, bodies, strict=True)]
        return task.median(read)

    return ask


@asynccontextmanager
async def plain_httpx(task: Task, url: str) -> AsyncIterator[Ask]:
    """For reference: httpx as it comes, one client a source."""
    async with AsyncExitStack() as stack:
        clients = {source: await stack.enter_async_context(httpx.AsyncClient(trust_env=False)) for source in SOURCES}

        async def get(source: str, target: str) -> bytes:
            return (await clients[source].get(target)).content

        yield _bare(task, get, url)


@asynccontextmanager
async def plain_aiohttp(task: Task, url: str) -> AsyncIterator[Ask]:
    """For reference: aiohttp as it comes, the floor under ours and under ccxt."""
    async with aiohttp.ClientSession() as session:

        async def get(_source: str, target: str) -> bytes:
            async with session.get(target) as response:
                return await response.read()

        yield _bare(task, get, url)
