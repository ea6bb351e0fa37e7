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
from bff.market_upstream import HttpMarket
from bff.metrics import BffMetrics
from bff.refresh import Refresher
from bff.routes.attempts import attempts_router
from bff.routes.feeds import feeds_router
from bff.routes.market import market_router
from bff.routes.prices import prices_router
from bff.routes.signals import signals_router
from bff.strict import StrictWatch
from bff.trader import HttpTrader
from bff.upstream import Aggregator, HttpAggregator
from bff.upstreams import AnyAggregator
from core.clock import Clock
from core.logs import Logger, get_logger
from core.ops import Ops
from core.settings import BffSettings
from core.types import Group, Mode


class BffService:
    """Serve `app` (with `core.ops.serve`) while `run` runs.

    chain: `contracts.client.OracleClient`, or anything with its two reads; it is not closed here. token: the bearer
    token that the aggregator asks for. transport, trader_transport: where requests to the aggregator and to the trader
    go; tests give their own.
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
        trader_transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        log = logger or get_logger("bff", mode)
        metrics = BffMetrics(ops.registry)
        catalogue = Catalogue(groups)
        self._ops = ops
        self._log = log
        urls = (settings.aggregator_url, *settings.aggregator_urls)
        each = [HttpAggregator(url, token, transport) for url in urls]
        self.aggregator: Aggregator = each[0] if len(each) == 1 else AnyAggregator(each)
        self.reader = ChainReader(
            chain,
            groups,
            mode=mode,
            clock=clock,
            poll_ms=settings.poll_ms,
            metrics=metrics,
            logger=log,
            told=self.aggregator.confidence,
        )
        self.market = None if settings.market_url is None else HttpMarket(settings.market_url)
        self.trader = HttpTrader(settings.trader_url, trader_transport)
        refresher = Refresher(
            self.aggregator,
            self.reader,
            clock=clock,
            timeout_ms=settings.refresh_timeout_ms,
            metrics=metrics,
            logger=log,
        )
        self._strict = (
            StrictWatch(self.aggregator, self.reader, settings.poll_ms, log)
            if any(group.strict for group in groups)
            else None
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
                *(() if self.market is None else (market_router(self.market),)),
                signals_router(self.trader),
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
                if self._strict is not None:
                    tasks.create_task(self._strict.run(), name="bff:strict")
                await self.reader.first_readings.wait()
                self._ops.set_ready()
                self._log.info("ready")
        finally:
            self._ops.set_not_ready("stopping")
            await self.close()

    async def close(self) -> None:
        """Close the clients of the other services. Safe to call twice."""
        await self.reader.close()
        await self.aggregator.close()
        if self.market is not None:
            await self.market.close()
        await self.trader.close()
