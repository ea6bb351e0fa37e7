"""Asking: at once, along the priority list, never past the deadline, and everything asked ends once."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.currency import DOLLARS, ConversionGraph, Rate
from core.types import FailureCode, Feed, Pair, SourceFailure
from fetchers.candidates import Candidate, Plan, make_plans
from fetchers.fetch import Fetcher, Observation
from fetchers.reader import PoolReader
from sources import Priority, Reading, Ticker
from tests.support.fetchers import BTC, ETH, NOW, QUIET, USDT, FakePool, Slow, catalogue, feed

GRAPH = ConversionGraph(DOLLARS)
Answers = dict[tuple[str, str], "str | FailureCode | Slow | BaseException | None"]


def plans_for(answers: Answers, *feeds: Feed) -> tuple[Plan, ...]:
    served: dict[str, str] = {}
    for source, pair in answers:
        served[source] = f"{served.get(source, '')} {pair}"
    return make_plans(feeds, list(served), catalogue(**served), GRAPH)


async def fetch(answers: Answers, *feeds: Feed, budget_s: float = 0.2) -> tuple[Observation, FakePool, float]:
    """What was observed, what was asked, and how long it took."""
    pool = FakePool(answers)
    loop = asyncio.get_running_loop()
    started = loop.time()
    fetcher = Fetcher(PoolReader(pool), GRAPH, QUIET)
    observation = await fetcher.fetch(plans_for(answers, *feeds), NOW, started + budget_s)
    return observation, pool, loop.time() - started


def failures(observation: Observation) -> dict[str, FailureCode]:
    return {failure.source: failure.code for failure in observation.failures}


async def test_the_wanted_number_is_asked_and_no_more() -> None:
    answers: Answers = {(source, "BTC/USD"): "70000" for source in "abcde"}
    observation, pool, _ = await fetch(answers, feed("BTC/USD", wanted_sources=3))
    assert pool.asked == [Candidate(source, BTC) for source in "abc"]
    assert observation.answers == {BTC: Decimal(70000)}


async def test_a_failure_is_replaced_by_the_next_in_line_at_once() -> None:
    answers: Answers = {
        ("a", "BTC/USD"): FailureCode.CONNECTION,
        ("b", "BTC/USD"): "70000",
        ("c", "BTC/USD"): FailureCode.SERVER_ERROR,
        ("d", "BTC/USD"): "70001",
        ("e", "BTC/USD"): "70002",
        ("f", "BTC/USD"): "70003",
    }
    observation, _, took = await fetch(answers, feed("BTC/USD", wanted_sources=3), budget_s=5)
    assert [quote.source for quote in observation.quotes] == ["b", "d", "e"]
    assert failures(observation) == {"a": FailureCode.CONNECTION, "c": FailureCode.SERVER_ERROR}
    assert took < 1


async def test_a_market_of_no_use_is_replaced_by_the_same_sources_next() -> None:
    answers: Answers = {
        ("a", "BTC/USD"): FailureCode.HTTP_STATUS,
        ("a", "BTC/USDT"): "70000",
        ("b", "BTC/USDT"): "70001",
        ("c", "BTC/USD"): "69950",
        ("a", "USDT/USD"): "0.999",
        ("b", "USDT/USD"): "0.999",
    }
    observation, pool, _ = await fetch(answers, feed("BTC/USD", wanted_sources=2))
    assert observation.answers == {BTC: Decimal("69930.000")}
    assert Candidate("c", BTC) not in pool.asked


async def test_a_source_that_is_down_is_not_asked_for_another_market() -> None:
    answers: Answers = {
        ("a", "BTC/USD"): FailureCode.CONNECTION,
        ("a", "BTC/USDT"): "70000",
        ("b", "BTC/USDT"): "70001",
        ("c", "BTC/USD"): "69950",
        ("a", "USDT/USD"): "0.999",
        ("b", "USDT/USD"): "0.999",
    }
    _, pool, _ = await fetch(answers, feed("BTC/USD", wanted_sources=2))
    assert Candidate("a", Pair("BTC/USDT")) not in pool.asked
    assert Candidate("c", BTC) in pool.asked


async def test_a_source_never_counts_twice_for_one_feed() -> None:
    answers: Answers = {("a", "BTC/USD"): "70000", ("a", "BTC/USDT"): "70001", ("a", "USDT/USD"): "1"}
    feeds = [feed(pair, min_sources=1) for pair in ("BTC/USD", "BTC/USDT", "USDT/USD")]
    observation, _, _ = await fetch(answers, *feeds)
    (verdict,) = [each for each in observation.verdicts if each.plan.feed.pair == BTC]
    assert [each.quote.pair for each in verdict.accepted] == [BTC]


async def test_a_silent_source_gets_company_and_the_answer_does_not_wait_for_it() -> None:
    answers: Answers = {("a", "BTC/USD"): None, ("b", "BTC/USD"): "70000", ("c", "BTC/USD"): "70001"}
    observation, _, took = await fetch(answers, feed("BTC/USD", wanted_sources=2), budget_s=0.5)
    assert observation.answers == {BTC: Decimal(70000)}
    assert failures(observation) == {"a": FailureCode.CANCELLED}
    assert 0.19 < took < 0.4  # two fifths of the budget


async def test_a_slow_source_may_still_answer_beside_its_company() -> None:
    answers: Answers = {
        ("a", "BTC/USD"): Slow("70000", 0.25),
        ("b", "BTC/USD"): "70001",
        ("c", "BTC/USD"): None,
    }
    observation, _, took = await fetch(answers, feed("BTC/USD", wanted_sources=2), budget_s=0.5)
    assert sorted(quote.source for quote in observation.quotes) == ["a", "b"]
    assert failures(observation) == {"c": FailureCode.CANCELLED}
    assert took < 0.4


async def test_at_the_deadline_what_is_there_is_taken() -> None:
    answers: Answers = {("a", "BTC/USD"): None, ("b", "BTC/USD"): "70000", ("c", "BTC/USD"): "70001"}
    observation, _, took = await fetch(answers, feed("BTC/USD", wanted_sources=3), budget_s=0.1)
    assert observation.answers == {BTC: Decimal(70000)}
    assert failures(observation) == {"a": FailureCode.TIMEOUT}
    assert 0.09 < took < 0.16


async def test_a_hanging_feed_does_not_cost_the_others_their_price() -> None:
    answers: Answers = {
        ("a", "BTC/USD"): None,
        ("b", "BTC/USD"): None,
        ("a", "ETH/USD"): "4000",
        ("b", "ETH/USD"): "4001",
    }
    observation, _, took = await fetch(answers, feed("BTC/USD"), feed("ETH/USD"), budget_s=0.1)
    assert observation.answers == {ETH: Decimal(4000)}
    assert took < 0.16


async def test_feeds_and_rates_are_asked_at_the_same_time() -> None:
    answers: Answers = {
        (source, pair): Slow(price, 0.05)
        for source in "ab"
        for pair, price in (("BTC/USDT", "70000"), ("ETH/USDT", "4000"), ("USDT/USD", "0.999"))
    }
    observation, pool, took = await fetch(answers, feed("BTC/USD"), feed("ETH/USD"), budget_s=1)
    assert observation.answers == {BTC: Decimal("69930.000"), ETH: Decimal("3996.000")}
    assert len(pool.asked) == 6
    assert took < 0.1


async def test_a_rate_that_is_a_feed_too_is_asked_once() -> None:
    answers: Answers = {
        (source, pair): price for source in "ab" for pair, price in (("BTC/USDT", "70000"), ("USDT/USD", "0.999"))
    }
    observation, pool, _ = await fetch(answers, feed("BTC/USD"), feed("USDT/USD"))
    assert observation.answers == {USDT: Decimal("0.999"), BTC: Decimal("69930.000")}
    assert sorted((each.source, str(each.pair)) for each in pool.asked) == [
        ("a", "BTC/USDT"),
        ("a", "USDT/USD"),
        ("b", "BTC/USDT"),
        ("b", "USDT/USD"),
    ]


async def test_a_rate_that_is_no_feed_is_in_the_record_and_not_in_the_answers() -> None:
    answers: Answers = {
        (source, pair): price for source in "ab" for pair, price in (("BTC/USDT", "70000"), ("USDT/USD", "1"))
    }
    observation, _, _ = await fetch(answers, feed("BTC/USD"))
    assert set(observation.answers) == {BTC}
    assert {(quote.source, str(quote.pair)) for quote in observation.quotes} == set(answers)


async def test_when_the_rules_leave_too_few_the_next_in_line_are_asked() -> None:
    answers: Answers = {
        ("a", "BTC/USD"): "70000",
        ("b", "BTC/USD"): "7",
        ("c", "BTC/USD"): "70002",
    }
    rules = feed("BTC/USD", wanted_sources=2, min_price=Decimal(1000))
    observation, _, _ = await fetch(answers, rules, budget_s=1)
    assert observation.answers == {BTC: Decimal(70000)}
    assert failures(observation) == {"b": FailureCode.OUT_OF_RANGE}


async def test_a_split_asks_further_until_one_side_has_more() -> None:
    answers: Answers = {
        ("a", "BTC/USD"): "70000",
        ("b", "BTC/USD"): "60000",
        ("c", "BTC/USD"): "70002",
        ("d", "BTC/USD"): "70001",
    }
    observation, _, _ = await fetch(answers, feed("BTC/USD", wanted_sources=2), budget_s=1)
    assert observation.answers == {BTC: Decimal(70001)}
    assert failures(observation) == {"b": FailureCode.OUTLIER}


class Minuted(FakePool):
    """Every ticker carries the source's own time: a quarter of a minute before the moment."""

    async def fetch(
        self, source: str, pair: Pair, *, deadline: float, priority: Priority = Priority.JOB, anyway: bool = False
    ) -> Reading | SourceFailure:
        read = await super().fetch(source, pair, deadline=deadline, priority=priority, anyway=anyway)
        if isinstance(read, SourceFailure):
            return read
        return msgspec.structs.replace(read, ticker=Ticker(last=read.ticker.last, time_ms=NOW - 15_000))


