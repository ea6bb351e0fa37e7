"""Word of attempts that have ended, wherever they ran: PostgreSQL's LISTEN and NOTIFY, with looking as what is left."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress

from sqlalchemy.engine import URL

from core.sessions import FAULTS, connected

CHANNEL = "fairmark_attempts"
AGAIN_S = 1.0


class Listener:
    """Hears the ids that are notified on `CHANNEL`. Where it hears nothing, whoever waits looks when his time is up."""

    def __init__(self, url: URL, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._waiting: defaultdict[str, list[asyncio.Event]] = defaultdict(list)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="listener")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def heard(self, attempt: str, timeout_s: float) -> None:
        """Return when the attempt was spoken of, or after `timeout_s`."""
        event = asyncio.Event()
        self._waiting[attempt].append(event)
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting[attempt].remove(event)
            if not self._waiting[attempt]:
                del self._waiting[attempt]

    async def _run(self) -> None:
        while True:
            with suppress(*FAULTS):
                await self._listen()
            await asyncio.sleep(AGAIN_S)

    async def _listen(self) -> None:
        """Until the connection ends."""
        ended = asyncio.Event()
        async with asyncio.timeout(self._timeout_s):
            connection = await connected(self._url, "listener")
        try:
            connection.add_termination_listener(lambda _: ended.set())
            async with asyncio.timeout(self._timeout_s):
                await connection.add_listener(CHANNEL, self._on_word)
            await ended.wait()
        finally:
            connection.terminate()

    def _on_word(self, _connection: object, _process: int, _channel: str, attempt: object) -> None:
        for event in self._waiting.get(str(attempt), ()):
            event.set()
