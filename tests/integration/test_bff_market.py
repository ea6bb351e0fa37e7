"""Market data through the BFF: passed on as it is, and a market that is away is no fault of the oracle's."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from bff.market_upstream import HttpMarket
from bff.routes.market import market_router
from core.problems import install_problem_handlers
from core.types import Mode
from tests.support.market import TOKEN, Sender, running, settings_for


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


async def test_a_change_of_mode_needs_the_markets_token_and_no_other(tmp_path: Path) -> None:
    """The real market service behind it; the BFF has no token of its own."""
    sender = await Sender().start()
    async with running(settings_for({"exchange1": sender}), tmp_path) as behind_it:
        client, market = front(httpx.ASGITransport(behind_it.service.app))
        async with client:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
                refused = await client.post("/mode/live", headers=headers)
                assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
                assert refused.headers["www-authenticate"] == "Bearer"
            assert behind_it.service.mode is Mode.TEST
            own = {"Authorization": f"Bearer {TOKEN}"}
            assert (await client.post("/mode/dreams", headers=own)).json()["known"] == ["live", "test"]
            assert (await client.post("/mode/..%2fprices", headers=own)).status_code in (404, 422)
            changed = await client.post("/mode/live", headers=own)
            assert (changed.status_code, changed.json()) == (200, {"mode": "live", "changed": True})
            assert behind_it.service.mode is Mode.LIVE
        await market.close()
    await sender.stop()


async def test_a_market_without_a_token_refuses_every_change_of_mode(tmp_path: Path) -> None:
    async with running(settings_for({}), tmp_path, token="") as behind_it:
        client, market = front(httpx.ASGITransport(behind_it.service.app))
        async with client:
            refused = await client.post("/mode/live", headers={"Authorization": "Bearer "})
            assert (refused.status_code, refused.json()["code"]) == (403, "no_token")
        await market.close()
        assert behind_it.service.mode is Mode.TEST


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
    monkeypatch.setattr("bff.market_upstream._SWITCH_TIMEOUT_S", 0.2)
    client, market = front(transport)
    async with client:
        for response in (await client.get("/prices/latest/BTCUSDT"), await client.post("/mode/live")):
            assert (response.status_code, response.json()["code"]) == (503, "market_unavailable")
            assert response.headers["retry-after"] == "1"
    await market.close()