@pytest.mark.parametrize("strict_first", [True, False])
async def test_a_market_that_two_feeds_share_is_judged_for_each_by_its_own_limits(strict_first: bool) -> None:
    answers: Answers = {(source, "USDT/USD"): "1" for source in "ab"}
    strict, lax = feed("USDT/USD", max_quote_age_ms=5000), feed("USDT/USD", max_quote_age_ms=60_000)
    plans = [Plan(feed=each, candidates=(Candidate("a", USDT), Candidate("b", USDT))) for each in (strict, lax)]
    plans[1] = msgspec.structs.replace(plans[1], feed=msgspec.structs.replace(lax, pair=Pair("USDT/USDC")))
    graph = ConversionGraph(("USD/USDC",))
    one = Rate(pair=Pair("USD/USDC"), value=Decimal(1), as_of_ms=NOW)
    pool = Minuted(answers)
    fetcher = Fetcher(PoolReader(pool), graph, QUIET, {one.pair: one})
    deadline = asyncio.get_running_loop().time() + 0.2
    observation = await fetcher.fetch(plans if strict_first else plans[::-1], NOW, deadline)
    assert observation.answers == {Pair("USDT/USDC"): Decimal(1)}
    assert [quote.source for quote in observation.quotes] == ["a", "b"]
    assert (observation.failures, len(pool.asked)) == ((), 2)


