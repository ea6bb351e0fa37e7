"""When a dollar is no dollar: a stablecoin falls to 0.86 and back, and the answer in USD stays right at every step."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from core.currency import DOLLARS, ConversionGraph
from core.types import FailureCode, Feed, Pair
from fetchers.candidates import make_plans
from fetchers.fetch import Fetcher, Observation
from fetchers.jumps import Standing
from fetchers.reader import PoolReader
from sources import Reading, SourceEntry, load_catalogue
from tests.support.depeg import BOTTOM, DOWN, STEP_MS, STEPS, Story, Venues
from tests.support.fetchers import BTC, NOW, QUIET

CATALOGUE = load_catalogue()
CONFIGURED = tomllib.loads((Path(__file__).resolve().parents[3] / "fairmark.toml").read_text())
FETCHERS: dict[str, list[str]] = {name: each["sources"] for name, each in CONFIGURED["fetchers"].items()}
LIMIT_BPS = 20
FIRST = 12
"""The first step at which even the most lagging venue has something to show."""
GRAPH = ConversionGraph(DOLLARS)
FEED = Feed(pair=BTC, min_price=Decimal(1000), max_price=Decimal(10_000_000))
IN_COINS = ["binance", "okx", "bybit", "kucoin", "gate", "bitget"]
"""Without a market for BTC in dollars: every quote goes through a rate."""
RATES = ["kraken", "bitstamp", "gemini", "coinbase", "cryptocom", "bitfinex"]


def only(name: str, *pairs: str) -> SourceEntry:
    """A source of the catalogue as if it served nothing but these of its pairs."""
    declared = CATALOGUE[name].model_dump()
    declared["symbols"] = {pair: symbol for pair, symbol in declared["symbols"].items() if pair in pairs}
    declared["aliases"] = {}
    return SourceEntry.model_validate(declared)


COINS_ONLY = {
    **{name: CATALOGUE[name] for name in IN_COINS},
    **{name: only(name, "USDT/USD", "USDC/USD", "USDC/USDT") for name in RATES},
}


def rate_of(coin: str) -> Feed:
    return Feed(pair=Pair(f"{coin}/USD"), min_price=Decimal("0.2"), max_price=Decimal(5), outlier_floor_bps=50)


@dataclass
class Replay:
    """One fetcher through the whole story, at every step. feeds: in the order of the group.

    knows: which of its answers stand, and are held against the next quotes: "nothing", so that only the quotes of the
    step itself decide; "the last step's", as in rounds that follow one another; "the peg's", the first one for ever, as
    where no round was accepted since.
    """

    story: Story
    sources: Sequence[str]
    catalogue: Mapping[str, SourceEntry] = field(default_factory=lambda: CATALOGUE)
    feeds: Sequence[Feed] = (FEED,)
    bare: frozenset[str] = frozenset()
    knows: str = "nothing"

    async def run(self) -> dict[int, Observation]:
        venues = Venues(self.story, self.catalogue, 11, NOW, bare=self.bare)
        plans = make_plans(self.feeds, self.sources, self.catalogue, GRAPH)
        fetcher = Fetcher(PoolReader(venues), GRAPH, QUIET)
        seen = {}
        for step in range(FIRST, STEPS):
            venues.now_ms = step * STEP_MS
            deadline = asyncio.get_running_loop().time() + 5
            seen[step] = await fetcher.fetch(plans, NOW + venues.now_ms, deadline)
            if self.knows == "the last step's" or (self.knows == "the peg's" and step == FIRST):
                now_ms = NOW + venues.now_ms
                answers = seen[step].answers.items()
                fetcher.learn({pair: Standing(value=each, observed_ms=now_ms) for pair, each in answers})
        return seen

    def off_bps(self, seen: Mapping[int, Observation], pair: Pair = BTC) -> list[Decimal]:
        """How far each step's answer is from the truth. A step without an answer fails."""
        errors = []
        for step, observation in seen.items():
            true = self.story.price(pair, step * STEP_MS)
            errors.append(abs(observation.answers[pair] - true) / true * 10_000)
        return errors


