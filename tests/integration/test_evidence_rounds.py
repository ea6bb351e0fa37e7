"""Real rounds: fetchers that ask and sign, an aggregator that judges, a contract that checks proofs of what it took."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from aggregator.service import AggregatorService
from aggregator.store import SqlAttemptStore
from broker import Message, Report, Topic
from broker.memory import MemoryBus
from contracts import OracleClient
from contracts.deploy import deploy
from contracts.report import bytes32
from core.clock import SystemClock
from core.ops import Ops
from core.settings import AggregatorSettings
from core.types import Mode, Pair
from fetchers import FetcherService
from tests.support.fetchers import QUIET, FakePool, MemoryReportStore, catalogue, group
from tests.support.submission import DEPLOYER, RELAYERS, REPORTERS, anvil
from tests.support.wait import until

pytestmark = pytest.mark.needs_anvil

BTC, USDT = Pair("BTC/USD"), Pair("USDT/USD")
MAJORS = group("BTC/USD")  # USDT/USD is no feed of it: a mere rate
SERVED = catalogue(kraken="BTC/USD USDT/USD", binance="BTC/USDT", okx="BTC/USDT USDT/USD", gemini="BTC/USD")
NAMES = ("fetcher-a", "fetcher-b", "fetcher-c", "fetcher-d")


@dataclass
class World:
    client: OracleClient
    pools: list[FakePool]
    bus: MemoryBus
    http: httpx.AsyncClient
    clock: SystemClock

    async def later(self, seconds: int) -> None:
        """Move every clock on, the chain's too."""
        self.clock.offset_ms += seconds * 1000
        await self.client.rpc.call("evm_increaseTime", seconds)

    async def refresh(self) -> dict[str, Any]:
        answer = await self.http.post("/v1/groups/majors/refresh")
        assert answer.status_code == 200, answer.text
        record: dict[str, Any] = (await self.http.get(f"/v1/attempts/{answer.json()['id']}")).json()
        assert record["state"] == "accepted", (record["code"], record["detail"], record["reports"])
        return record

    async def evidence(self, round_: int, feed: str) -> dict[str, Any]:
        answer = await self.http.get(f"/v1/groups/majors/rounds/{round_}/evidence?feed={feed}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def verified(self, evidence: dict[str, Any], quote: dict[str, Any], **changes: Any) -> bool:
        roots = [(one["reporter"], bytes.fromhex(one["root"][2:])) for one in evidence["roots"]]
        leaf = changes.get("leaf", bytes.fromhex(quote["leaf"][2:]))
        proof = [bytes.fromhex(one[2:]) for one in quote["proof"]]
        asked = (bytes32("majors"), evidence["round"], changes.get("reporter", quote["reporter"]), roots, leaf, proof)
        (yes,) = await self.client.read("verifyObservation", *asked)
        return bool(yes)


def prices(last: str, clock: SystemClock) -> FakePool:
    told = {("kraken", "BTC/USD"): last, ("gemini", "BTC/USD"): last}
    told |= {("binance", "BTC/USDT"): "70070.25", ("okx", "BTC/USDT"): "70071"}
    return FakePool({**told, ("kraken", "USDT/USD"): "0.999", ("okx", "USDT/USD"): "0.9992"}, clock.now_ms)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        node = await stack.enter_async_context(anvil())
        record = await deploy(
            node.url,
            DEPLOYER,
            mode=Mode.TEST,
            groups=[MAJORS],
            reporters={"majors": [one.address for one in REPORTERS]},
            deployments_dir=tmp_path,
        )
        bus = MemoryBus()
        await bus.start()
        stack.push_async_callback(bus.close)
        clients = [await OracleClient.connect(node.url, record, Mode.TEST) for _ in range(2)]
        for client in clients:
            stack.push_async_callback(client.close)
        pools = [prices(f"7000{number}.125", clock) for number in range(4)]
        fetchers = [
            FetcherService(
                name=name,
                instance="one",
                groups=[MAJORS],
                sources=tuple(SERVED),
                catalogue=SERVED,
                pool=pool,
                bus=bus,
                chain=clients[0],
                signer=signer,
                store=MemoryReportStore(),
                clock=clock,
                mode=Mode.TEST,
                ops=Ops(name, Mode.TEST),
                logger=QUIET,
                sample_s=0,
            )
            for name, pool, signer in zip(NAMES, pools, REPORTERS, strict=True)
        ]
        aggregator = AggregatorService(
            settings=AggregatorSettings.model_validate(
                {"deadline_ms": 3_000, "heartbeats": False, "min_interval_ms": 0}
            ),
            name="aggregator",
            instance="one",
            groups=[MAJORS],
            bus=bus,
            chain=clients[1],
            submit_key=RELAYERS[0],
            store=SqlAttemptStore(f"sqlite+aiosqlite:///{tmp_path}/attempts.sqlite"),
            token="t",
            clock=clock,
            mode=Mode.TEST,
            ops=(ops := Ops("aggregator", Mode.TEST)),
            logger=QUIET,
        )
        tasks = [asyncio.create_task(service.run()) for service in (*fetchers, aggregator)]
        try:
            await until(lambda: ops.ready and all(one.ops.ready for one in fetchers))
            transport, headers = httpx.ASGITransport(aggregator.app), {"authorization": "Bearer t"}
            async with httpx.AsyncClient(transport=transport, base_url="http://a", headers=headers) as http:
                yield World(clients[0], pools, bus, http, clock)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def test_every_quote_of_a_round_is_verified_by_the_contract(world: World) -> None:
    record = await world.refresh()
    btc, usdt = await world.evidence(record["round"], "btc-usd"), await world.evidence(record["round"], "USDT-USD")
    assert {(one["source"], one["pair"]) for one in btc["quotes"]} == {
        ("kraken", "BTC/USD"),
        ("binance", "BTC/USDT"),
        ("okx", "BTC/USDT"),
    }
    assert {(one["source"], one["pair"], one["price"]) for one in usdt["quotes"]} == {
        ("kraken", "USDT/USD", "0.999"),
        ("okx", "USDT/USD", "0.9992"),
    }
    assert len({one["reporter"] for one in btc["quotes"]}) == len(btc["roots"]) == 4
    assert btc["not_kept"] == []
    for evidence in (btc, usdt):
        for one in evidence["quotes"]:
            assert await world.verified(evidence, one)
            names = [bytes32(one[name]) for name in ("feed", "source", "pair")]
            numbers = [int(one["scaled_price"]), one["source_time_ms"] or 0, one["received_ms"]]
            assert "0x" + keccak(keccak(encode(evidence["leaf_types"], [*names, *numbers]))).hex() == one["leaf"]
            lie = keccak(keccak(encode(evidence["leaf_types"], [*names, numbers[0] + 1, *numbers[1:]])))
            assert not await world.verified(evidence, one, leaf=lie)
    one = btc["quotes"][0]
    other = next(root["reporter"] for root in btc["roots"] if root["reporter"] != one["reporter"])
    assert not await world.verified(btc, one, reporter=other)
    assert (await world.evidence(record["round"], "ETH-USD"))["quotes"] == []
    assert (await world.http.get("/v1/groups/majors/rounds/99/evidence?feed=BTC-USD")).status_code == 404


async def test_what_stands_unchanged_is_attested_and_what_moved_is_written(world: World) -> None:
    first = await world.refresh()
    written = (await world.client.read_group("majors")).answers[BTC]
    assert (written.round, written.contributors, first["answers"][BTC]["attested"]) == (1, 4, False)
    second = await world.refresh()
    attested = (await world.client.read_group("majors")).answers[BTC]
    assert second["answers"][BTC] == {**first["answers"][BTC], "attested": True} | {
        name: second["answers"][BTC][name] for name in ("spread_bps", "reporter")
    }
    assert sorted(report["signed"]["unchanged"] for report in second["reports"]) == [
        0,
        1,
        1,
        1,
    ]  # three see one price, the median
    assert (attested.value, attested.round) == (written.value, 1)
    assert attested.observed_ms == second["moment"] > written.observed_ms
    assert attested.updated_at >= written.updated_at
    assert second["gas_used"] < first["gas_used"]
    evidence = await world.evidence(2, "BTC-USD")  # attested, and yet proven
    assert len(evidence["quotes"]) == 12
    assert all([await world.verified(evidence, one) for one in evidence["quotes"]])

    for pool in world.pools:
        pool.answers |= prices("70009.5", world.clock).answers | {
            ("binance", "BTC/USDT"): "70090",
            ("okx", "BTC/USDT"): "70090",
        }
    third = await world.refresh()
    moved = (await world.client.read_group("majors")).answers[BTC]
    assert (moved.round, moved.observed_ms, third["answers"][BTC]["attested"]) == (3, third["moment"], False)
    assert moved.value != written.value


async def test_whoever_forges_evidence_around_signed_reports_changes_nothing(world: World) -> None:
    """He sees every report, and is as quick as anybody on the bus can be."""
    forged = 0

    async def forge(message: Message) -> None:
        nonlocal forged
        if isinstance(message, Report) and message.fetcher != "forger":
            forged += 1
            lie = tuple(msgspec.structs.replace(quote, source="mars") for quote in message.quotes)
            await world.bus.publish(Topic.REPORTS, msgspec.structs.replace(message, fetcher="forger", quotes=lie))

    await world.bus.subscribe(Topic.REPORTS, "forger", forge)
    record = await world.refresh()
    assert forged >= 3
    included = [one for one in record["reports"] if one["verdict"] == "included"]
    assert {one["fetcher"] for one in included} == set(NAMES)
    assert {quote["source"] for one in included for quote in one["quotes"]} == {"kraken", "binance", "okx"}