async def test_what_is_under_way_can_be_told_at_any_time() -> None:
    answers: Answers = {("a", "BTC/USD"): "70000", ("b", "BTC/USD"): None, ("c", "BTC/USD"): FailureCode.CONNECTION}
    under_way = Fetcher(PoolReader(FakePool(answers)), GRAPH, QUIET).begin(
        plans_for(answers, feed("BTC/USD")), NOW, asyncio.get_running_loop().time() + 5
    )
    assert under_way.so_far("nobody asked").failures == ()
    task = asyncio.create_task(under_way.run())
    await asyncio.sleep(0.01)
    seen = under_way.so_far("the job was refused first")
    task.cancel()
    await asyncio.wait([task])
    assert [quote.source for quote in seen.quotes] == ["a"]
    assert failures(seen) == {"b": FailureCode.CANCELLED, "c": FailureCode.CONNECTION}


async def test_a_reader_that_breaks_is_one_failure_among_others() -> None:
    answers: Answers = {
        ("a", "BTC/USD"): KeyError("a bug"),
        ("b", "BTC/USD"): "70000",
        ("c", "BTC/USD"): "70001",
        ("d", "BTC/USD"): "70002",
    }
    observation, _, _ = await fetch(answers, feed("BTC/USD"))
    assert observation.answers == {BTC: Decimal(70001)}
    assert failures(observation) == {"a": FailureCode.INTERNAL}


async def test_nobody_to_ask_is_no_answer() -> None:
    observation, _, _ = await fetch({}, feed("BTC/USD"))
    assert (observation.answers, observation.quotes, observation.failures) == ({}, (), ())


async def test_a_deadline_in_the_past_asks_and_ends_at_once() -> None:
    observation, _, took = await fetch({("a", "BTC/USD"): None}, feed("BTC/USD"), budget_s=-1)
    assert failures(observation) == {"a": FailureCode.TIMEOUT}
    assert took < 0.05


async def test_a_cancelled_fetch_leaves_no_request_behind() -> None:
    before = asyncio.all_tasks()
    task = asyncio.create_task(fetch({("a", "BTC/USD"): None}, feed("BTC/USD"), budget_s=10))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert asyncio.all_tasks() == before


MARKETS = ("BTC/USD", "BTC/USDT", "ETH/USDC", "USDT/USD", "USDC/USD", "USDC/USDT")
outcomes = st.one_of(
    st.sampled_from(["1", "1.001", "1.002", "3", "10"]),
    st.sampled_from([FailureCode.CONNECTION, FailureCode.MALFORMED, FailureCode.EXPIRED]),
    st.just(Slow("1", 0.004)),
    st.none(),
    st.just(KeyError("a bug")),
)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.tuples(st.sampled_from("abcdef"), st.sampled_from(MARKETS)), outcomes, max_size=24),
    st.integers(min_value=1, max_value=4),
)
def test_whatever_happens_everything_asked_ends_once_and_nothing_else_does(answers: Answers, wanted: int) -> None:
    feeds = [feed(pair, wanted_sources=wanted, min_sources=1) for pair in ("BTC/USD", "ETH/USD", "USDT/USD")]
    observation, pool, took = asyncio.run(fetch(answers, *feeds, budget_s=0.01))
    asked = [(each.source, each.pair) for each in pool.asked]
    ended = [(each.source, each.pair) for each in (*observation.quotes, *observation.failures)]
    assert sorted(asked) == sorted(ended)
    assert len(set(ended)) == len(ended)
    assert took < 0.2
    counted = {(quote.source, quote.pair) for quote in observation.quotes}
    for verdict in observation.verdicts:
        assert {(each.quote.source, each.quote.pair) for each in verdict.accepted} <= counted
        if not verdict.plan.leg:
            assert observation.answers.get(Pair(verdict.plan.feed.pair)) == verdict.answer
