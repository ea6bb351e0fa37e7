"""Who shares an attempt.

One attempt of a group is open at a time, and one more may be queued behind it for all who come too late for it. Every
attempt costs gas, and anybody may ask for one: so those that requests cause keep a least interval, and all who ask
within it share the attempt that starts at its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aggregator.attempts import AttemptRecord, Cause
from aggregator.engine import Engine
from aggregator.errors import StoppingError, TooManyWaitingError
from aggregator.metrics import Metrics
from aggregator.running import Running, joins

MAX_WAITING = 5_000


class Desk:
    """Where requests for one group's attempts are taken."""

    def __init__(
        self, engine: Engine, metrics: Metrics, on_open: Callable[[Running], None], min_interval_ms: int = 0
    ) -> None:
        """on_open: called with each attempt when it is made; its `done` tells when it has ended.

        min_interval_ms: from the start of the group's last attempt, whatever caused it, to the start of one that
        requests cause. Heartbeats and deviations do not wait.
        """
        self.engine = engine
        self.waiting = 0
        self._metrics = metrics
        self._on_open = on_open
        self._open: Running | None = None
        self._next: Running | None = None
        self._last: Running | None = None
        self._task: asyncio.Task[None] | None = None
        self._min_interval_s = min_interval_ms / 1000
        self._started: float | None = None  # the last attempt, on the event loop's clock
        self._urgent = False  # the queued attempt is not, or not only, for requests
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = False

    @property
    def open(self) -> Running | None:
        """The attempt that runs now."""
        return self._open

    def request(self, arrived_ms: int, cause: Cause) -> Running:
        """The attempt that serves a request: an open one that it joins, or a new one, now or next.

        Raises `StoppingError` or `TooManyWaitingError`.
        """
        name = self.engine.group.name
        if self._stopping:
            raise StoppingError("this aggregator is stopping")
        if self.waiting >= MAX_WAITING:
            raise TooManyWaitingError(f"{self.waiting} requests wait for group {name}")
        running, how = self._serve(arrived_ms, cause)
        running.arrived_ms = max(running.arrived_ms, arrived_ms)
        if cause is Cause.REQUEST:
            self._metrics.requests.labels(name, how).inc()
        return running

    def _serve(self, arrived_ms: int, cause: Cause) -> tuple[Running, str]:
        if self._open is not None:
            if joins(self._open.record, arrived_ms):
                return self._open, "joined"
            return self._queue(cause), "queued"
        if self._last is not None and joins(self._last.record, arrived_ms):
            return self._last, "joined"
        running = self._queue(cause)
        self._start_queued()
        return running, "started" if running is self._open else "queued"

    def _queue(self, cause: Cause) -> Running:
        """The attempt that is queued, or a new one."""
        if self._next is None:
            self._next = self._prepare(cause)
        self._urgent = self._urgent or cause is not Cause.REQUEST
        return self._next

    async def wait(self, running: Running, timeout_s: float) -> AttemptRecord:
        """The attempt's record when it has ended, or as it is after `timeout_s`."""
        self.waiting += 1
        self._metrics.waiting.labels(self.engine.group.name).set(self.waiting)
        try:
            await asyncio.wait([running.done], timeout=timeout_s)
        finally:
            self.waiting -= 1
            self._metrics.waiting.labels(self.engine.group.name).set(self.waiting)
        return running.record

    async def stop(self, timeout_s: float) -> None:
        """Take no more requests, drop the queued attempt, let the open one end, at most `timeout_s`; then end it."""
        self._stopping = True
        queued, self._next = self._next, None
        self._cancel_timer()
        if queued is not None:
            queued.done.set_result(self.engine.retire(queued))
        task = self._task
        if task is None:
            return
        await asyncio.wait([task], timeout=timeout_s)
        if not task.done():
            task.cancel()
            await asyncio.wait([task])

    def _prepare(self, cause: Cause) -> Running:
        running = self.engine.prepare(cause)
        self._on_open(running)
        return running

    def _start_queued(self) -> None:
        """Start the queued attempt, if there is one: now, or as soon as its interval is over."""
        if (running := self._next) is None:
            return
        self._cancel_timer()
        loop = asyncio.get_running_loop()
        now = loop.time()
        starts = now if self._urgent or self._started is None else self._started + self._min_interval_s
        if starts > now:
            self._timer = loop.call_at(starts, self._start_queued)
            return
        self._next, self._urgent = None, False
        self._open, self._started = running, now
        self._task = asyncio.create_task(self._run(running), name=f"attempt:{running.id}")

    async def _run(self, running: Running) -> None:
        try:
            await self.engine.run(running)
        finally:
            self._last, self._open = running, None
            if not running.done.done():
                running.done.set_result(running.record)
            self._start_queued()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
