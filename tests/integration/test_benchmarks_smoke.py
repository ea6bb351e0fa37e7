"""The fetch benchmark measures what it says: every contender finds the very median that the mock's prices have."""

from __future__ import annotations

from decimal import Decimal
from statistics import median_low

import pytest

from benchmarks import figures, mock
from benchmarks.contenders import TASKS
from benchmarks.fetch import measure


def test_every_contender_finds_the_median_of_what_the_mock_says() -> None:
    results = measure(rounds=1, iterations=2, with_ccxt=False)
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
