"""Who may ask one exchange, and when: one limit for all its pairs, with priorities, and a queue that never grows long.

A request that fits into the exchange's window goes at once. One that does not waits its turn: jobs before hints before
probes, and within these in order of arrival. One that could not go before its deadline is refused at once, so that
another source is asked instead; so is the last in a queue that is full, and so are all while the exchange rests, those
that wait already among them. Hints and probes leave a part of the window
unused, so that a job that comes after them is not kept waiting by what nobody waits for.

aiolimiter, limits and their like know neither priorities nor deadlines, and let twice a window's weight through where
the exchange's window begins in the middle of ours.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from enum import IntEnum

from msgspec import Struct

from core.types import FailureCode
from sources.errors import NoRoomError, NotItsFaultError
from sources.window import Window

MOST_WAITING = 64


class Priority(IntEnum):
    """Who asks: an attempt that clients wait for, a sample between rounds, or the pool itself."""

    JOB = 0
    HINT = 1
    PROBE = 2


SHARES = {Priority.JOB: 1.0, Priority.HINT: 0.8, Priority.PROBE: 0.5}
"""How much of a window each may fill."""


class _Waiting(Struct, order=True):
    priority: Priority
    number: int
    weight: int
    go: asyncio.Future[None]


class RateLimit:
    """One exchange's limit, shared by all that ask it. Use it on one event loop."""

    def __init__(self, window: Window, most_waiting: int = MOST_WAITING) -> None:
        self.window = window
        self._most = most_waiting
        self._waiting: list[_Waiting] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        # the longest rest that any answer asked for, and what that answer was
        self._rest_until = 0.0
        self._rest_after = FailureCode.RATE_LIMITED

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return len(self._waiting)

    def left(self, now: float) -> int:
        """Weight that a job may send at once; 0 while the exchange rests."""
        return 0 if now < self._rest_until else self.window.left(now)

    def resting(self, now: float) -> tuple[float, FailureCode]:
        """Seconds of the rest that the exchange asked for, 0 where there is none; and the failure that began it."""
        return max(0.0, self._rest_until - now), self._rest_after

    def rest(self, until: float, after: FailureCode) -> None:
        """The exchange asks to be left alone, also by those who wait. A shorter rest does not undo a longer one."""
        if until <= self._rest_until:
            return
        self._rest_until, self._rest_after = until, after
        waiting, self._waiting = self._waiting, []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for each in waiting:
            if not each.go.done():
                each.go.set_exception(self._at_rest(asyncio.get_running_loop().time()))
                each.go.exception()  # seen: one who is cancelled in this very turn never fetches it

    async def take(self, weight: int, priority: Priority, deadline: float) -> None:
        """Return when a request of `weight` may be sent. Raises `NoRoomError`, at once where there is no
        hope, and `NotItsFaultError` where the exchange rests, or begins to before it is sent."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now < self._rest_until:
            raise self._at_rest(now)
        if not (self._waiting and self._waiting[0].priority <= priority) and self._fits(weight, priority, now):
            return
        due = self.window.when(weight, now, SHARES[priority], self._ahead(priority))
        if due > deadline:
            allowed = f"{self.window.allowed(now)} in {self.window.window_s:g} s"
            raise NoRoomError(f"its limit of {allowed} is used up for {due - now:.1f} s")
        mine = _Waiting(priority, next(self._numbers), weight, loop.create_future())
        if len(self._waiting) >= self._most:
            last = max(self._waiting)
            if last < mine:
                raise NoRoomError(f"{self._most} requests wait for its limit already")
            self._leave(last)
            last.go.set_exception(NoRoomError("more urgent requests took its place"))
        heapq.heappush(self._waiting, mine)
        self._set_timer()
        try:
            async with asyncio.timeout_at(deadline):
                await mine.go
        except TimeoutError:
            raise NoRoomError("more urgent requests went before it") from None
        finally:
            self._leave(mine)
        if (now := loop.time()) < self._rest_until:  # begun between its turn and now; its weight stays counted
            raise self._at_rest(now)

    def _at_rest(self, now: float) -> NotItsFaultError:
        rest = self._rest_until - now
        return NotItsFaultError(self._rest_after, f"it asked for a rest of {rest:.1f} s more", retry_after_s=rest)

    def _fits(self, weight: int, priority: Priority, now: float) -> bool:
        return self.window.take(weight, now, SHARES[priority])

    def _ahead(self, priority: Priority) -> int:
        return sum(each.weight for each in self._waiting if each.priority <= priority)

    def _leave(self, one: _Waiting) -> None:
        if one in self._waiting:
            self._waiting.remove(one)
            heapq.heapify(self._waiting)
            self._set_timer()

    def _go_on(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._waiting and self._fits(self._waiting[0].weight, self._waiting[0].priority, now):
            each = heapq.heappop(self._waiting)
            if each.go.done():
                continue
            each.go.set_result(None)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            loop = asyncio.get_running_loop()
            first = self._waiting[0]
            due = self.window.when(first.weight, loop.time(), SHARES[first.priority])
            self._timer = loop.call_at(max(due, loop.time() + 0.001), self._go_on)
