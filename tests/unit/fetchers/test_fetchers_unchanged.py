"""When a reporter calls a price unchanged, and what its evidence says it counted."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import GroupReading
from core.currency import DOLLARS, ConversionGraph
from core.median import from_scaled
from core.types import Pair, Quote
from fetchers.candidates import make_plans
from fetchers.evaluate import evaluate, settle
from fetchers.reporter import REWRITE_ROUNDS, counted, observations
from tests.support.fetchers import BTC, ETH, NOW, USDT, FakeChain, catalogue, group

MAJORS = group("BTC/USD", "ETH/USD", unchanged_bps=10)
EXACT = group("BTC/USD", "ETH/USD")
STANDS = 1_000_000_000_000


async def reading(*, rounds_ago: int = 0, **standing: int) -> GroupReading:
    values = {Pair(f"{base}/USD"): value for base, value in standing.items()}
    found = await FakeChain(MAJORS, last_moment=NOW - 1000, standing=values).read_group("majors")
    return replace(found, round=1 + rounds_ago)


@pytest.mark.parametrize(
    ("price", "unchanged"),
    [("10000", True), ("10010", True), ("9990", True), ("10010.00000001", False), ("9989.99999999", False)],
)
async def test_what_is_within_the_feeds_margin_of_the_standing_answer_is_unchanged(price: str, unchanged: bool) -> None:
    seen = observations(MAJORS.feeds, {BTC: Decimal(price)}, await reading(BTC=STANDS))
    assert (seen.unchanged, seen.prices[0]) == ((1, 0) if unchanged else (0, int(Decimal(price) * 10**8)))
    assert seen.answers == {BTC: Decimal("10000.00000000") if unchanged else Decimal(price).quantize(Decimal("1e-8"))}


async def test_without_a_margin_only_the_very_same_price_is_unchanged() -> None:
    stands = await reading(BTC=STANDS)
    assert observations(EXACT.feeds, {BTC: Decimal("10000.000000004")}, stands).unchanged == 1
    assert observations(EXACT.feeds, {BTC: Decimal("10000.00000001")}, stands).unchanged == 0


async def test_a_feed_that_never_had_an_answer_has_none_to_be_equal_to() -> None:
    seen = observations(MAJORS.feeds, {BTC: Decimal(10_000), ETH: Decimal(4_000)}, await reading(ETH=400_000_000_000))
    assert (seen.prices, seen.unchanged) == ((STANDS, 0), 0b10)


async def test_a_feed_without_a_price_is_not_unchanged() -> None:
    seen = observations(MAJORS.feeds, {ETH: Decimal(4_000)}, await reading(BTC=STANDS, ETH=1))
    assert (seen.prices, seen.unchanged) == ((0, 400_000_000_000), 0)


async def test_an_answer_that_was_written_long_ago_is_written_again() -> None:
    last = await reading(BTC=STANDS, rounds_ago=REWRITE_ROUNDS - 1)
    assert observations(MAJORS.feeds, {BTC: Decimal(10_000)}, last).unchanged == 1
    due = await reading(BTC=STANDS, rounds_ago=REWRITE_ROUNDS)
    seen = observations(MAJORS.feeds, {BTC: Decimal(10_000)}, due)
    assert (seen.unchanged, seen.prices[0]) == (0, STANDS)


@given(st.integers(1, 2**63), st.integers(1, 2**63), st.integers(0, 100))
async def test_the_margin_is_an_exact_fraction_of_the_standing_answer(stands: int, price: int, bps: int) -> None:
    of = group("BTC/USD", "ETH/USD", unchanged_bps=bps)
    seen = observations(of.feeds, {BTC: from_scaled(price, 8)}, await reading(BTC=stands))
    assert bool(seen.unchanged) is (abs(price - stands) * 10_000 <= bps * stands)
    assert bool(seen.unchanged) is (seen.prices[0] == 0)


def test_the_evidence_names_each_quote_for_the_feeds_and_rates_that_counted_it() -> None:
    graph = ConversionGraph(DOLLARS)
    served = catalogue(a="BTC/USD USDT/USD", b="BTC/USDT USDT/USD", c="BTC/USD")
    plans = make_plans(EXACT.feeds[:1], list(served), served, graph)
    prices = {("a", BTC): "10000", ("b", "BTC/USDT"): "10010", ("c", BTC): "19000", ("a", USDT): "1", ("b", USDT): "1"}
    quotes = {
        plan.feed.pair: {
            each: Quote(
                pair=each.pair, source=each.source, price=Decimal(prices[each.source, each.pair]), received_ms=NOW
            )
            for each in plan.candidates
        }
        for plan in plans
    }
    verdicts = evaluate(plans, quotes, graph, NOW)
    kept, _ = settle(verdicts, [quote for mine in quotes.values() for quote in mine.values()], [])
    named = {
        pair: {(kept[index].source, str(kept[index].pair)) for index in indexes}
        for pair, indexes in counted(verdicts, kept).items()
    }
    assert named == {
        "BTC/USD": {("a", "BTC/USD"), ("b", "BTC/USDT")},  # c's is an outlier
        "USDT/USD": {("a", "USDT/USD"), ("b", "USDT/USD")},
    }
    assert sorted({index for indexes in counted(verdicts, kept).values() for index in indexes}) == [*range(len(kept))]
