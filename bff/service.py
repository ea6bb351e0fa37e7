"""The BFF as a service: built from what it depends on, run until cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx
from fastapi import FastAPI

from bff.app import build_app
from bff.catalogue import Catalogue
from bff.chain_reader import ChainReader
from bff.edges import ChainEdge
from bff.metrics import BffMetrics
from bff.refresh import Refresher
from bff.routes.attempts import attempts_router
from bff.routes.feeds import feeds_router
from bff.routes.prices import prices_router
from bff.upstream import HttpAggregator
from core.clock import Clock
from core.logs import Logger, get_logger
from core.ops import Ops
from core.settings import BffSettings
from core.types import Group, Mode


class BffService:
    """Serve `app` (with `core.ops.serve`) while `run` runs.

    chain: `contracts.client.OracleClient`, or anything with its two reads; it is not closed here. token: the bearer
    token that the aggregator asks for. transport: where requests to the aggregator go; tests give their own.
    """

    def __init__(
        self,
        *,
        settings: BffSettings,
        groups: Sequence[Group],
        chain: ChainEdge,
        mode: Mode,
        clock: Clock,
        ops: Ops,
        token: str,
        logger: Logger | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        log = logger or get_logger("bff", mode)
        metrics = BffMetrics(ops.registry)
        catalogue = Catalogue(groups)
        self._ops = ops
        self._log = log
        self.reader = ChainReader(
            chain, groups, mode=mode, clock=clock, poll_ms=settings.poll_ms, metrics=metrics, logger=log
        )
        self.aggregator = HttpAggregator(settings.aggregator_url, token, transport)
        refresher = Refresher(
            self.aggregator,
            self.reader,
            clock=clock,
            timeout_ms=settings.refresh_timeout_ms,
            metrics=metrics,
            logger=log,
        )
        ops.depend("chain", self.reader.health)
        ops.depend("aggregator", self.aggregator.ping, required=False)
        ops.depend("prices", self.reader.freshness, required=False)
        ops.set_not_ready("the chain was not read yet")
        self.app: FastAPI = build_app(
            [
                prices_router(catalogue, self.reader, refresher, clock=clock, mode=mode),
                feeds_router(catalogue, chain.deployment, mode),
                attempts_router(catalogue, self.aggregator),
            ],
            catalogue=catalogue,
            reader=self.reader,
            clock=clock,
            ops=ops,
            metrics=metrics,
            cors_origin_regex=settings.cors_origin_regex,
            logger=log,
        )

    async def run(self) -> None:
        """Read the chain until cancelled. Ready from the first reading of every group on, and then for good: prices
        that age while the chain is down are still served, marked stale."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.reader.run(), name="bff:reader")
                await self.reader.first_readings.wait()
                self._ops.set_ready()
                self._log.info("ready")
        finally:
            self._ops.set_not_ready("stopping")
            await self.close()

    async def close(self) -> None:
        """Close the client of the aggregator. Safe to call twice."""
        await self.reader.close()
        await self.aggregator.close()
