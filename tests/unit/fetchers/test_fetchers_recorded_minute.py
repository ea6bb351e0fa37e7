"""Ten exchanges' recorded bodies of one minute (2024-03-13T11:10:45Z) through the fetcher's rules; USDT/USD is 1."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from decimal import Decimal
from pathlib import Path
from statistics import median_low

import pytest

from core.currency import DOLLARS, ConversionGraph, Rate
from core.median import mad_outliers
from core.types import FailureCode, Feed, Pair, SourceFailure
from fetchers.candidates import Candidate, Plan
from fetchers.fetch import Fetcher, Observation
from fetchers.reader import PoolReader
from sources import Priority, Reading, load_catalogue, parse_ticker
from tests.support.fetchers import BTC, NOW, QUIET, USDT

pytestmark = pytest.mark.needs_recordings

MARKET = Pair("BTC/USDT")
ONE = Rate(pair=USDT, value=Decimal(1), as_of_ms=NOW, sources=("given",))
BOOK = Feed(pair=BTC, min_sources=3, wanted_sources=10, min_price=Decimal(1000), max_price=Decimal(10_000_000))
ALL = ("binance", "bitfinex", "bitso", "bitstamp", "coinbase", "gate", "gemini", "kraken", "luno", "okx")


class Recorded:
    """A pool that reads the recorded bodies by the very catalogue entries that read the exchanges."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._catalogue = load_catalogue()

    async def fetch(
        self, source: str, pair: Pair, *, deadline: float, priority: Priority = Priority.JOB, anyway: bool = False
    ) -> Reading | SourceFailure:
        body = json.dumps(json.loads((self._folder / f"{source}.json").read_text())["response"]).encode()
        ticker = parse_ticker(self._catalogue[source], pair, body)
        return Reading(source=source, pair=pair, ticker=ticker, received_ms=NOW, elapsed_ms=0)


async def observe(recordings: Path, sources: Collection[str]) -> Observation:
    plan = Plan(feed=BOOK, candidates=tuple(Candidate(source, MARKET) for source in sources))
    reader = PoolReader(Recorded(recordings / "ticker_responses"))
    fetcher = Fetcher(reader, ConversionGraph(DOLLARS), QUIET, {USDT: ONE})
    return await fetcher.fetch([plan], NOW, asyncio.get_running_loop().time() + 1)


async def test_the_answer_is_the_median_of_the_sound_bodies(recordings: Path) -> None:
    observation = await observe(recordings, ALL)
    assert {quote.source: quote.price for quote in observation.quotes} == {
        "binance": Decimal("73369.84000000"),
        "bitso": Decimal("73440"),
        "bitstamp": Decimal("73360"),  # the last trade, 73285, lies outside the book: its middle
        "coinbase": Decimal("73367.8"),
        "gate": Decimal("73364.15"),
        "gemini": Decimal("73376.615"),
        "kraken": Decimal("73380.60000"),
    }
    assert observation.answers == {BTC: median_low(quote.price for quote in observation.quotes)}
    assert observation.answers == {BTC: Decimal("73369.84")}


async def test_every_body_that_does_not_count_says_why(recordings: Path) -> None:
    observation = await observe(recordings, ALL)
    assert {failure.source: failure.code for failure in observation.failures} == {
        "okx": FailureCode.EXPIRED,  # from May 2022
        "luno": FailureCode.WIDE_SPREAD,  # a fresh time over a dead book
        "bitfinex": FailureCode.FUTURE,  # recorded 20 s after this minute
    }


@pytest.mark.parametrize("bad", ["luno", "okx", "bitfinex"])
async def test_a_body_that_does_not_count_does_not_move_the_answer(recordings: Path, bad: str) -> None:
    with_it = await observe(recordings, ALL)
    without = await observe(recordings, [source for source in ALL if source != bad])
    assert with_it.answers == without.answers


async def test_even_a_luno_that_looked_tight_would_be_an_outlier(recordings: Path) -> None:
    sound = (await observe(recordings, ALL)).quotes
    prices = [*(quote.price for quote in sound), Decimal("73998.98")]
    assert mad_outliers(prices, BOOK.outlier_floor_bps) == [False] * len(sound) + [True]
