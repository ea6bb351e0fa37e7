"""Company for the late, quarantine in the walk, and what becomes of requests that were outrun."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from core.currency import DOLLARS, ConversionGraph
from core.types import FailureCode, Feed, Pair, SourceFailure
from fetchers.candidates import Candidate, make_plans
from fetchers.fetch import Fetcher, Observation
from fetchers.reader import PoolReader, StreamStatus
from fetchers.strays import Strays
from fetchers.walk import Walk
from sources import Priority, Reading, Ticker
from tests.support.fetchers import BTC, NOW, QUIET, FakePool, Slow, catalogue, feed

GRAPH = ConversionGraph(DOLLARS)


@dataclass
class Ward(FakePool):
    """A pool some of whose sources are in quarantine; what they would answer is in `answers`."""

    ill: frozenset[str] = frozenset()
    asked_anyway: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    async def fetch(
        self, source: str, pair: Pair, *, deadline: float, priority: Priority = Priority.JOB, anyway: bool = False
    ) -> Reading | SourceFailure:
        if source in self.ill and not anyway:
            return SourceFailure(pair=pair, source=source, code=FailureCode.QUARANTINED)
        if anyway:
            self.asked_anyway.append(source)
        try:
            found = await super().fetch(source, pair, deadline=deadline, priority=priority, anyway=anyway)
        except asyncio.CancelledError:
            self.cancelled.append(source)
            raise
        self.ended.append(source)
        return found


class Streamed:
    """A stream that shows BTC/USD of some sources, as of the moment."""

    def __init__(self, *sources: str) -> None:
        self._sources = sources

    def want(self, source: str, pairs: Collection[Pair]) -> tuple[Pair, ...]:
        return tuple(pairs)

    def latest(self, source: str, pair: Pair, moment_ms: int) -> Reading | None:
        if source not in self._sources:
            return None
        return Reading(source=source, pair=pair, ticker=Ticker(last=Decimal(7)), received_ms=moment_ms, elapsed_ms=0)

    async def run(self) -> None:
        return None

    def states(self) -> tuple[StreamStatus, ...]:
        return ()


async def fetch(
    pool: FakePool,
    *feeds: Feed,
    budget_s: float = 2.0,
    hedges: Mapping[str, float] | None = None,
    streams: Streamed | None = None,
) -> tuple[Observation, float, Fetcher]:
    served: dict[str, str] = {}
    for source, pair in pool.answers:
        served[source] = f"{served.get(source, '')} {pair}"
    plans = make_plans(feeds, list(served), catalogue(**served), GRAPH)
    fetcher = Fetcher(PoolReader(pool, None, streams), GRAPH, QUIET, hedge_after=(hedges or {}).get)
    loop = asyncio.get_running_loop()
    started = loop.time()
    observation = await fetcher.fetch(plans, NOW, started + budget_s)
    return observation, loop.time() - started, fetcher


def codes(observation: Observation) -> dict[str, FailureCode]:
    return {failure.source: failure.code for failure in observation.failures}


async def test_a_silent_source_gets_company_after_what_it_usually_takes() -> None:
    pool = Ward({("a", "BTC/USD"): None, ("b", "BTC/USD"): "70000", ("c", "BTC/USD"): "70001"})
    observation, took, fetcher = await fetch(pool, feed("BTC/USD", wanted_sources=2), hedges={"a": 0.05})
    assert [quote.source for quote in observation.quotes] == ["b", "c"]
    assert codes(observation) == {"a": FailureCode.CANCELLED}
    assert 0.045 < took < 0.5, "two fifths of the budget would have been 0.8 s"
    await fetcher.close()


async def test_a_source_that_does_not_answer_these_days_has_company_from_the_start() -> None:
    pool = Ward({("a", "BTC/USD"): None, ("b", "BTC/USD"): None, ("c", "BTC/USD"): "1", ("d", "BTC/USD"): "1"})
    observation, took, fetcher = await fetch(
        pool, feed("BTC/USD", wanted_sources=2), hedges={"a": 0.0, "b": 0.0}, budget_s=5
    )
    assert [quote.source for quote in observation.quotes] == ["c", "d"]
    assert took < 0.3
    await fetcher.close()


async def test_a_late_source_keeps_its_place_where_nobody_is_left_to_ask() -> None:
    pool = Ward({("a", "BTC/USD"): Slow("70000", 0.2), ("b", "BTC/USD"): "70001"})
    observation, took, _ = await fetch(pool, feed("BTC/USD", wanted_sources=2), hedges={"a": 0.01, "b": 0.01})
    assert [quote.source for quote in observation.quotes] == ["a", "b"]
    assert took < 1


async def test_a_late_source_is_waited_for_where_the_rules_leave_too_few_of_the_others() -> None:
    """It was outrun by the wanted number, one of which turns out to be false, and nobody else is left to ask."""
    prices = {"a": Slow("70002", 0.3), "b": "70000", "c": "70001", "d": "90000"}
    pool = Ward({(source, "BTC/USD"): price for source, price in prices.items()})
    observation, _, fetcher = await fetch(
        pool, feed("BTC/USD", wanted_sources=3, min_sources=3), hedges={"a": 0.02}, budget_s=20
    )
    assert observation.answers == {BTC: Decimal(70001)}
    assert codes(observation) == {"d": FailureCode.OUTLIER}
    await fetcher.close()


async def test_a_price_is_not_held_up_by_a_hung_source_for_the_sake_of_fresher_quotes() -> None:
    prices = {"a": None, "b": "70000", "c": "70001", "d": FailureCode.SERVER_ERROR, "e": None}
    pool = Ward({(source, "BTC/USD"): price for source, price in prices.items()}, now=lambda: NOW - 9_000)
    old = feed("BTC/USD", wanted_sources=2, fresh_receipt_age_ms=1_000)
    observation, took, fetcher = await fetch(pool, old, hedges={"a": 0.02, "e": 0.02}, budget_s=20)
    assert observation.answers == {BTC: Decimal(70000)}
    assert [each.fresh for each in observation.verdicts] == [0]
    assert {source: code for source, code in codes(observation).items() if source in "de"} == {
        "d": FailureCode.SERVER_ERROR, "e": FailureCode.CANCELLED
    }  # fmt: skip
    assert took < 10
    await fetcher.close()


async def test_a_source_in_quarantine_is_passed_over_and_named() -> None:
    answers = {(source, "BTC/USD"): "70000" for source in "abcd"}
    pool = Ward(answers, ill=frozenset("b"))  # type: ignore[arg-type]
    observation, _, _ = await fetch(pool, feed("BTC/USD", wanted_sources=3))
    assert [quote.source for quote in observation.quotes] == ["a", "c", "d"]
    assert codes(observation) == {"b": FailureCode.QUARANTINED}
    assert pool.asked_anyway == []


async def test_where_all_others_are_too_few_those_in_quarantine_are_asked_anyway() -> None:
    answers = {(source, "BTC/USD"): "70000" for source in "abcd"}
    pool = Ward(answers, ill=frozenset("abcd"))  # type: ignore[arg-type]
    observation, took, _ = await fetch(pool, feed("BTC/USD", wanted_sources=3, min_sources=2))
    assert observation.answers == {BTC: Decimal(70000)}
    assert sorted(pool.asked_anyway) == ["a", "b"], "no more than a price takes"
    assert codes(observation) == {"c": FailureCode.QUARANTINED, "d": FailureCode.QUARANTINED}
    assert took < 0.5


async def test_a_well_source_that_hangs_is_made_up_for_by_one_in_quarantine() -> None:
    pool = Ward({("a", "BTC/USD"): "70000", ("b", "BTC/USD"): None, ("c", "BTC/USD"): "70001"}, ill=frozenset("c"))
    observation, took, fetcher = await fetch(
        pool, feed("BTC/USD", wanted_sources=2, min_sources=2), hedges={"b": 0.05}, budget_s=3
    )
    assert observation.answers == {BTC: Decimal(70000)}
    assert (pool.asked_anyway, codes(observation)) == (["c"], {"b": FailureCode.CANCELLED})
    assert took < 0.6
    await fetcher.close()


async def test_one_asked_anyway_that_fails_is_that_failure() -> None:
    pool = Ward(
        {("a", "BTC/USD"): FailureCode.CONNECTION, ("b", "BTC/USD"): "70000", ("c", "BTC/USD"): "70001"},
        ill=frozenset("ac"),
    )
    observation, _, _ = await fetch(pool, feed("BTC/USD", wanted_sources=2, min_sources=2))
    assert observation.answers == {BTC: Decimal(70000)}
    assert codes(observation) == {"a": FailureCode.CONNECTION}


async def test_quotes_that_the_rules_reject_are_made_up_for_by_those_in_quarantine() -> None:
    pool = Ward({("a", "BTC/USD"): "70000", ("b", "BTC/USD"): "80000", ("c", "BTC/USD"): "70001"}, ill=frozenset("c"))
    observation, took, _ = await fetch(pool, feed("BTC/USD", wanted_sources=2, min_sources=2))
    assert observation.answers == {BTC: Decimal(70000)}
    assert (pool.asked_anyway, codes(observation)) == (["c"], {"b": FailureCode.OUTLIER})
    assert took < 1, "the budget is 2 s"


async def test_without_a_rate_those_in_quarantine_are_asked_once_and_the_fetch_is_over() -> None:
    pool = Ward(
        {
            **{(source, "BTC/USDT"): "70000" for source in "abc"},
            **{(source, "USDT/USD"): FailureCode.CONNECTION for source in "abc"},
        },
        ill=frozenset("c"),
    )
    observation, took, _ = await fetch(pool, feed("BTC/USD", wanted_sources=2, min_sources=2))
    assert observation.answers == {}
    assert sorted(pool.asked_anyway) == ["c", "c"], "its market, and its rate"
    assert {each.code for each in observation.failures if each.pair == Pair("BTC/USDT")} == {FailureCode.NO_CONVERSION}
    assert took < 1, "the budget is 2 s"


async def test_a_fetch_that_can_ask_nobody_more_does_not_wait_for_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Walk, "shortage", lambda *_: 1)  # whatever the reason for which a walk thinks itself short
    pool = Ward({("a", "BTC/USD"): "70000", ("b", "BTC/USD"): "70001"})
    observation, took, _ = await fetch(pool, feed("BTC/USD", wanted_sources=2))
    assert observation.answers == {BTC: Decimal(70000)}
    assert took < 1, "the budget is 2 s"


async def test_two_feeds_that_share_a_quarantined_market_ask_it_anyway_once() -> None:
    pool = Ward(
        {(source, pair): "1" for source in "ab" for pair in ("USDT/USD", "BTC/USDT")},  # type: ignore[arg-type]
        ill=frozenset("ab"),
    )
    observation, _, _ = await fetch(pool, feed("BTC/USD", min_sources=2), feed("USDT/USD", min_sources=2))
    assert set(observation.answers) == {BTC, Pair("USDT/USD")}
    assert sorted(str(each.pair) + each.source for each in pool.asked) == [
        "BTC/USDTa",
        "BTC/USDTb",
        "USDT/USDa",
        "USDT/USDb",
    ]


async def test_what_is_streamed_needs_no_company_and_no_request_whatever_its_source_does_over_http() -> None:
    pool = Ward({("a", "BTC/USD"): None, ("b", "BTC/USD"): None, ("c", "BTC/USD"): "8"}, ill=frozenset("a"))
    rules = feed("BTC/USD", wanted_sources=2, min_sources=2)
    observation, _, _ = await fetch(pool, rules, hedges={"a": 0.0, "b": 0.0}, streams=Streamed("a", "b"))
    assert [(quote.source, quote.price) for quote in observation.quotes] == [("a", Decimal(7)), ("b", Decimal(7))]
    assert (pool.asked, observation.failures) == ([], ())


async def test_an_outrun_request_runs_to_its_end() -> None:
    pool = Ward({("a", "BTC/USD"): Slow("1", 0.2), ("b", "BTC/USD"): "1", ("c", "BTC/USD"): "1"})
    observation, took, _ = await fetch(pool, feed("BTC/USD", wanted_sources=2), hedges={"a": 0.02})
    assert codes(observation) == {"a": FailureCode.CANCELLED}
    assert took < 0.15
    await asyncio.sleep(0.3)
    assert (pool.ended[-1], pool.cancelled) == ("a", [])


async def test_it_ends_with_its_fetchs_deadline_at_the_latest() -> None:
    pool = Ward({("a", "BTC/USD"): None, ("b", "BTC/USD"): "1", ("c", "BTC/USD"): "1"})
    await fetch(pool, feed("BTC/USD", wanted_sources=2), hedges={"a": 0.02}, budget_s=0.2)
    await asyncio.sleep(0.4)
    assert pool.cancelled == ["a"]


async def test_a_closed_fetcher_has_nothing_under_way() -> None:
    before = asyncio.all_tasks()
    pool = Ward({("a", "BTC/USD"): None, ("b", "BTC/USD"): "1", ("c", "BTC/USD"): "1"})
    _, _, fetcher = await fetch(pool, feed("BTC/USD", wanted_sources=2), hedges={"a": 0.02}, budget_s=20)
    assert asyncio.all_tasks() > before
    await fetcher.close()
    assert asyncio.all_tasks() == before


async def test_strays_are_bounded_and_the_oldest_gives_way() -> None:
    strays, loop = Strays(most=2), asyncio.get_running_loop()
    tasks = [asyncio.create_task(asyncio.sleep(30)) for _ in range(3)]
    strays.leave(tasks, loop.time() + 20)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [task.cancelled() for task in tasks] == [True, False, False]
    assert len(strays) == 2
    await strays.close()
    assert all(task.cancelled() for task in tasks)
    assert len(strays) == 0


@pytest.mark.parametrize("ill", ["", "a", "abc"])
async def test_everything_asked_or_passed_over_ends_once(ill: str) -> None:
    answers = {(source, pair): "1" for source in "abc" for pair in ("BTC/USDT", "ETH/USDT", "USDT/USD")}
    pool = Ward(answers, ill=frozenset(ill))  # type: ignore[arg-type]
    observation, _, _ = await fetch(pool, feed("BTC/USD"), feed("ETH/USD"), feed("USDT/USD"))
    ended = [Candidate(each.source, each.pair) for each in (*observation.quotes, *observation.failures)]
    assert len(set(ended)) == len(ended)
    assert set(pool.asked) <= set(ended)
