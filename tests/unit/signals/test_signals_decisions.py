"""A strategy as a reporter's source: one decision a slot for all who ask, and troubles as coded failures in time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal

import pytest

from core.clock import FixedClock
from core.reporting import Schedule, Trouble, TroubleCode
from core.types import FailureCode, Pair, SourceFailure
from signals.decisions import Decisions
from signals.producer import Made
from sources import Reading
from tests.support.wait import until

START_MS = 1_795_000_000_000
PERIOD_MS = 1_000
PAIR = Pair("RISK/INDEX")


class Strategy:
    """Decides what it is told to, in its order. slots: those it was asked for."""

    def __init__(self, *told: Made | None) -> None:
        self.told: Iterator[Made | None] = iter(told)
        self.slots: list[int] = []

    async def make(self, slot: int) -> Made:
        self.slots.append(slot)
        made = next(self.told)
        if made is None:
            await asyncio.Event().wait()
        assert made is not None
        return made


def well(value: str, data_ms: int = START_MS) -> Made:
    return Made(depends=(), value=Decimal(value), data_ms=data_ms)


def ill(code: TroubleCode) -> Made:
    return Made(depends=(), trouble=Trouble(who="gen-1", code=code, since_ms=START_MS - 5, detail="so it is"))


def decisions(strategy: Strategy, clock: FixedClock) -> Decisions:
    return Decisions("alpha", PAIR, Schedule(PERIOD_MS), strategy.make, clock)


async def asked(one: Decisions, seconds: float = 30.0) -> Reading | SourceFailure:
    return await one.fetch("alpha", PAIR, deadline=asyncio.get_running_loop().time() + seconds)


async def test_all_who_ask_during_a_slot_are_given_its_one_decision() -> None:
    clock, strategy = FixedClock(START_MS + 60), Strategy(well("1.25", START_MS - 7), well("2.50"))
    one = decisions(strategy, clock)
    first, second = await asyncio.gather(asked(one), asked(one))
    assert isinstance(first, Reading)
    assert isinstance(second, Reading)
    assert (first.ticker.last, first.ticker.time_ms, first.received_ms) == (
        Decimal("1.25"),
        START_MS - 7,
        START_MS + 60,
    )
    assert second.ticker == first.ticker
    clock.advance(PERIOD_MS - 11)  # the next slot has begun, and its signals may not have made their numbers
    held = await asked(one)
    assert isinstance(held, Reading)
    assert (held.ticker, held.received_ms) == (first.ticker, START_MS + 60)
    clock.advance(1)
    later = await asked(one)
    assert isinstance(later, Reading)
    assert later.ticker.last == Decimal("2.50")
    assert strategy.slots == [START_MS, START_MS + PERIOD_MS]


@pytest.mark.parametrize(
    ("trouble", "failure"),
    [
        (TroubleCode.UNREACHABLE, FailureCode.CONNECTION),
        (TroubleCode.OUTDATED, FailureCode.EXPIRED),
        (TroubleCode.INVALID, FailureCode.OUT_OF_RANGE),
        (TroubleCode.STOPPED, FailureCode.EMPTY),
        (TroubleCode.NO_QUORUM, FailureCode.EMPTY),
    ],
)
async def test_a_trouble_is_a_coded_failure_and_asking_again_tries_again(
    trouble: TroubleCode, failure: FailureCode
) -> None:
    one = decisions(Strategy(ill(trouble), well("3")), FixedClock(START_MS + 60))
    found = await asked(one)
    assert isinstance(found, SourceFailure)
    assert (found.code, found.source, found.pair) == (failure, "alpha", PAIR)
    assert found.detail == f"gen-1: {trouble} since {START_MS - 5}: so it is"
    assert one.last is not None
    assert one.last.trouble is not None
    again = await asked(one)
    assert isinstance(again, Reading)
    assert again.ticker.last == Decimal(3)


async def test_signals_that_hang_are_a_failure_in_time_and_known_by_what_was_wrong_before() -> None:
    one = decisions(Strategy(None), FixedClock(START_MS + 60))
    found = await asked(one, 0.05)
    assert isinstance(found, SourceFailure)
    assert (found.code, found.detail) == (FailureCode.TIMEOUT, "its signals have not answered in time")
    await one.close()
    other = decisions(Strategy(ill(TroubleCode.UNREACHABLE), None), FixedClock(START_MS + 60))
    await asked(other)
    found = await asked(other, 0.05)
    assert isinstance(found, SourceFailure)
    assert (found.code, found.detail[:6]) == (FailureCode.CONNECTION, "gen-1:")
    await other.close()


async def test_it_decides_at_the_start_of_a_slot_though_nobody_asks() -> None:
    strategy = Strategy(well("1"))
    one = decisions(strategy, FixedClock(START_MS + 60))
    running = asyncio.create_task(one.run())
    try:
        await until(lambda: one.last, within_s=30)
    finally:
        running.cancel()
    assert strategy.slots == [START_MS]
    assert one.last == well("1")
