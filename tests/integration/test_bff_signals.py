"""Reporters' errors through the BFF: signals of a real trader, and strict feeds as the aggregator has them."""

from __future__ import annotations

import asyncio

import httpx

from bff.documents import Reporter, Signal
from core.clock import rfc3339
from core.reporting import Policy
from core.types import Feed, Group
from tests.support.bff import BTC, ETH, FakeAggregator, bff_house
from tests.support.signals import PERIOD_MS, START_MS, Desk, Speaker

KEY = "0x" + "44" * 32


async def test_a_signal_its_reporters_and_its_error_are_the_traders() -> None:
    desk = Desk()
    alpha = Speaker(desk, "alpha", KEY)
    await alpha.register()
    await alpha.produce("-0.5")
    async with bff_house(trader=httpx.ASGITransport(app=desk.service.app)) as house:
        found = await house.client.get("/v1/signals/decision")
        assert found.status_code == 200
        assert Signal.model_validate(found.json()).value == "-0.5000"
        (one,) = (await house.client.get("/v1/reporters")).json()
        assert Reporter.model_validate(one).state == "running"

        desk.pass_ms(2 * PERIOD_MS)
        found = await house.client.get("/v1/signals/decision")
        assert (found.status_code, found.headers["content-type"]) == (503, "application/problem+json")
        assert (found.json()["code"], found.json()["value"]) == ("feed_in_error", None)
        first = found.json()["troubles"][0]
        assert (first["reporter"], first["since"]) == ("alpha", rfc3339(START_MS))
        (listed,) = (await house.client.get("/v1/signals")).json()
        assert Signal.model_validate(listed).state == "error"
        assert (await house.client.get("/v1/signals/nothing")).json()["code"] == "unknown_feed"


async def test_without_a_trader_prices_go_on() -> None:
    def refuse(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async with bff_house(trader=httpx.MockTransport(refuse)) as house:
        found = await house.client.get("/v1/signals/decision")
        assert (found.status_code, found.json()["code"]) == (503, "trader_unavailable")
        assert (await house.client.get("/v1/prices/BTC-USD")).status_code == 200


async def test_a_strict_feed_in_error_says_so_beside_its_standing_price() -> None:
    majors = Group(
        name="majors",
        feeds=tuple(Feed(pair=pair, policy=Policy.STRICT, decimals=8 if pair == BTC else 2) for pair in (BTC, ETH)),
    )
    trouble = {
        "reporter": "fetcher-b",
        "code": "reporter_stopped",
        "since": "2024-03-13T11:10:40.000Z",
        "via": [],
        "detail": "",
    }
    standings = [{"feed": BTC, "error": True, "troubles": [trouble]}, {"feed": ETH, "error": False, "troubles": []}]
    aggregator = FakeAggregator(records={"/v1/feeds/standings": httpx.Response(200, json=standings)})
    async with bff_house(groups=(majors,), aggregator=aggregator, poll_ms=50) as house:

        async def status(slug: str) -> dict[str, object]:
            found: dict[str, object] = (await house.client.get(f"/v1/prices/{slug}")).json()
            return found

        async with asyncio.timeout(30):
            while (bitcoin := await status("BTC-USD"))["status"] != "error":  # noqa: ASYNC110 - over HTTP
                await asyncio.sleep(0.02)
        assert (bitcoin["stale"], bitcoin["price"], bitcoin["troubles"]) == (True, "71234.56000000", [trouble])
        ether = await status("ETH-USD")
        assert (ether["status"], ether["stale"], ether["troubles"]) == ("ok", False, [])
        for each in standings:
            each["error"] = False
        aggregator.records["/v1/feeds/standings"] = httpx.Response(200, json=standings)
        async with asyncio.timeout(30):
            while (await status("BTC-USD"))["status"] != "ok":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
