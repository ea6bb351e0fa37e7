"""Whom to ask: one candidate a source, in order of priority, and the rates that takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.currency import DOLLARS, ConversionGraph
from core.types import Pair
from fetchers.candidates import Candidate, candidates, make_plans
from sources import load_catalogue
from tests.support.fetchers import BTC, USDC, USDT, Entry, catalogue, feed

GRAPH = ConversionGraph(DOLLARS)


def listed(pair: str, sources: str, **served: str) -> list[tuple[str, str]]:
    found = candidates(Pair(pair), sources.split(), catalogue(**served), GRAPH)
    return [(each.source, str(each.pair)) for each in found]


def test_a_dollar_market_comes_before_one_in_usdt_before_one_in_usdc() -> None:
    served = {"a": "BTC/USDC BTC/USDT BTC/USD", "b": "BTC/USDC BTC/USDT", "c": "BTC/USDC"}
    assert listed("BTC/USD", "a b c", **served) == [("a", "BTC/USD"), ("b", "BTC/USDT"), ("c", "BTC/USDC")]


def test_the_order_is_the_fetchers_priority_and_not_the_currencys() -> None:
    served = {"a": "BTC/USD", "b": "BTC/USDT"}
    assert listed("BTC/USD", "b a", **served) == [("b", "BTC/USDT"), ("a", "BTC/USD")]


def test_sources_that_do_not_serve_the_pair_or_do_not_exist_are_left_out() -> None:
    assert listed("BTC/USD", "nowhere a b", a="ETH/USD", b="BTC/EUR BTC/USD") == [("b", "BTC/USD")]


def test_a_source_named_twice_counts_once() -> None:
    assert listed("BTC/USD", "a b a", a="BTC/USD", b="BTC/USD") == [("a", "BTC/USD"), ("b", "BTC/USD")]


def test_two_names_for_one_address_count_once() -> None:
    known = {name: Entry(name, (BTC,), host="api") for name in ("first", "second")}
    assert candidates(BTC, ("first", "second"), known, GRAPH) == (Candidate("first", BTC),)


def test_a_rate_is_read_directly_or_through_a_currency_below_it_and_never_in_a_circle() -> None:
    served = {"a": "USDC/USDT USDT/USDC", "b": "USDC/USD USDT/USD"}
    assert listed("USDC/USD", "a b", **served) == [("a", "USDC/USDT"), ("b", "USDC/USD")]
    assert listed("USDT/USD", "a b", **served) == [("b", "USDT/USD")]


def test_the_rates_that_candidates_need_are_planned_before_them() -> None:
    served = catalogue(a="BTC/USDC", b="USDC/USDT", c="USDT/USD")
    plans = make_plans([feed("BTC/USD")], ["a", "b", "c"], served, GRAPH)
    assert [(str(plan.feed.pair), plan.leg) for plan in plans] == [
        ("USDT/USD", True),
        ("USDC/USD", True),
        ("BTC/USD", False),
    ]
    assert plans[1].candidates == (Candidate("b", Pair("USDC/USDT")),)


def test_a_rate_that_the_group_publishes_is_planned_once_with_its_own_rules() -> None:
    served = catalogue(a="BTC/USDT USDT/USD")
    mine = feed("USDT/USD", min_sources=1, outlier_floor_bps=7)
    plans = make_plans([feed("BTC/USD"), mine], ["a"], served, GRAPH)
    assert [(plan.feed, plan.leg) for plan in plans] == [(mine, False), (feed("BTC/USD"), False)]


def test_no_rate_is_planned_where_none_is_needed() -> None:
    plans = make_plans([feed("BTC/USD")], ["a"], catalogue(a="BTC/USD BTC/USDT"), GRAPH)
    assert [plan.feed.pair for plan in plans] == [BTC]


def test_a_sources_other_markets_stand_behind_its_first_where_their_rate_is_planned_anyway() -> None:
    served = catalogue(a="BTC/USDC BTC/USDT BTC/USD", b="BTC/USDT", c="USDT/USD")
    (rate, plan) = make_plans([feed("BTC/USD")], ["a", "b", "c"], served, GRAPH)
    assert (rate.feed.pair, rate.others) == (USDT, {})
    assert plan.others == {"a": (Candidate("a", Pair("BTC/USDT")),)}
    assert list(plan.by_source()) == [
        (Candidate("a", BTC), Candidate("a", Pair("BTC/USDT"))),
        (Candidate("b", Pair("BTC/USDT")),),
    ]


PAIRS = ("BTC/USD", "BTC/USDT", "BTC/USDC", "USDT/USD", "USDC/USD", "USDC/USDT", "USDT/USDC", "ETH/USDT")


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from(PAIRS), unique=True), max_size=6),
    st.lists(st.sampled_from("abcdefg")),
)
def test_every_plan_asks_each_source_once_and_follows_the_rates_it_needs(
    served: dict[str, list[str]], sources: list[str]
) -> None:
    known = catalogue(**{name: " ".join(pairs) for name, pairs in served.items()})
    plans = make_plans([feed("BTC/USD"), feed("ETH/USD")], sources, known, GRAPH)
    planned: set[Pair] = set()
    for plan in plans:
        asked = [each.source for each in plan.candidates]
        assert len(asked) == len(set(asked))
        assert asked == [source for source in dict.fromkeys(sources) if source in asked]
        for each in (market for markets in plan.by_source() for market in markets):
            assert each.pair.base == plan.feed.pair.base
            if each.pair.quote != plan.feed.pair.quote:
                assert Pair.of(each.pair.quote, plan.feed.pair.quote) in planned
        planned.add(plan.feed.pair)


def test_the_real_catalogue_serves_bitcoin_in_dollars_and_both_rates() -> None:
    known = load_catalogue()
    plans = make_plans([feed("BTC/USD"), feed("USDT/USD"), feed("USDC/USD")], tuple(known), known, GRAPH)
    counts = {plan.feed.pair: len(plan.candidates) for plan in plans}
    assert counts[BTC] >= 10
    assert counts[USDT] >= 3
    assert counts[USDC] >= 3
