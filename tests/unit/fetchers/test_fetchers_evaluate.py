"""From quotes to the fetcher's own prices: conversion, magnitude, outliers, enough, the lower median."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.currency import DOLLARS, ConversionGraph, Rate
from core.median import is_lower_median
from core.types import FailureCode, Feed, Pair, Quote, SourceFailure
from fetchers.candidates import Candidate, Plan, make_plans
from fetchers.evaluate import Verdict, evaluate, settle
from tests.support.fetchers import BTC, NOW, USDC, USDT, catalogue, feed

GRAPH = ConversionGraph(DOLLARS)


def quotes(prices: dict[str, str], *, as_of: int = NOW) -> dict[Candidate, Quote]:
    """`{"kraken BTC/USD": "70000"}`."""
    made = {}
    for asked, price in prices.items():
        source, _, pair = asked.partition(" ")
        made[Candidate(source, Pair(pair))] = Quote(
            pair=Pair(pair), source=source, price=Decimal(price), received_ms=as_of
        )
    return made


def judged(feeds: list[Feed], prices: dict[str, str], rates: dict[Pair, Rate] | None = None) -> dict[Pair, Verdict]:
    """Verdicts when every quote of `prices` came in, from sources that serve just that."""
    served: dict[str, str] = {}
    for asked in prices:
        source, _, pair = asked.partition(" ")
        served[source] = f"{served.get(source, '')} {pair}"
    plans = make_plans(feeds, list(served), catalogue(**served), GRAPH)
    found = {plan.feed.pair: quotes(prices) for plan in plans}
    return {verdict.plan.feed.pair: verdict for verdict in evaluate(plans, found, GRAPH, NOW, rates)}


def test_the_answer_is_the_lower_median() -> None:
    verdict = judged([feed("BTC/USD")], {"a BTC/USD": "70000", "b BTC/USD": "70030", "c BTC/USD": "70010"})[BTC]
    assert verdict.answer == 70010
    verdict = judged([feed("BTC/USD")], {"a BTC/USD": "70030", "b BTC/USD": "70000"})[BTC]
    assert verdict.answer == 70000


def test_a_quote_in_usdt_is_converted_by_this_rounds_rate() -> None:
    prices = {"a BTC/USDT": "70000", "b BTC/USDT": "70001", "c USDT/USD": "0.99", "d USDT/USD": "0.991"}
    verdict = judged([feed("BTC/USD")], prices)[BTC]
    assert verdict.answer == Decimal("69300.00")
    assert verdict.accepted[0].converted.legs == (
        Rate(pair=USDT, value=Decimal("0.99"), as_of_ms=NOW, sources=("c", "d")),
    )


def test_in_march_2023_a_price_in_usdc_is_no_price_in_dollars() -> None:
    prices = {
        "a BTC/USD": "20000",
        "b BTC/USD": "20010",
        "c BTC/USDC": "22727.27",
        "d USDC/USD": "0.88",
        "e USDC/USDT": "0.871287",
        "f USDT/USD": "1.01",
        "g USDT/USD": "1.01",
    }
    verdicts = judged([feed("BTC/USD")], prices)
    assert verdicts[USDC].answer == Decimal("0.87999987")
    assert verdicts[BTC].answer == 20000
    assert [each.quote.source for each in verdicts[BTC].accepted] == ["a", "b", "c"]


def test_without_a_live_rate_a_quote_is_left_out_and_says_which_rate() -> None:
    verdict = judged([feed("BTC/USD")], {"a BTC/USD": "70000", "b BTC/USD": "70001", "c BTC/USDT": "70002"})[BTC]
    assert verdict.answer == 70000
    assert verdict.rejected == (
        SourceFailure(
            pair=Pair("BTC/USDT"),
            source="c",
            code=FailureCode.NO_CONVERSION,
            detail="no live rate USDT/USD to bring USDT to USD",
        ),
    )


def test_a_rate_from_one_source_alone_is_no_rate() -> None:
    verdict = judged([feed("BTC/USD")], {"a BTC/USDT": "70000", "b BTC/USDT": "70001", "c USDT/USD": "1"})[BTC]
    assert verdict.answer is None
    assert {each.code for each in verdict.rejected} == {FailureCode.NO_CONVERSION}


def test_a_given_rate_is_used_where_no_source_makes_one() -> None:
    one = Rate(pair=USDT, value=Decimal(1), as_of_ms=NOW, sources=("given",))
    verdict = judged([feed("BTC/USD")], {"a BTC/USDT": "70000", "b BTC/USDT": "70001"}, {USDT: one})[BTC]
    assert verdict.answer == 70000


def test_magnitude_is_judged_after_conversion() -> None:
    rules = feed("BTC/USD", min_price=Decimal(1000), max_price=Decimal(70_000), min_sources=1)
    prices = {"a BTC/USDT": "70010", "b BTC/USD": "70001", "c USDT/USD": "0.999", "d USDT/USD": "0.999"}
    verdict = judged([rules], prices)[BTC]
    assert verdict.answer == Decimal("69939.990")
    assert [(each.source, each.code) for each in verdict.rejected] == [("b", FailureCode.OUT_OF_RANGE)]
    assert verdict.rejected[0].detail == "70001 BTC/USD is outside 1000 to 70000"


def test_an_outlier_is_left_out_with_its_figure() -> None:
    prices = {"a BTC/USD": "70000", "b BTC/USD": "70010", "c BTC/USD": "700100"}
    verdict = judged([feed("BTC/USD")], prices)[BTC]
    assert verdict.answer == 70000
    assert [(each.source, each.code) for each in verdict.rejected] == [("c", FailureCode.OUTLIER)]
    assert verdict.rejected[0].detail == "700100 BTC/USD is +90000 bps from the median 70010"


def test_the_floor_keeps_nearly_equal_quotes_together() -> None:
    prices = {"a BTC/USD": "70000", "b BTC/USD": "70000", "c BTC/USD": "70300"}
    assert judged([feed("BTC/USD", outlier_floor_bps=50)], prices)[BTC].rejected == ()
    assert len(judged([feed("BTC/USD", outlier_floor_bps=40)], prices)[BTC].rejected) == 1


def test_too_few_quotes_are_no_price() -> None:
    verdict = judged([feed("BTC/USD", min_sources=3)], {"a BTC/USD": "70000", "b BTC/USD": "70001"})[BTC]
    assert (verdict.answer, len(verdict.accepted)) == (None, 2)


def test_a_converted_price_is_as_old_as_its_rate() -> None:
    plan = Plan(feed=feed("BTC/USD", min_sources=1), candidates=(Candidate("a", Pair("BTC/USDT")),))
    old = Rate(pair=USDT, value=Decimal(1), as_of_ms=NOW - 900)
    (verdict,) = evaluate([plan], {BTC: quotes({"a BTC/USDT": "70000"})}, GRAPH, NOW, {USDT: old})
    assert verdict.accepted[0].converted.as_of_ms == NOW - 900


def aged(prices: dict[str, tuple[str, int]]) -> dict[Candidate, Quote]:
    """`{"kraken BTC/USD": ("70000", 900)}`: the price, and how old it is at the moment."""
    return {
        candidate: quote
        for asked, (price, age_ms) in prices.items()
        for candidate, quote in quotes({asked: price}, as_of=NOW - age_ms).items()
    }


def test_a_rate_is_as_old_as_the_oldest_quote_behind_it() -> None:
    found = aged({"a BTC/USDT": ("70000", 10), "b USDT/USD": ("0.99", 900), "c USDT/USD": ("0.99", 300)})
    plans = make_plans(
        [feed("BTC/USD", min_sources=1)], list("abc"), catalogue(a="BTC/USDT", b="USDT/USD", c="USDT/USD"), GRAPH
    )
    verdicts = {
        each.plan.feed.pair: each for each in evaluate(plans, {each.feed.pair: found for each in plans}, GRAPH, NOW)
    }
    assert verdicts[BTC].accepted[0].converted.legs[0].as_of_ms == NOW - 900
    assert verdicts[BTC].accepted[0].converted.as_of_ms == NOW - 900


@pytest.mark.parametrize(("age_ms", "answer"), [(5000, Decimal(70_000)), (5001, None)])
def test_a_fresh_quote_converted_by_an_old_rate_has_expired(age_ms: int, answer: Decimal | None) -> None:
    plan = Plan(
        feed=feed("BTC/USD", min_sources=1, max_quote_age_ms=5000), candidates=(Candidate("a", Pair("BTC/USDT")),)
    )
    rate = Rate(pair=USDT, value=Decimal(1), as_of_ms=NOW - age_ms)
    (verdict,) = evaluate([plan], {BTC: quotes({"a BTC/USDT": "70000"})}, GRAPH, NOW, {USDT: rate})
    assert verdict.answer == answer
    assert [(each.code, each.detail) for each in verdict.rejected] == (
        [] if answer else [(FailureCode.EXPIRED, "5001 ms old at the moment by its rate USDT/USD, 5000 at most")]
    )


def test_of_two_camps_of_equal_size_neither_is_the_price() -> None:
    prices = {"a BTC/USD": "70000", "b BTC/USD": "70001", "c BTC/USD": "60000", "d BTC/USD": "60001"}
    verdict = judged([feed("BTC/USD")], prices)[BTC]
    assert (verdict.answer, verdict.accepted) == (None, ())
    assert {each.source: (each.code, each.detail) for each in verdict.rejected} == {
        source: (
            FailureCode.OUTLIER,
            f"{prices[f'{source} BTC/USD']} BTC/USD is {off} bps from the median 60001, near which lie only 2 of 4",
        )
        for source, off in {"a": "+1666", "b": "+1667", "c": "-0", "d": "+0"}.items()
    }


def test_one_more_on_one_side_makes_it_the_price() -> None:
    prices = {"a BTC/USD": "70000", "b BTC/USD": "70001", "c BTC/USD": "60000", "d BTC/USD": "60001"}
    assert judged([feed("BTC/USD")], {**prices, "e BTC/USD": "70002"})[BTC].answer == 70001
    assert judged([feed("BTC/USD")], {**prices, "e BTC/USD": "60002"})[BTC].answer == 60001


def test_two_that_disagree_are_no_price_even_where_one_would_do() -> None:
    verdict = judged([feed("BTC/USD", min_sources=1)], {"a BTC/USD": "70000", "b BTC/USD": "60000"})[BTC]
    assert (verdict.answer, [each.source for each in verdict.rejected]) == (None, ["a", "b"])


@given(st.lists(st.integers(min_value=100, max_value=200), min_size=1, max_size=9))
def test_a_price_always_has_more_than_half_of_what_stood_behind_it(drawn: list[int]) -> None:
    prices = {f"s{index} BTC/USD": str(price) for index, price in enumerate(drawn)}
    verdict = judged([feed("BTC/USD", min_sources=1)], prices)[BTC]
    assert (len(verdict.accepted) * 2 > len(drawn)) is (verdict.answer is not None)


def test_a_quote_that_counts_for_one_feed_is_no_failure_for_another() -> None:
    (candidate,) = asked = (Candidate("a", Pair("BTC/USDT")),)
    plans = [
        Plan(feed=feed("BTC/USDT", min_sources=1), candidates=asked),
        Plan(feed=feed("BTC/USD", min_sources=1), candidates=asked),
    ]
    found = quotes({"a BTC/USDT": "70000"})
    verdicts = evaluate(plans, {plan.feed.pair: found for plan in plans}, GRAPH, NOW)
    assert [verdict.answer for verdict in verdicts] == [70000, None]
    assert settle(verdicts, found.values(), []) == ((found[candidate],), ())


amounts = st.decimals(min_value=Decimal("0.3"), max_value=Decimal(4), places=6)
MARKETS = ("BTC/USD", "BTC/USDT", "BTC/USDC", "USDT/USD", "USDC/USD", "USDC/USDT")


@given(st.dictionaries(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(MARKETS)), amounts, max_size=20))
def test_answers_are_medians_of_what_counts_and_nothing_is_lost(drawn: dict[tuple[str, str], Decimal]) -> None:
    prices = {f"{source} {pair}": str(price) for (source, pair), price in drawn.items()}
    verdicts = judged([feed("BTC/USD")], prices)
    for pair, verdict in verdicts.items():
        counted = [each.converted.price for each in verdict.accepted]
        if verdict.answer is None:
            assert len(counted) < verdict.plan.feed.min_sources
        else:
            assert is_lower_median(counted, verdict.answer)
            assert verdict.plan.feed.min_price <= verdict.answer <= verdict.plan.feed.max_price
        asked = [(each.source, each.pair) for each in verdict.plan.candidates]  # all came in, so no others are used
        ended = [(each.quote.source, each.quote.pair) for each in verdict.accepted]
        ended += [(each.source, each.pair) for each in verdict.rejected]
        assert sorted(ended) == sorted(asked), pair


@pytest.mark.parametrize("liar", ["0.5", "139", "7000000"])
@given(st.lists(st.integers(min_value=69_990, max_value=70_010), min_size=3, max_size=7))
def test_one_liar_among_honest_sources_never_moves_the_answer_out_of_their_range(liar: str, honest: list[int]) -> None:
    prices = {f"s{index} BTC/USD": str(price) for index, price in enumerate(honest)}
    verdict = judged([feed("BTC/USD")], {**prices, "liar BTC/USD": liar})[BTC]
    assert verdict.answer is not None
    assert min(honest) <= verdict.answer <= max(honest)
