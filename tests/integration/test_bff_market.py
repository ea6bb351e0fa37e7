"""Market data through the BFF: passed on as it is, and a market that is away is no fault of the oracle's."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from bff.market_upstream import HttpMarket
from bff.routes.market import market_router
from core.problems import install_problem_handlers


def front(transport: httpx.AsyncBaseTransport) -> tuple[httpx.AsyncClient, HttpMarket]:
    market = HttpMarket("http://market", transport)
    app = FastAPI()
    install_problem_handlers(app)
    app.include_router(market_router(market))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bff"), market


def behind() -> httpx.ASGITransport:
    """A market that says what it was asked."""
    app = FastAPI()

    @app.get("/{path:path}")
    async def echo(request: Request) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        body = f'{{"asked":"{request.url.path}{query}"}}'
        status = 404 if "XRP" in request.url.path else 200
        kind = "application/problem+json" if status == 404 else "application/json"
        return Response(body, status, media_type=kind)

    return httpx.ASGITransport(app)


@pytest.mark.parametrize(
    "path",
    [
        "/prices/latest/BTCUSDT",
        "/prices/latest/exchange1/BTCUSDT",
        "/prices/highest/BTCUSDT?period=3s",
        "/prices/lowest/exchange1/BTCUSDT",
        "/prices/average/exchange1/BTCUSDT?period=5m",
        "/prices/history/BTCUSDT?from=2026-11-21T00:00:00Z&to=1795279270000&interval=5m",
    ],
)
async def test_a_question_and_its_answer_are_passed_on_as_they_are(path: str) -> None:
    client, market = front(behind())
    async with client:
        response = await client.get(path)
        assert (response.status_code, response.json()) == (200, {"asked": path})
        assert response.headers["cache-control"] == "no-cache"
    await market.close()


async def test_the_markets_problems_are_passed_on_too() -> None:
    client, market = front(behind())
    async with client:
        response = await client.get("/prices/latest/XRPUSDT")
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
    await market.close()


async def test_no_path_leads_anywhere_else() -> None:
    client, market = front(behind())
    async with client:
        assert (await client.get("/prices/median/BTCUSDT")).status_code == 422
        assert (await client.get("/prices/latest/..%2f..%2fmode/x")).status_code == 404
        assert (await client.post("/prices/latest/BTCUSDT")).status_code == 405
    await market.close()


class _Refusing(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> Any:
        raise httpx.ConnectError("nobody listens")


class _Silent(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> Any:
        await asyncio.sleep(60)


@pytest.mark.parametrize("transport", [_Refusing(), _Silent()])
async def test_a_market_that_is_away_or_hangs_gives_503_in_time(
    transport: httpx.AsyncBaseTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bff.market_upstream._TIMEOUT_S", 0.2)
    client, market = front(transport)
    async with client:
        response = await client.get("/prices/latest/BTCUSDT")
        assert (response.status_code, response.json()["code"]) == (503, "market_unavailable")
        assert response.headers["retry-after"] == "1"
    await market.close()