@pytest.mark.parametrize("victim", ["USDC", "USDT"])
@pytest.mark.parametrize("name", sorted(FETCHERS))
@pytest.mark.parametrize("knows", ["nothing", "the last step's", "the peg's"])
async def test_each_configured_fetcher_stays_within_twenty_bps_of_the_truth(victim: str, name: str, knows: str) -> None:
    rate = rate_of(victim)
    replay = Replay(Story(victim, seed=11), FETCHERS[name], feeds=(FEED, rate), knows=knows)
    assert replay.story.worth(victim, (DOWN + BOTTOM // 2) * STEP_MS) < Decimal("0.88")
    seen = await replay.run()
    assert max(replay.off_bps(seen)) <= LIMIT_BPS
    assert max(replay.off_bps(seen, rate.pair)) <= LIMIT_BPS


@pytest.mark.parametrize("victim", ["USDC", "USDT"])
@pytest.mark.parametrize("knows", ["nothing", "the last step's", "the peg's"])
async def test_where_every_quote_is_in_a_coin_the_converted_answer_stays_right_too(victim: str, knows: str) -> None:
    replay = Replay(Story(victim, seed=12), [*IN_COINS, *RATES], COINS_ONLY, knows=knows)
    seen = await replay.run()
    assert max(replay.off_bps(seen)) <= LIMIT_BPS
    assert all(each.converted.legs for one in seen.values() for each in one.verdicts[-1].accepted)


@pytest.mark.parametrize("victim", ["USDC", "USDT"])
async def test_the_rate_of_the_coin_itself_stays_right(victim: str) -> None:
    rate = rate_of(victim)
    replay = Replay(Story(victim, seed=13), [*IN_COINS, *RATES], COINS_ONLY, feeds=(FEED, rate))
    seen = await replay.run()
    assert max(replay.off_bps(seen, rate.pair)) <= LIMIT_BPS
    bottom = seen[min(seen, key=lambda step: abs(step - DOWN - BOTTOM // 2))]
    assert abs(bottom.answers[rate.pair] - Decimal("0.86")) < Decimal("0.02")


async def test_without_conversion_the_same_quotes_would_be_wrong_by_the_whole_depeg() -> None:
    """That the story is a test at all: the raw prices in USDC at the bottom, and the answer made of them."""
    replay = Replay(
        Story("USDC", seed=12), FETCHERS["fetcher-b"][:4], {"kraken": only("kraken", "BTC/USDC", "USDC/USD")}
    )
    assert await _raw_error(replay) > 1_300


async def _raw_error(replay: Replay) -> Decimal:
    pool = Venues(replay.story, replay.catalogue, 11, NOW, now_ms=(DOWN + BOTTOM // 2) * STEP_MS)
    reading = await pool.fetch("kraken", Pair("BTC/USDC"), deadline=0)
    assert isinstance(reading, Reading)
    true = replay.story.price(BTC, pool.now_ms)
    return abs(reading.ticker.last - true) / true * 10_000


async def test_an_alias_is_never_a_price_in_usdc_and_never_counts_twice() -> None:
    """Coinbase's USDC markets are its USD books: its BTC-USDC shows a price in dollars, whatever USDC is worth."""
    assert CATALOGUE["coinbase"].alias_of("BTC/USDC") == BTC
    sources = ["coinbase", "binance", "kraken", "bitstamp"]
    every = msgspec.structs.replace(FEED, wanted_sources=4)
    replay = Replay(Story("USDC", seed=14), sources, feeds=(every,), bare=frozenset({"coinbase"}))
    seen = await replay.run()
    assert max(replay.off_bps(seen)) <= LIMIT_BPS
    asked = {(each.source, each.pair) for one in seen.values() for each in (*one.quotes, *one.failures)}
    assert {pair for source, pair in asked if source == "coinbase" and pair.base == "BTC"} == {BTC}


async def test_a_catalogue_that_took_the_alias_for_a_market_would_put_a_false_quote_into_the_round() -> None:
    naive = CATALOGUE["coinbase"].model_dump() | {"symbols": {"BTC/USDC": True}, "aliases": {}}
    catalogue = {**CATALOGUE, "coinbase": SourceEntry.model_validate(naive)}
    sources = ["coinbase", "kraken", "bitstamp", "gemini"]
    every = msgspec.structs.replace(FEED, wanted_sources=4)
    replay = Replay(Story("USDC", seed=14), sources, catalogue, feeds=(every,), bare=frozenset({"coinbase"}))
    seen = await replay.run()
    bottom = seen[min(seen, key=lambda step: abs(step - DOWN - BOTTOM // 2))]
    [false] = [each for each in bottom.failures if each.source == "coinbase" and each.pair.base == "BTC"]
    assert false.code is FailureCode.OUTLIER
    assert max(replay.off_bps(seen)) <= LIMIT_BPS  # one false quote of four is outvoted


def test_a_feed_in_usdc_never_asks_a_venue_whose_usdc_market_is_an_alias() -> None:
    in_usdc = Feed(pair=Pair("BTC/USDC"))
    [plan] = [
        each
        for each in make_plans([in_usdc], ["coinbase", "kraken", "binance"], CATALOGUE, GRAPH)
        if each.feed.pair == in_usdc.pair
    ]
    assert [each.source for each in plan.candidates] == ["kraken", "binance"]


async def test_venues_that_lag_are_left_for_fresh_ones_and_would_be_wrong_alone() -> None:
    """Three of the first sources show the market of 20 to 55 s ago; two further down the list that of now."""
    lagging = ["okx", "kucoin", "gate", "binance", "bybit", *RATES]
    story = Story("USDT", seed=15)
    fresh = Replay(story, lagging, COINS_ONLY)
    assert max(fresh.off_bps(await fresh.run())) <= LIMIT_BPS
    blind = msgspec.structs.replace(FEED, fresh_quote_age_ms=FEED.max_quote_age_ms)
    without = Replay(story, lagging, COINS_ONLY, feeds=(blind,))
    assert max(without.off_bps(await without.run())) > LIMIT_BPS
