"""Keeps one channel open and set up, for ever: what a publisher or a subscription stands on."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from broker.errors import BrokerError
from broker.link import STEADY_S, Channel, Link, backoff_s
from core.logs import Logger

SetUp = Callable[[Channel], Awaitable[None]]


class Keeper:
    """Opens a channel, runs `set_up` on it, and does both again whenever the channel or its connection ends.

    ready: set while a channel is set up; `channel` is that channel.
    """

    def __init__(self, link: Link, set_up: SetUp, log: Logger, rng: random.Random) -> None:
        self.ready = asyncio.Event()
        self.channel: Channel | None = None
        self._link = link
        self._set_up = set_up
        self._log = log
        self._rng = rng
        self._task: asyncio.Task[None] | None = None
        self._first: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Return when the first channel is set up. Raises what the first attempt raised."""
        first = self._first = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep(), name="broker-keeper")
        try:
            await first
        except BaseException:
            await self.release()
            raise

    async def release(self) -> Channel | None:
        """Stop keeping. Returns the channel, still open if it was: closing it is the caller's."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self.ready.clear()
        channel, self.channel = self.channel, None
        return channel

    async def _keep(self) -> None:
        failures = 0
        while True:
            await self._link.up.wait()
            since = time.monotonic()
            try:
                await self._once()
            except BrokerError as error:
                if self._first and not self._first.done():
                    self._first.set_exception(error)
                    return
                failures = 0 if time.monotonic() - since > STEADY_S else failures + 1
                self._log.warning("broker_channel_lost", code=error.code, detail=str(error))
            await asyncio.sleep(backoff_s(self._rng, failures))

    async def _once(self) -> None:
        channel = await self._link.open_channel()
        try:
            await self._set_up(channel)
        except BaseException:
            await channel.close()
            raise
        self.channel = channel
        self.ready.set()
        if self._first and not self._first.done():
            self._first.set_result(None)
        await asyncio.wait([channel.closed])
        self.ready.clear()
        self.channel = None
        raise channel.closed.result()
