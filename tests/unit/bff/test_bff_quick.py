"""The quick way to a price answers as the route does, and leaves everything else to it."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from bff.catalogue import Catalogue
from bff.chain_reader import ChainReader
from bff.metrics import BffMetrics
from bff.quick import PATH, QuickReads
from bff.refresh import Refresher
from bff.routes.prices import prices_router
from bff.upstream import HttpAggregator
from core.clock import FixedClock
from core.logs import get_logger
from core.problems import install_problem_handlers
from core.types import Mode
from tests.support.bff import MAJORS, NOW_MS, FakeAggregator, FakeChain


@pytest.fixture
async def route_and_quick():
    """The same routes without and with the quick way in front."""
    clock, metrics, logger = FixedClock(NOW_MS), BffMetrics(CollectorRegistry()), get_logger("bff", Mode.TEST)
    catalogue = Catalogue([MAJORS])
    reader = ChainReader(
        FakeChain(), [MAJORS], mode=Mode.TEST, clock=clock, poll_ms=1_000, metrics=metrics, logger=logger
    )
    aggregator = HttpAggregator("http://aggregator", "", httpx.MockTransport(FakeAggregator(down=True)))
    refresher = Refresher(aggregator, reader, clock=clock, timeout_ms=100, metrics=metrics, logger=logger)
    app = FastAPI()
    app.include_router(prices_router(catalogue, reader, refresher, clock=clock, mode=Mode.TEST))
    install_problem_handlers(app)
    await reader.read("majors")
    yield app, QuickReads(app, catalogue, reader, clock)
    await aggregator.close()


async def ask(app, method: str, path: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bff") as client:
        return await client.request(method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/prices/BTC-USD"),
        ("GET", "/v1/prices/eth-usd?and=more"),
        ("GET", "/v1/prices/TON-USD"),
        ("GET", "/v1/prices/XRP-USD"),
        ("GET", "/v1/prices/x"),
        ("GET", "/v1/prices"),
        ("GET", "/v1/prices/BTC-USD/refresh"),
        ("DELETE", "/v1/prices/BTC-USD"),
        ("POST", "/v1/prices/BTC-USD/refresh"),
        ("GET", "/elsewhere"),
    ],
)
async def test_the_answers_are_the_same(route_and_quick, method, path):
    by_route, quick = await asyncio.gather(*(ask(app, method, path) for app in route_and_quick))
    assert quick.status_code == by_route.status_code
    assert quick.content == by_route.content
    assert dict(quick.headers) == dict(by_route.headers)


def test_the_path_is_the_routes_own(route_and_quick):
    app, _ = route_and_quick
    assert PATH in app.openapi()["paths"]
