"""Who goes first, who waits, and who is told at once that there is no hope."""

from __future__ import annotations

import asyncio

import pytest

from core.types import FailureCode
from sources.errors import NoRoomError, NotItsFaultError
from sources.limit_entries import LimitFormat
from sources.limits import Priority, RateLimit
from sources.window import Window

JOB, HINT, PROBE = Priority.JOB, Priority.HINT, Priority.PROBE


def soon(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def went(limit: RateLimit, order: list[str], name: str, priority: Priority, within_s: float = 5) -> None:
    await limit.take(1, priority, soon(within_s))
    order.append(name)


async def test_more_urgent_requests_go_first_and_equals_in_order_of_arrival() -> None:
    limit, order = RateLimit(Window(2, 0.2)), list[str]()
    await limit.take(2, JOB, soon(1))
    wanted = [("probe", PROBE), ("hint", HINT), ("job 1", JOB), ("job 2", JOB)]
    tasks = []
    for name, priority in wanted:
        tasks.append(asyncio.create_task(went(limit, order, name, priority)))
        await asyncio.sleep(0)
    await asyncio.wait(tasks)
    assert order == ["job 1", "job 2", "hint", "probe"]
    assert limit.waiting == 0


async def test_one_who_comes_later_does_not_pass_an_equal_who_waits() -> None:
    limit, order = RateLimit(Window(3, 0.2)), list[str]()
    await limit.take(2, JOB, soon(1))

    async def heavy() -> None:
        await limit.take(3, JOB, soon(5))
        order.append("heavy")

    tasks = [asyncio.create_task(heavy())]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(went(limit, order, "light", JOB)))
    await asyncio.wait(tasks)
    assert order == ["heavy", "light"]


async def test_a_request_without_hope_before_its_deadline_is_refused_at_once() -> None:
    limit = RateLimit(Window(1, 10.0))
    await limit.take(1, JOB, soon(1))
    started = soon(0)
    with pytest.raises(NoRoomError, match="its limit of 1 in 10 s is used up for") as caught:
        await limit.take(1, JOB, soon(5))
    assert soon(0) - started < 0.5
    assert caught.value.failure is FailureCode.RATE_LIMITED


async def test_those_ahead_are_reckoned_with() -> None:
    limit = RateLimit(Window(1, 0.4))
    await limit.take(1, JOB, soon(1))
    first = asyncio.create_task(limit.take(1, JOB, soon(5)))
    await asyncio.sleep(0)
    with pytest.raises(NoRoomError):
        await limit.take(1, JOB, soon(0.6))
    await first


async def test_a_full_queue_drops_its_last_for_one_more_urgent_and_refuses_others() -> None:
    limit = RateLimit(Window(2, 0.3), most_waiting=2)
    await limit.take(2, JOB, soon(1))
    waiting = [asyncio.create_task(limit.take(1, priority, soon(9))) for priority in (HINT, PROBE)]
    await asyncio.sleep(0)
    with pytest.raises(NoRoomError, match="2 requests wait"):
        await limit.take(1, PROBE, soon(9))
    job = asyncio.create_task(limit.take(1, JOB, soon(9)))
    with pytest.raises(NoRoomError, match="more urgent requests took its place"):
        await waiting[1]
    await job
    await waiting[0]


async def test_hints_and_probes_leave_room_for_a_job() -> None:
    limit = RateLimit(Window(10, 30.0))
    for priority, share in ((PROBE, 5), (HINT, 3), (JOB, 2)):
        for _ in range(share):
            await limit.take(1, priority, soon(0.1))
        with pytest.raises(NoRoomError):
            await limit.take(1, priority, soon(0.1))


async def test_one_who_gives_up_does_not_hold_up_the_others() -> None:
    limit, order = RateLimit(Window(1, 0.2)), list[str]()
    await limit.take(1, JOB, soon(1))
    first = asyncio.create_task(went(limit, order, "first", JOB))
    second = asyncio.create_task(went(limit, order, "second", JOB))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first, second])
    assert order == ["second"]
    assert limit.waiting == 0


async def test_one_who_is_overtaken_ends_at_his_deadline() -> None:
    limit = RateLimit(Window(1, 0.3))
    await limit.take(1, JOB, soon(1))
    hint = asyncio.create_task(limit.take(1, HINT, soon(0.5)))
    await asyncio.sleep(0)
    await limit.take(1, JOB, soon(1))
    with pytest.raises(NoRoomError, match="more urgent requests went before it"):
        await hint


async def test_a_rest_ends_all_who_wait_and_nobody_goes_until_it_is_over() -> None:
    limit, order = RateLimit(Window(2, 0.2)), list[str]()
    await limit.take(2, JOB, soon(1))
    waiting = [asyncio.create_task(went(limit, order, str(priority), priority)) for priority in (JOB, JOB, HINT, PROBE)]
    await asyncio.sleep(0)
    assert limit.waiting == 4
    limit.rest(soon(0.6), FailureCode.SERVER_ERROR)
    found = await asyncio.gather(*waiting, return_exceptions=True)
    for each in found:
        assert isinstance(each, NotItsFaultError)
        assert each.failure is FailureCode.SERVER_ERROR
        assert 0 < each.retry_after_s <= 0.6
    assert limit.waiting == 0
    await asyncio.sleep(0.3)  # the window has room again
    with pytest.raises(NotItsFaultError, match="asked for a rest of"):
        await limit.take(1, JOB, soon(5))
    await asyncio.sleep(0.4)
    await limit.take(1, JOB, soon(1))
    assert order == []


async def test_a_rest_that_begins_in_the_very_turn_in_which_one_may_go_holds_for_it() -> None:
    limit, order = RateLimit(Window(1, 0.2)), list[str]()
    await limit.take(1, JOB, soon(1))
    waiting = asyncio.create_task(went(limit, order, "late", JOB))
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()

    def rest_once_it_is_its_turn() -> None:
        if limit.waiting:
            loop.call_soon(rest_once_it_is_its_turn)
        else:
            limit.rest(soon(30), FailureCode.RATE_LIMITED)

    rest_once_it_is_its_turn()
    with pytest.raises(NotItsFaultError, match="asked for a rest of"):
        await waiting
    assert order == []


def test_a_shorter_rest_does_not_undo_a_longer_one() -> None:
    limit = RateLimit(Window(10, 1.0))
    limit.rest(100.0, FailureCode.RATE_LIMITED)
    limit.rest(50.0, FailureCode.SERVER_ERROR)
    assert limit.resting(40.0) == (60.0, FailureCode.RATE_LIMITED)
    assert limit.left(99.0) == 0
    assert limit.resting(100.0)[0] == 0
    assert limit.left(100.0) == 10


def test_a_request_that_weighs_more_than_a_window_is_no_declaration() -> None:
    with pytest.raises(ValueError, match="weighs more than a whole window"):
        LimitFormat(weight=10, window_s=1, ticker=1, batch=11)
    assert LimitFormat(weight=10, window_s=1, ticker=2).batch_weight == 2
