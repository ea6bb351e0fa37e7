"""The trader as a service: its registry, its feeds, its interface."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from core.clock import Clock, rfc3339
from core.errors import StoreUnavailableError
from core.logs import Logger
from core.ops import Ops
from signals.api import build_app
from signals.errors import FeedsInErrorError
from signals.metrics import TraderMetrics
from signals.registry import Registry, SignalFeed
from signals.trader import FeedState, Trader

if TYPE_CHECKING:
    from core.documents import Documents  # it imports SQLAlchemy, and reporters need none


class TraderService:
    """Serve `app` (with `core.ops.serve`) while `run` runs. documents: opened and closed here.

    Raises `CyclicFeedsError` where feeds follow one another in a circle.
    """

    def __init__(
        self,
        *,
        name: str,
        feeds: Mapping[str, SignalFeed],
        documents: Documents,
        clock: Clock,
        ops: Ops,
        logger: Logger,
        token: str,
    ) -> None:
        self._documents = documents
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
        """Publish until cancelled. A store that is not there yet is waited for."""
        try:
            while True:
                try:
                    await self._documents.open()
                    await self.trader.load()
                    await self.registry.load()
                    break
                except StoreUnavailableError as error:
                    self._ops.set_not_ready(str(error))
                    self._log.warning("waiting", what="the store", error=str(error))
                    await asyncio.sleep(1)
            self._ops.set_ready()
            self._log.info("trader_ready", feeds=sorted(self.registry.feeds))
            await self.trader.run()
        finally:
            self._ops.set_not_ready("stopping")
            await self._documents.close()

    async def _check(self) -> str:
        said = []
        for look in self.trader.looks():
            if look.state is FeedState.ERROR:
                one = look.standing.troubles[0]
                raise FeedsInErrorError(f"{look.feed.name}: {one.who}: {one.code} since {rfc3339(one.since_ms)}")
            said.append(f"{look.feed.name}: {look.state}")
        return "; ".join(said)
