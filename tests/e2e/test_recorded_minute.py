"""The recorded minute through the whole path: services and chain stand at 2024-03-13T11:10:45Z, USDT/USD is 1.

Ten exchanges' real bodies. OKX's is two years old and must end as expired; Luno's is fresh, wide and illiquid, and must
not move the answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from statistics import median_low
from typing import Any

import pytest

from tests.e2e.config import configuration
from tests.e2e.system import System

pytestmark = [pytest.mark.needs_rabbitmq, pytest.mark.needs_anvil, pytest.mark.needs_recordings]

THEN_MS = int(datetime.fromisoformat("2024-03-13T11:10:45+00:00").timestamp() * 1000)
SOURCES = {
    "fetcher-a": ("binance", "coinbase", "luno", "okx", "kraken"),
    "fetcher-b": ("bitso", "bitstamp", "gate", "luno", "gemini"),
    "fetcher-c": ("bitfinex", "gemini", "kraken", "okx", "coinbase"),
    "fetcher-d": ("binance", "bitso", "bitstamp", "okx", "luno", "kraken"),
}
USDT_MARKETS = ("kraken", "coinbase", "bitstamp", "gemini")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, anvil_path: str) -> Iterator[System]:
    from tests.conftest import RABBITMQ_URL, RECORDINGS

    offset_ms = THEN_MS - int(time.time() * 1000)
    running = System(
        tmp_path_factory.mktemp("recorded"),
        anvil_path,
        RABBITMQ_URL,
        configuration(
            pairs=("BTC/USD", "USDT/USD"),
            sources=SOURCES,
            # ten minutes: how long the services take to start must decide nothing
            feed_rules="min_sources = 1\nwanted_sources = 6\nmax_quote_age_s = 600\nfresh_quote_age_s = 600",
        ),
        FAIRMARK_CLOCK_OFFSET_MS=str(offset_ms),
        FAIRMARK_AGGREGATOR__HEARTBEATS="false",
    )
    try:
        running.start_chain("--timestamp", str(THEN_MS // 1000))
        running.start_simulator("--replay", str(RECORDINGS / "ticker_responses"))
        one = {f"{exchange}:USDT/USD": "1" for exchange in USDT_MARKETS}
        running.client.put(f"{running.simulator}/prices", json=one).raise_for_status()
        running.deploy()
        running.start_services()
        yield running
    finally:
        running.close()


def recorded_price(recordings: Path, exchange: str) -> Decimal:
    """The price in a recorded body, by the written rule: the last trade within the book, else the mid."""
    expected = json.loads((recordings / "ticker_responses" / f"{exchange}.json").read_text(), parse_float=Decimal)[
        "expected"
    ]
    last, bid, ask = (Decimal(expected[name]) for name in ("last", "bid", "ask"))
    return last if bid <= last <= ask else (bid + ask) / 2


def test_the_answer_is_the_median_of_the_sound_bodies(system: System, recordings: Path) -> None:
    response = system.refresh("BTC-USD")
    assert response.status_code == 200, response.text
    price = response.json()
    assert price["observed_at"].startswith("2024-03-13T11:1")
    record: dict[str, Any] = system.get(f"/v1/attempts/{price['attempt']}").json()
    by_reporter = []
    for report in record["reports"]:
        assert {(f["source"], f["code"]) for f in report["failures"] if f["source"] in ("okx", "luno")} == {
            (source, code)
            for source, code in (("okx", "expired"), ("luno", "wide_spread"))
            if source in SOURCES[report["fetcher"]]
        }
        used = [quote["source"] for quote in report["quotes"] if quote["pair"] == "BTC/USDT"]
        assert len(used) >= 2
        by_reporter.append(median_low([recorded_price(recordings, source) for source in used]))
    assert len(by_reporter) == 4
    assert Decimal(price["price"]) == median_low(by_reporter).quantize(Decimal("1e-8"))
    # thirteen venues' median at that minute was 73,373.9; Luno's last trade stood at 73,998.98
    assert abs(Decimal(price["price"]) - Decimal("73373.9")) < 20
