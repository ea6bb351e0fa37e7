"""The fetch benchmark measures what it says: every contender finds the very median that the mock's prices have."""

from __future__ import annotations

from decimal import Decimal
from statistics import median_low

import pytest

from benchmarks import chain, figures, many, market, mock, slow, streams, validation
from benchmarks.contenders import TASKS
from benchmarks.fetch import measure
from benchmarks.recorded import RECORDED


def test_every_contender_finds_the_median_of_what_the_mock_says() -> None:
    results = measure(rounds=1, iterations=2, without=("ccxt", "telliot-feeds"))
    rate = median_low(mock.last_price(source, "USDT/USD") for source in ("coinbase", "kraken", "bitstamp"))
    in_usdt = median_low(mock.last_price(source, "BTC/USDT") for source in mock.SOURCES)
    in_usd = median_low(
        mock.last_price(source, "BTC/USD") * (rate if source in ("binance", "okx") else 1) for source in mock.SOURCES
    )
    for task, answer in zip(TASKS, (in_usdt, in_usd), strict=True):
        series = results[task.name]
        assert set(series) == {"fairmark", "httpx", "aiohttp"}
        assert {each.answer for each in series.values()} == {answer}
        assert all(len(each.rounds) == 1 and len(each.samples) == 2 for each in series.values())
    assert (in_usdt, in_usd) == (Decimal("71236.00"), Decimal("71236.00"))


@pytest.mark.needs_anvil
def test_the_chain_benchmark_makes_rounds_of_both_sizes_over_both_sockets() -> None:
    text, found = chain.run(rounds=2)
    assert list(found["groups"]) == ["1 feed, http", "1 feed, ipc", "100 feeds, http", "100 feeds, ipc"]
    for outcome in found["groups"].values():
        assert (outcome.read.count, outcome.round.count) == (2, 2)
        assert list(outcome.steps) == ["build", "simulate", "sign", "note", "send", "receipt"]
    assert "| read, 100 feeds, http  |" in text


@pytest.mark.parametrize(("percent", "expected"), [(50, 2.0), (99, 4.0), (100, 4.0), (1, 1.0)])
def test_a_percentile_is_one_of_the_samples_by_nearest_rank(percent: float, expected: float) -> None:
    assert figures.percentile([4.0, 1.0, 3.0, 2.0], percent) == expected


def test_a_table_is_markdown_with_its_numbers_to_the_right() -> None:
    assert figures.table(("", "p50"), [("ours", "1.00"), ("theirs", "12.00")]).splitlines() == [
        "|        |   p50 |",
        "| ------ | ----: |",
        "| ours   |  1.00 |",
        "| theirs | 12.00 |",
    ]


@pytest.mark.needs_recordings
async def test_the_streams_benchmark_finds_the_same_values_from_both_and_measures_both() -> None:
    pytest.importorskip("cryptofeed")
    short = [each for each in RECORDED if each.name in {"coinbase", "binance 2021"}]
    found = await streams.measure(short, rounds=1, messages=1)
    assert {name: {part: each.messages for part, each in parts.items()} for name, parts in found.items()} == {
        "coinbase": {"read by both": 97},
        "binance 2021": {"read by both": 86, "all": 265},
    }
    assert all(len(each.ours) == len(each.theirs) == 1 for parts in found.values() for each in parts.values())
    assert streams.overall(found, "all").messages == 265


def test_the_validation_benchmark_judges_a_full_round_and_replays_what_it_recorded() -> None:
    text, shown = validation.run(rounds=1, quotes=2_000)
    assert shown["validation"].count == shown["bare"].count == 1
    assert set(shown["replay_quotes_per_s"]) == {"100", "10", "3"}
    assert "256 feeds × 13 reporters" in text


async def test_the_benchmark_of_slow_sources_takes_no_less_than_they_do() -> None:
    for task in slow.TASKS:
        took, alone = await slow.measure(task, medians=1, warm_up=0, budget_s=5.0)
        assert len(took) == len(alone) == 1
        assert min(*took, *alone) >= slow.DELAY_S


def test_the_benchmark_of_many_feeds_gets_every_quote_and_every_answer() -> None:
    found = many.measure(feeds=20, periods=1, period_s=1.0)
    assert (found["requests"], found["quotes"], found["answers"]) == (200, 200, 20)
    assert found["core"] > 0
    assert found["mib"] > 10


@pytest.mark.needs_redis
@pytest.mark.needs_postgres
def test_the_market_benchmark_takes_every_tick_and_counts_those_that_were_too_many() -> None:
    text, found = market.run(rounds=20)
    for kind, count in (("memory", 20_000), ("redis", 10_000)):
        assert (found[kind]["ticks"] <= count, found[kind]["dropped"], found[kind]["counted"]) == (True, 0, count // 5)
    assert found["overload"]["ticks"] > 0
    ten = found["tenfold"]
    assert ten["dropped"] + ten["waiting"] > ten["ticks"] > 0
    assert found["questions"]["latency"].count == 200
    assert "| fairmark, redis " in text
