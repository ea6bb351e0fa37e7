"""A depeg over real HTTP: the simulator's venues, the configured fetchers' source lists, the real fetch."""

from __future__ import annotations

import asyncio
import tomllib
from decimal import Decimal
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from core.clock import SystemClock
from core.currency import DOLLARS, ConversionGraph
from core.ops import Ops
from core.settings import SimulatorSettings
from core.types import Feed, Mode, Pair
from fetchers.candidates import make_plans
from fetchers.fetch import Fetcher, Observation
from fetchers.reader import PoolReader
from simulator import Simulator
from sources import SourcePool, load_catalogue
from tests.support.fetchers import BTC, QUIET

CATALOGUE = load_catalogue()
CONFIGURED = tomllib.loads((Path(__file__).resolve().parents[2] / "fairmark.toml").read_text())
GRAPH = ConversionGraph(DOLLARS)
FEED = Feed(pair=BTC, min_price=Decimal(1000), max_price=Decimal(10_000_000), wanted_sources=5)
IN_COINS = ("binance", "okx", "bybit", "kucoin", "gate", "bitget", "kraken", "bitstamp", "gemini", "cryptocom")
STEPS = [1 - Decimal(14) * min(step, 14 - step) / 700 for step in range(15)]
"""From 1 to 0.86 and back, two cents a step."""


async def observe(pool: SourcePool, sources: tuple[str, ...], feeds: list[Feed]) -> Observation:
    clock = SystemClock()
    fetcher = Fetcher(PoolReader(pool), GRAPH, QUIET)
    plans = make_plans(feeds, sources, CATALOGUE, GRAPH)
    return await fetcher.fetch(plans, clock.now_ms(), asyncio.get_running_loop().time() + 5)


@pytest.mark.parametrize("victim", ["USDC", "USDT"])
async def test_every_answer_stays_within_twenty_bps_of_the_truth(victim: str) -> None:
    clock, logger = SystemClock(), QUIET
    simulator = Simulator(SimulatorSettings(port=0), clock=clock, logger=logger, ops=Ops("simulator", Mode.TEST, clock))
    lists = [tuple(each["sources"]) for each in CONFIGURED["fetchers"].values()]
    used = {source for sources in [*lists, IN_COINS] for source in sources}
    rate = Feed(pair=Pair(f"{victim}/USD"), min_price=Decimal("0.2"), max_price=Decimal(5))
    errors: list[Decimal] = []
    async with (
        simulator.run(),
        SourcePool(
            CATALOGUE, used, base_urls=simulator.venue_urls, clock=clock, registry=CollectorRegistry(), logger=logger
        ) as pool,
    ):
        assert min(STEPS) == Decimal("0.86")
        for step, worth in enumerate(STEPS):
            btc = 22_000 + 37 * step
            simulator.board.pin({f"{victim}/USD": str(worth), "BTC/USD": str(btc)})
            await asyncio.sleep(0.11)  # a venue renders its body once in a tenth of a second
            for sources in (lists[step % len(lists)], IN_COINS):
                seen = await observe(pool, sources, [FEED, rate])
                errors.append(abs(seen.answers[BTC] - btc) / btc * 10_000)
                errors.append(abs(seen.answers[rate.pair] - worth) / worth * 10_000)
                assert any(victim in quote.pair for quote in seen.quotes)
    assert max(errors) <= 20
