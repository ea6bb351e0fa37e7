"""The aggregator over real nodes, real stores and both buses: reporters that sign, a contract that judges."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import aiohttp
import httpx
import pytest
from httpx_aiohttp import AiohttpTransport

from aggregator.attempts import AttemptRecord, Cause, Verdict
from aggregator.service import AggregatorService
from aggregator.store import SqlAttemptStore
from broker.bus import Bus, Topic
from broker.memory import MemoryBus
from broker.messages import Hint
from contracts import LocalSigner, OracleClient
from contracts.deploy import deploy
from core import codec
from core.clock import SystemClock
from core.logs import get_logger
from core.ops import Ops, serve
from core.settings import AggregatorSettings
from core.types import Mode, Pair
from tests.support.aggregator import Reporter, group, hint_signature
from tests.support.nodes import node
from tests.support.rabbit import Raw, TidyRabbitBus
from tests.support.wait import until

DEPLOYER, RELAYER = "d1" * 32, "d2" * 32
SIGNERS = [LocalSigner(f"{number:064x}") for number in range(1, 5)]
BTC, ETH, DOGE = Pair("BTC/USD"), Pair("ETH/USD"), Pair("DOGE/USD")
GROUP = group(BTC, ETH, DOGE, min_price=Decimal("0.001"))
PRICES = (
    {BTC: "60000.5", ETH: "3000", DOGE: "0.12"},
    {BTC: "60001", ETH: "3001", DOGE: "0.121"},
    {BTC: "60002.25", ETH: "2999", DOGE: "0.119"},
    {BTC: "60003", ETH: "3002"},
)

PLAIN = {"heartbeats": False, "min_interval_ms": 0, "deadline_ms": 5_000}
KINDS = [
    pytest.param("devchain", "memory", id="devchain-memory"),
    pytest.param("anvil", "memory", id="anvil-memory", marks=pytest.mark.needs_anvil),
    pytest.param("anvil", "rabbitmq", id="anvil-rabbitmq", marks=[pytest.mark.needs_anvil, pytest.mark.needs_rabbitmq]),
]


@contextlib.asynccontextmanager
async def running_bus(kind: str, url: str) -> AsyncIterator[Bus]:
    bus = MemoryBus() if kind == "memory" else TidyRabbitBus([url], f"t-{uuid.uuid4().hex[:10]}")
    await bus.start()
    try:
        yield bus
    finally:
        await bus.close()
        if isinstance(bus, TidyRabbitBus):
            raw = Raw(url, bus.namespace)
            await asyncio.to_thread(raw.tidy, bus.made)


@dataclass
class World:
    client: OracleClient
    bus: Bus
    service: AggregatorService
    reporters: list[Reporter]
    http: httpx.AsyncClient

    async def refresh(self) -> dict[str, object]:
        answer = await self.http.post("/v1/groups/majors/refresh")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def record(self, attempt: object) -> AttemptRecord:
        answer = await self.http.get(f"/v1/attempts/{attempt}")
        return codec.decode(answer.content, AttemptRecord)


@contextlib.asynccontextmanager
async def world(
    chain: str, bus_kind: str, rabbitmq_url: str, tmp_path: Path, **settings: object
) -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(node(chain, [LocalSigner(key).address for key in (DEPLOYER, RELAYER)]))
        bus = await stack.enter_async_context(running_bus(bus_kind, rabbitmq_url))
        record = await deploy(
            url,
            DEPLOYER,
            mode=Mode.TEST,
            groups=[GROUP],
            reporters={"majors": [signer.address for signer in SIGNERS]},
            deployments_dir=tmp_path / "deployments",
        )
        client = await OracleClient.connect(url, record, Mode.TEST)
        stack.push_async_callback(client.close)
        reporters = [Reporter(f"fetcher-{i}", SIGNERS[i], client, PRICES[i]) for i in range(4)]
        for reporter in reporters:
            await reporter.listen(bus, GROUP)
        ops = Ops("aggregator", Mode.TEST)
        service = AggregatorService(
            settings=AggregatorSettings(**{**PLAIN, **settings}),  # type: ignore[arg-type]
            name="aggregator",
            instance="1",
            groups=[GROUP],
            bus=bus,
            chain=client,
            submit_key=RELAYER,
            store=SqlAttemptStore(f"sqlite+aiosqlite:///{tmp_path / 'attempts.sqlite'}"),
            token="word",
            clock=SystemClock(),
            mode=Mode.TEST,
            ops=ops,
            logger=get_logger("aggregator", Mode.TEST),
        )
        task = asyncio.create_task(service.run())
        try:
            await until(lambda: ops.ready)
            async with serve(service.app, "127.0.0.1", 0, "aggregator") as port:
                headers = {"authorization": "Bearer word"}
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as http:
                    yield World(client, bus, service, reporters, http)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.mark.parametrize(("chain", "bus"), KINDS)
async def test_a_refresh_moves_the_contract_to_the_median_and_its_record_shows_how(
    chain: str, bus: str, rabbitmq_url: str, tmp_path: Path
) -> None:
    async with world(chain, bus, rabbitmq_url, tmp_path) as w:
        answer = await w.refresh()
        assert (answer["state"], answer["code"], answer["round"]) == ("accepted", None, 1)
        reading = await w.client.read_group("majors")
        record = await w.record(answer["id"])
        assert {pair: a.price for pair, a in reading.answers.items()} == {
            BTC: Decimal("60001.00000000"),
            ETH: Decimal("3000.00000000"),
            DOGE: Decimal("0.12000000"),
        }
        assert {pair: (a.price, a.contributors, a.spread_bps) for pair, a in record.answers.items()} == {
            pair: (a.price, a.contributors, a.spread_bps) for pair, a in reading.answers.items()
        }
        assert reading.moment == record.moment
        assert record.transaction == await w.client.round_transaction("majors", 1, reading.accepted_block)
        assert [one.verdict for one in record.reports] == [Verdict.INCLUDED] * 4
        again = await w.refresh()
        assert again["round"] == 2
        assert (await w.http.get("/v1/groups/majors/rounds/1")).json()["id"] == answer["id"]
        for limit, ids in ((2, [again["id"], answer["id"]]), (1, [again["id"]])):
            newest = (await w.http.get(f"/v1/groups/majors/attempts?limit={limit}")).json()
            assert [each["id"] for each in newest] == ids


@pytest.mark.parametrize(("chain", "bus"), KINDS[:2])
async def test_with_one_fetcher_dead_and_one_that_lies_rounds_go_on(
    chain: str, bus: str, rabbitmq_url: str, tmp_path: Path
) -> None:
    async with world(chain, bus, rabbitmq_url, tmp_path) as w:
        w.reporters[3].silent = True
        for _ in range(3):
            answer = await w.refresh()
            assert answer["state"] == "accepted"
            record = await w.record(answer["id"])
            assert record.timings_ms["collect"] < PLAIN["deadline_ms"], "nobody waits for the dead one"
        w.reporters[2].silent = True
        failed = await w.refresh()
        assert (failed["state"], failed["code"]) == ("failed", "no_quorum")
        assert (await w.client.group_state("majors")).round == 3
        w.reporters[3].silent = w.reporters[2].silent = False
        w.reporters[2].prices = {BTC: "600000", ETH: "1", DOGE: "900"}
        answer = await w.refresh()
        reading = await w.client.read_group("majors")
        assert answer["round"] == 4
        assert Decimal("60000.5") <= reading.answers[BTC].price <= Decimal(60_003)


@pytest.mark.needs_anvil
async def test_five_hundred_requests_at_once_over_http_make_one_attempt_and_all_are_answered(
    rabbitmq_url: str, tmp_path: Path
) -> None:
    async with world("anvil", "memory", rabbitmq_url, tmp_path) as w:
        for reporter in w.reporters:
            reporter.delay_s = 0.1
        arrived = SystemClock().now_ms()
        transport = AiohttpTransport(client=lambda: aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=500)))
        async with httpx.AsyncClient(
            base_url=w.http.base_url, headers=w.http.headers, timeout=30, transport=transport
        ) as http:
            answers = await asyncio.gather(
                *(http.post("/v1/groups/majors/refresh", params={"arrived_ms": arrived + 50}) for _ in range(500))
            )
        assert {(answer.status_code, answer.json()["state"]) for answer in answers} == {(200, "accepted")}
        assert len({answer.json()["id"] for answer in answers}) == 1


async def test_heartbeat_and_deviation_start_rounds_by_themselves(rabbitmq_url: str, tmp_path: Path) -> None:
    async with world("devchain", "memory", rabbitmq_url, tmp_path, heartbeats=True) as w:
        # the feed that only three reporters price has its three contributors: no feed is left alone
        engine = w.service.engines["majors"]
        await until(lambda: engine.reading is not None and engine.reading.round == 1)
        assert (await w.service.recorder.by_round("majors", 1)).cause is Cause.START  # type: ignore[union-attr]
        await until(lambda: w.service.desks["majors"].open is None)
        last, now, price = engine.known.last_moment, SystemClock().now_ms(), 6_100_000_000_000  # type: ignore[union-attr]
        for signer in SIGNERS[:2]:
            signature = hint_signature(signer, BTC, price, now, last, w.client.domain)
            await w.bus.publish(
                Topic.HINTS,
                Hint(
                    id=signer.address,
                    deployment=w.client.deployment.id,
                    mode=Mode.TEST,
                    group="majors",
                    pair=BTC,
                    price=price,
                    moment=now,
                    previous_moment=last,
                    reporter=signer.address,
                    signature=signature,
                ),
            )
        await until(lambda: engine.reading is not None and engine.reading.round == 2)
        assert (await w.service.recorder.by_round("majors", 2)).cause is Cause.DEVIATION  # type: ignore[union-attr]
