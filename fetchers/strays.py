"""Requests that were outrun: nobody waits for them, and they run on, so that how long a source really takes is learnt.

One that is called off tells nothing of its source: a fetcher that cancels whoever is late never finds out how late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

MOST = 64
"""Under way at once; the oldest is called off for a new one beyond this."""


class Strays:
    """Those of one fetcher. `close` it on the event loop that uses it."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._tasks: dict[asyncio.Task[Any], asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def leave(self, tasks: Iterable[asyncio.Task[Any]], until: float) -> None:
        """Let `tasks` run on, until `until` (the event loop's time) at the latest."""
        loop = asyncio.get_running_loop()
        for task in tasks:
            if len(self._tasks) >= self._most:
                next(iter(self._tasks)).cancel()
                self._over(next(iter(self._tasks)))
            self._tasks[task] = loop.call_at(until, task.cancel)
            task.add_done_callback(self._over)

    async def close(self) -> None:
        """Call all of them off."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _over(self, task: asyncio.Task[Any]) -> None:
        timer = self._tasks.pop(task, None)
        if timer is not None:
            timer.cancel()
