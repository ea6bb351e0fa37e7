"""Every fault of a stream against the whole: it is named, the round goes on, and its source is asked in that round."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
import pytest_asyncio

from aggregator.attempts import State
from core.median import lower_median, to_scaled
from core.ops import Ops
from core.types import Feed, Group, Pair, Quote, SourceFailure
from sources.connection import StreamPolicy
from tests.chaos.rounds import FETCHERS, Rounds, rounds
from tests.chaos.stream_table import REQUESTED, STREAM_ROWS, STREAMED, StreamRow
from tests.support.wait import until

real_rounds = pytest.mark.asyncio(loop_scope="module")
pytestmark = pytest.mark.needs_anvil

BTC = Pair("BTC/USD")
VICTIM = "coinbase"
SOUND = ("kraken", "cryptocom")
SOURCES = (VICTIM, *SOUND)
POLICY = StreamPolicy(
    connect_timeout_s=1.0, subscribe_timeout_s=1.5, backoff_s=0.02, max_backoff_s=0.2, silence_s=5.0, garbage=6
)
"""Impatient with faults, but no sound stream is called silent because this machine stood still for a while."""
GROUP = Group(
    name="majors",
    feeds=(
        Feed(
            pair=BTC, min_price=Decimal(1000), max_price=Decimal(10_000_000), wanted_sources=len(SOURCES), min_sources=2
        ),
    ),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rounds]:
    async with rounds(Path(tmp_path_factory.mktemp("streams")), GROUP) as running:
        yield running


def up(real: Rounds, ops: Ops, *sources: str) -> bool:
    """Connected, and a market has been shown."""
    return all(
        real.found(ops, "fairmark_streams_connected", source=source) == 1
        and real.found(ops, "fairmark_streams_messages_total", source=source, heard="data") > 0
        for source in sources
    )


def requested(real: Rounds, ops: Ops, source: str) -> float:
    return real.found(ops, "fairmark_sources_requests_total", source=source, outcome="ok")


@real_rounds
async def test_a_round_of_streamed_feeds_makes_no_request_at_all(real: Rounds) -> None:
    async with real.fetchers(SOURCES, streaming=POLICY) as every:
        await until(lambda: all(up(real, ops, *SOURCES) for ops in every))
        seen = await real.round(every)
        assert seen.record.state is State.ACCEPTED, (seen.record.code, seen.record.detail)
        for source in SOURCES:
            outcomes = seen.outcomes(source)
            assert set(outcomes) == set(FETCHERS)
            assert all(isinstance(each, Quote) for each in outcomes.values()), outcomes
            assert [requested(real, ops, source) for ops in every] == [0, 0, 0, 0]
    shown = {(each.venue, each.pair, each.last) for each in real.simulator.served.since(0)}
    for report in seen.record.reports:
        assert {(quote.source, quote.pair, quote.last) for quote in report.quotes} <= shown
        assert all(quote.received_ms <= seen.record.moment + 50 for quote in report.quotes)
        assert all(quote.volume for quote in report.quotes), "all three streams tell what was traded"
        prices = [quote.price for quote in report.quotes]
        assert to_scaled(report.answers[BTC], 8) == to_scaled(lower_median(prices), 8)


@real_rounds
@pytest.mark.parametrize("row", STREAM_ROWS, ids=lambda row: row.name)
async def test_a_faulty_stream_ends_as_the_table_says_and_the_round_completes(row: StreamRow, real: Rounds) -> None:
    shown: dict[str, float] = {}  # by fetcher: how many messages the lost connection had brought

    def broken(ops: Ops) -> bool:
        if not row.lost:
            return up(real, ops, VICTIM)
        metric = "fairmark_streams_reconnects_total"
        if not any(real.found(ops, metric, source=VICTIM, reason=reason) for reason in row.lost):
            return False
        data = real.found(ops, "fairmark_streams_messages_total", source=VICTIM, heard="data")
        return row.price != (STREAMED,) or (up(real, ops, VICTIM) and data > shown.setdefault(ops.service, data))

    async with real.fetchers(SOURCES, streaming=POLICY) as every:
        if row.open_first:
            await until(lambda: all(up(real, ops, *SOURCES) for ops in every))
        async with real.fault(VICTIM, **row.fault):
            await until(lambda: all(up(real, ops, *SOUND) and broken(ops) for ops in every))
            seen = await real.round(every)
    assert seen.record.state is State.ACCEPTED, (seen.record.code, seen.record.detail)
    outcomes = seen.outcomes(VICTIM)
    assert set(outcomes) == set(FETCHERS)
    for ops in every:
        outcome = outcomes[ops.service]
        if row.price in {(REQUESTED,), (STREAMED,)}:
            assert isinstance(outcome, Quote), outcome
        else:
            assert isinstance(outcome, SourceFailure), outcome
            assert outcome.code in row.price, outcome
        assert requested(real, ops, VICTIM) == (1 if row.price == (REQUESTED,) else 0)
        assert [requested(real, ops, source) for source in SOUND] == [0, 0]
        if row.unused:
            assert real.found(ops, "fairmark_streams_reads_total", source=VICTIM, outcome=row.unused) > 0
    true = real.simulator.board.true_usd("BTC", seen.record.moment)
    assert abs(seen.record.answers[BTC].price - true) / true < Decimal("0.002")
