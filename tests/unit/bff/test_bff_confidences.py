"""What the aggregator tells of the sources behind an answer, beside what the chain tells of its reporters."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from bff.chain_reader import ChainReader
from bff.confidences import Confidences
from bff.documents import PriceStatus
from bff.errors import AggregatorUnavailableError
from bff.metrics import BffMetrics
from bff.prices import view
from bff.upstream import RoundConfidence
from core.clock import FixedClock
from core.logs import get_logger
from core.types import Mode
from tests.support.bff import BTC, MAJORS, NOW_MS, FakeChain, answer, reading
from tests.support.wait import until

WANTING = msgspec.structs.replace(
    MAJORS, feeds=tuple(msgspec.structs.replace(feed, wanted_contributors=4) for feed in MAJORS.feeds)
)


@pytest.mark.parametrize(
    ("contributors", "told", "status", "sure"),
    [
        (4, None, PriceStatus.OK, 1.0),
        (4, "1", PriceStatus.OK, 1.0),
        (4, "0.66", PriceStatus.DEGRADED, 0.66),
        (3, "0.66", PriceStatus.DEGRADED, 0.66),
        (3, "1", PriceStatus.DEGRADED, 0.75),
    ],
)
def test_the_lesser_of_both_counts(contributors: int, told: str | None, status: PriceStatus, sure: float) -> None:
    known = Confidences()
    if told is not None:
        known.note(NOW_MS, {BTC: Decimal(told)})
    one = reading(7, answer(observed_ms=NOW_MS, contributors=contributors))
    seen = view(WANTING, one, mode=Mode.TEST, received_ms=NOW_MS, transactions={}, confidences=known)
    document = seen.standing[BTC].at(NOW_MS)
    assert (document.status, document.confidence) == (status, sure)


def test_what_was_told_of_another_round_says_nothing_of_this_one() -> None:
    known = Confidences()
    known.note(NOW_MS - 10, {BTC: Decimal("0.5")})
    assert known.of(BTC, NOW_MS) is None
    assert known.of(BTC, NOW_MS - 10) == Decimal("0.5")


def test_a_round_is_asked_for_until_it_is_known_and_no_more_than_three_times() -> None:
    known = Confidences()
    assert [known.wants(10) for _ in range(5)] == [True, True, True, False, False]
    assert [known.wants(20), known.wants(30)] == [True, True]
    known.note(30, {BTC: Decimal(1)})
    assert not known.wants(30)
    assert not known.wants(0)


async def test_the_reader_asks_for_each_new_round_and_goes_on_without_an_answer() -> None:
    asked: list[tuple[str, int]] = []

    async def tell(group: str, round_: int) -> RoundConfidence:
        asked.append((group, round_))
        if len(asked) == 1:
            raise AggregatorUnavailableError("down")
        return RoundConfidence(moment=NOW_MS - 1_001, feeds={BTC: Decimal("0.66")})

    chain = FakeChain()
    reader = ChainReader(
        chain,
        (MAJORS,),
        mode=Mode.TEST,
        clock=FixedClock(NOW_MS),
        poll_ms=10,
        metrics=BffMetrics(CollectorRegistry()),
        logger=get_logger("bff", Mode.TEST),
        told=tell,
    )
    running = asyncio.create_task(reader.run())
    try:
        await until(lambda: len(asked) == 2)

        def sure() -> float:
            seen = reader.view("majors")
            assert seen is not None
            return seen.standing[BTC].at(NOW_MS).confidence

        await until(lambda: sure() == 0.66)
        assert set(asked) == {("majors", 7)}
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
