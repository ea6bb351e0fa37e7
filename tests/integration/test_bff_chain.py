"""The BFF over the real contract, through the real client: what it serves is what the contract holds."""

from __future__ import annotations

import contextlib
from decimal import Decimal

import httpx
import pytest

from bff.documents import Price
from contracts.client import OracleClient
from contracts.deployments import DeploymentRecord
from contracts.devchain.chain import DevChain
from contracts.devchain.service import ChainService
from contracts.report import bytes32
from core.ops import Ops, serve
from core.types import Feed, Group, Mode, Pair
from tests.support.bff import ATTEMPT, FakeAggregator, bff_house, ended
from tests.support.oracle_kit import GUARDIAN, START_MS, Lab
from tests.support.wait import until

BTC, DOGE = 0, 2
GROUP = Group(name="majors", feeds=tuple(Feed(pair=Pair(pair)) for pair in ("BTC/USD", "ETH/USD", "DOGE/USD")))
FIRST = [[7_123_456_000_000 + n, 400_000_000_000, 0] for n in range(4)]  # nobody has a price for DOGE/USD


@pytest.fixture
def lab() -> Lab:
    return Lab()


@contextlib.asynccontextmanager
async def connected(lab: Lab):
    chain = lab.chain
    assert isinstance(chain, DevChain)
    node = ChainService(chain, Ops("devchain", lab.mode, lab.clock))
    genesis = chain.header(0)
    assert genesis is not None
    record = DeploymentRecord(
        chain_id=lab.chain_id,
        address=lab.address,
        block_hash="0x" + genesis.hash.hex(),
        block_number=0,
        transaction="0x" + "00" * 32,
        mode=Mode.TEST,
        source_hash="",
        deployed_at="",
    )
    try:
        async with serve(node.app, "127.0.0.1", 0, "devchain") as port:
            client = await OracleClient.connect(f"http://127.0.0.1:{port}", record, Mode.TEST)
            try:
                yield client
            finally:
                await client.close()
    finally:
        node.close()


async def test_a_price_is_the_contracts_with_the_transaction_that_brought_it(lab: Lab):
    mined = lab.round(FIRST)
    async with connected(lab) as client, bff_house(chain=client, clock=lab.clock, groups=(GROUP,)) as house:
        view = house.service.reader.view
        await until(lambda: view("majors").standing[Pair("BTC/USD")].document.transaction)
        lab.clock.advance(2_500)
        response = await house.client.get("/v1/prices/BTC-USD")
        unset = await house.client.get("/v1/prices/DOGE-USD")
    status, value, time, spread, contributors = lab.read("tryGetPrice", bytes32("BTC/USD"))
    price = Price.model_validate_json(response.content)
    assert status == 1
    assert Decimal(price.price) * 10**8 == value == 7_123_456_000_001  # the lower middle of four
    assert (price.round, price.contributors, price.spread_bps) == (1, contributors, spread) == (1, 4, 0)
    assert price.observed_at == "2024-03-13T11:10:45.400Z"  # one grid step after the laboratory's start
    assert price.updated_at == "2024-03-13T11:10:45.000Z"
    assert time == START_MS // 1000
    assert price.age_seconds == 2.501
    assert price.transaction == "0x" + mined.transaction.hash.hex()
    assert (unset.status_code, unset.json()["code"]) == (503, "price_unset")


async def test_staleness_is_the_contracts_rule_by_our_clock(lab: Lab):
    lab.round(FIRST)
    (_, _, stale_after_s) = lab.read("feedInfo", bytes32("BTC/USD"))
    async with connected(lab) as client, bff_house(chain=client, clock=lab.clock, groups=(GROUP,)) as house:
        feeds = (await house.client.get("/v1/feeds")).json()["feeds"]
        lab.clock.advance(stale_after_s * 1000 - 1)
        fresh = (await house.client.get("/v1/prices/BTC-USD")).json()
        lab.clock.advance(2)
        stale = (await house.client.get("/v1/prices/BTC-USD")).json()
    assert {feed["stale_after_seconds"] for feed in feeds} == {float(stale_after_s)}
    assert (fresh["stale"], stale["stale"]) == (False, True)


async def test_a_refresh_shows_the_new_round_and_names_the_feed_that_it_left_alone(lab: Lab):
    lab.round(FIRST)

    def on_refresh(_request: httpx.Request) -> httpx.Response:
        mined = lab.round([[7_200_000_000_000 + n, 0, 0] for n in range(3)])
        return ended(
            "accepted", round=lab.info.round, moment=lab.info.moment, transaction="0x" + mined.transaction.hash.hex()
        )

    async with (
        connected(lab) as client,
        bff_house(chain=client, clock=lab.clock, groups=(GROUP,), aggregator=FakeAggregator(on_refresh)) as house,
    ):
        btc = await house.client.post("/v1/prices/BTC-USD/refresh")
        eth = await house.client.post("/v1/prices/ETH-USD/refresh")
    assert (btc.status_code, btc.json()["price"], btc.json()["round"]) == (200, "72000.00000001", 2)
    assert btc.json()["attempt"] == ATTEMPT
    assert (eth.status_code, eth.json()["code"]) == (503, "feed_not_updated")
    assert (eth.json()["last"]["price"], eth.json()["last"]["round"]) == ("4000.00000000", 1)


async def test_an_attested_answer_is_fresh_and_keeps_its_round_and_the_transaction_that_wrote_it(lab: Lab):
    mined = lab.round(FIRST)
    last = lab.read("latestAnswer", bytes32("BTC/USD"))[1]

    def on_refresh(_request: httpx.Request) -> httpx.Response:
        lab.clock.advance(30_000)
        lab.submit(lab.mixed([[None, 0, 0]] * 2 + [[last, None, 0], [last + 5, 1, None]]))
        return ended("accepted", round=lab.info.round, moment=lab.info.moment, transaction="0x" + "ee" * 32)

    async with (
        connected(lab) as client,
        bff_house(chain=client, clock=lab.clock, groups=(GROUP,), aggregator=FakeAggregator(on_refresh)) as house,
    ):
        view = house.service.reader.view
        await until(lambda: view("majors").standing[Pair("BTC/USD")].document.transaction)
        before = (await house.client.get("/v1/prices/BTC-USD")).json()
        refreshed = (await house.client.post("/v1/prices/BTC-USD/refresh")).json()
        after = (await house.client.get("/v1/prices/BTC-USD")).json()
        left = await house.client.post("/v1/prices/ETH-USD/refresh")
    assert lab.info.round == 3
    for shown in (refreshed, after):
        assert (shown["price"], shown["round"], shown["status"]) == (before["price"], 1, "ok")
        assert shown["transaction"] == "0x" + mined.transaction.hash.hex()
        assert shown["observed_at"] == "2024-03-13T11:11:15.400Z"
        assert shown["age_seconds"] < 1
    assert (left.status_code, left.json()["code"]) == (503, "feed_not_updated")


async def test_a_paused_contract_shows_as_halted(lab: Lab):
    lab.round(FIRST)
    lab.do("pause", by=GUARDIAN)
    async with connected(lab) as client, bff_house(chain=client, clock=lab.clock, groups=(GROUP,)) as house:
        body = (await house.client.get("/v1/prices/BTC-USD")).json()
    assert (body["stale"], body["status"]) == (True, "halted")
