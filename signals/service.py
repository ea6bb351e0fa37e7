"""The trader as a service: its registry, its feeds, its interface."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from core.clock import Clock, rfc3339
from core.errors import LockTakenError, StoreUnavailableError
from core.logs import Logger
from core.ops import Ops
from signals.api import build_app
from signals.errors import FeedsInErrorError
from signals.metrics import TraderMetrics
from signals.registry import Registry, SignalFeed
from signals.trader import FeedState, Trader

if TYPE_CHECKING:
    # they import SQLAlchemy, and reporters need none
    from core.documents import Documents
    from core.locks import ProcessLock

LOOK_S = 1.0
"""Between looks at the lock, and at a store that is not there."""


class TraderService:
    """Serve `app` (with `core.ops.serve`) while `run` runs.

    documents: opened and closed here. lock: on the register, so that one trader runs on it at a time; taken and given
    back here.

    Raises `CyclicFeedsError` where feeds follow one another in a circle.
    """

    def __init__(
        self,
        *,
        name: str,
        feeds: Mapping[str, SignalFeed],
        documents: Documents,
        lock: ProcessLock,
        clock: Clock,
        ops: Ops,
        logger: Logger,
        token: str,
    ) -> None:
        self._documents = documents
        self._lock = lock
        self._ops = ops
        self._log = logger
        metrics = TraderMetrics(ops.registry)
        self.registry = Registry(name, feeds, documents, clock)
        self.trader = Trader(self.registry, documents, clock, metrics, logger)
        ops.depend("store", documents.ping)
        ops.depend("feeds", self._check, required=False)
        ops.set_not_ready("the register was not read yet")
        self.app = build_app(trader=self.trader, ops=ops, metrics=metrics, clock=clock, token=token)

    async def run(self) -> None:
        """Publish until cancelled. A store that is not there yet is waited for, and so is another trader's end."""
        try:
            while True:
                await self._begin()
                await self._publish()
        finally:
            self._ops.set_not_ready("stopping")
            await self._lock.release()
            await self._documents.close()

    async def _begin(self) -> None:
        waiting = ""
        while True:
            try:
                await self._documents.open()
                await self._lock.hold()
                await self.trader.load()
                await self.registry.load()
                break
            except StoreUnavailableError as error:
                what, why = "the store", str(error)
            except LockTakenError as error:
                what, why = "the other trader", f"another trader runs on this register ({error})"
            self._ops.set_not_ready(why)
            if what != waiting:
                self._log.warning("waiting", what=what, error=why)
            waiting = what
            await asyncio.sleep(LOOK_S)
        self._ops.set_ready()
        self._log.info("trader_ready", feeds=sorted(self.registry.feeds))

    async def _publish(self) -> None:
        """Until another trader has the register: the lock goes where the database is started anew."""
        running = asyncio.create_task(self.trader.run(), name="trader")
        try:
            while not (await asyncio.wait({running}, timeout=LOOK_S))[0]:
                try:
                    await self._lock.hold()
                except LockTakenError as error:
                    self._log.error("register_lost", error=str(error))
                    return
                except StoreUnavailableError:
                    continue  # nothing is taken meanwhile: it could not be kept
            await running
        finally:
            self.registry.forget()
            running.cancel()
            await asyncio.wait({running})

    async def _check(self) -> str:
        said = []
        for look in self.trader.looks():
            if look.state is FeedState.ERROR:
                one = look.standing.troubles[0]
                raise FeedsInErrorError(f"{look.feed.name}: {one.who}: {one.code} since {rfc3339(one.since_ms)}")
            said.append(f"{look.feed.name}: {look.state}")
        return "; ".join(said)
