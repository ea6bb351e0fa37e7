"""A reporter's life against a real trader's interface: in any order, through losses, to its leaving."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal

import httpx
import pytest

from contracts.report import LocalSigner
from core.clock import SystemClock
from core.errors import CyclicFeedsError
from core.logs import get_logger
from core.reporting import Schedule
from core.types import Mode
from signals.client import TraderClient
from signals.producer import Made, Producer
from tests.support.signals import TOKEN, Desk, feed
from tests.support.wait import until

PERIOD_MS = 200
KEY = "0x" + "33" * 32


class Line:
    """The wire between a reporter and its trader, which can be cut."""

    def __init__(self, desk: Desk) -> None:
        self.inner = httpx.ASGITransport(app=desk.service.app)
        self.cut = False
        self.to_lose = 0
        self.codes: list[str] = []

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if self.cut:
            raise httpx.ConnectError("cut")
        response = await self.inner.handle_async_request(request)
        await response.aread()
        if self.to_lose:
            self.to_lose -= 1
            raise httpx.ReadError("lost")
        self.codes.append("taken" if response.is_success else response.json()["code"])
        return httpx.Response(response.status_code, content=response.content)


def live_desk() -> Desk:
    return Desk(feed(schedule=Schedule(PERIOD_MS), max_age_ms=60_000), clock=SystemClock())  # type: ignore[arg-type]


def producer(line: Line, make: Callable[[int], Awaitable[Made]], instance: str = "one") -> Producer:
    http = httpx.AsyncClient(transport=httpx.MockTransport(line.answer))
    return Producer(
        to="trader",
        feed="decision",
        name="alpha",
        instance=instance,
        schedule=Schedule(PERIOD_MS),
        make=make,
        client=TraderClient("http://trader", LocalSigner(KEY), TOKEN, http, timeout_s=1),
        clock=SystemClock(),
        chance=lambda: 0.5,
        logger=get_logger("alpha", Mode.TEST),
    )


async def half(slot: int) -> Made:
    return Made(depends=("gen",), value=Decimal("0.5"), data_ms=slot)


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def has(desk: Desk, state: str) -> bool:
    registry = desk.service.registry
    return any(registry.condition(one, desk.clock.now_ms()).state == state for one in registry.of("decision"))


async def test_it_registers_produces_each_slot_and_leaves_when_stopped() -> None:
    desk = live_desk()
    slots: list[int] = []

    async def make(slot: int) -> Made:
        slots.append(slot)
        return await half(slot)

    task = asyncio.create_task(producer(Line(desk), make).run())
    await until(lambda: len(slots) >= 4)
    await ended(task)
    assert all(slot % PERIOD_MS == 0 for slot in slots)
    assert sorted(set(slots)) == slots
    assert await desk.states() == {"alpha": "deregistered"}


async def test_a_trader_that_comes_late_or_goes_away_is_waited_for() -> None:
    desk = live_desk()
    line = Line(desk)
    line.cut = True
    task = asyncio.create_task(producer(line, half).run())
    await asyncio.sleep(0.3)
    assert await desk.states() == {}
    line.cut = False
    await until(lambda: has(desk, "running"))
    line.cut = True
    await until(lambda: has(desk, "stopped"))
    line.cut = False
    await until(lambda: has(desk, "running"))
    await ended(task)


async def test_a_trader_that_lost_its_register_is_told_again() -> None:
    desk = live_desk()
    task = asyncio.create_task(producer(Line(desk), half).run())
    await until(lambda: has(desk, "running"))
    desk.service.registry._reporters.clear()
    await until(lambda: has(desk, "running"))
    await ended(task)


async def test_a_lost_acknowledgement_is_no_failure() -> None:
    desk = live_desk()
    line = Line(desk)
    one = producer(line, half)
    task = asyncio.create_task(one.run())
    await until(lambda: has(desk, "running"))

    def retried() -> bool:
        if line.codes[-1:] == ["taken"]:  # on a busy machine the slot may have ended before the retry: once more
            line.codes.clear()
            line.to_lose = 1
        return "already_produced" in line.codes

    await until(retried)
    await until(lambda: one.refused is None)
    await ended(task)


async def test_taken_off_by_hand_it_stays_off_until_put_back() -> None:
    desk = live_desk()
    one = producer(Line(desk), half)
    task = asyncio.create_task(one.run())
    await until(lambda: has(desk, "running"))
    await desk.by_hand("deregister", "alpha")
    await until(lambda: one.refused is not None)
    await asyncio.sleep(2 * PERIOD_MS / 1000)
    assert has(desk, "deregistered")
    await desk.by_hand("register", "alpha")
    await until(lambda: has(desk, "running"))
    await ended(task)


async def test_a_crash_says_nothing_and_a_new_start_returns() -> None:
    desk = live_desk()
    line = Line(desk)
    task = asyncio.create_task(producer(line, half).run())
    await until(lambda: has(desk, "running"))
    line.cut = True  # a crash: nothing more comes
    await ended(task)
    line.cut = False
    await until(lambda: has(desk, "stopped"))
    again = asyncio.create_task(producer(line, half, instance="two").run())
    await until(lambda: has(desk, "running"))
    await ended(again)


async def test_an_instance_that_ends_takes_no_other_off() -> None:
    """As in a rolling update: the new one runs before the old one is stopped; or the new one is given up."""
    desk = live_desk()
    old = asyncio.create_task(producer(Line(desk), half, instance="old").run())
    await until(lambda: has(desk, "running"))
    line = Line(desk)
    one = producer(line, half, instance="new")
    new = asyncio.create_task(one.run())
    await until(lambda: "taken" in line.codes)
    await ended(old)
    assert not has(desk, "deregistered")
    await until(lambda: has(desk, "running") and line.codes[-2:] == ["taken", "taken"])

    given_up = asyncio.create_task(producer(other := Line(desk), half, instance="newer").run())
    await until(lambda: "taken" in other.codes)
    await ended(given_up)
    await until(lambda: has(desk, "running") and one.refused is None)
    await ended(new)
    assert has(desk, "deregistered")


async def test_a_circle_ends_it() -> None:
    async def circular(slot: int) -> Made:
        return Made(depends=("trader/decision",), value=Decimal(0), data_ms=slot)

    with pytest.raises(CyclicFeedsError, match="made of trader/decision"):
        await producer(Line(live_desk()), circular).run()
