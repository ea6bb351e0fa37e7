"""Two aggregators over one RabbitMQ and one PostgreSQL: one attempt for all who ask, and one that leads."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from sqlalchemy.engine import make_url

from aggregator.attempts import AttemptRecord, Cause
from aggregator.leadership import REST_S, Leadership
from aggregator.listening import Listener
from aggregator.metrics import Metrics
from aggregator.ownership import Ownership
from aggregator.service import AggregatorService
from aggregator.states import State
from aggregator.store import SqlAttemptStore
from contracts import LocalSigner, OracleClient
from contracts.deploy import deploy
from core.clock import SystemClock
from core.logs import get_logger
from core.ops import Ops, serve
from core.settings import AggregatorSettings
from core.types import Mode, Pair
from tests.support.aggregator import Reporter, group, metrics
from tests.support.databases import own_database
from tests.support.rabbit import Raw, TidyRabbitBus
from tests.support.submission import Anvil, anvil
from tests.support.wait import until

pytestmark = [pytest.mark.needs_anvil, pytest.mark.needs_rabbitmq, pytest.mark.needs_postgres]

SIGNERS = [LocalSigner(f"{number:064x}") for number in range(1, 5)]
PRICES = {Pair("BTC/USD"): "60000.5", Pair("ETH/USD"): "3000"}
GROUP = group(*PRICES, min_price=Decimal("0.001"), heartbeat_ms=8_000)
OPTION = "prepared_statement_cache_size=0"
"""SQLAlchemy's own, which no server knows."""
LOG = get_logger("aggregator", Mode.TEST)


def leading(url: str, groups: list[str], own: Metrics | None = None, deployment: str = "d") -> Leadership:
    return Leadership(
        url, deployment=deployment, groups=groups, clock=SystemClock(), metrics=own or metrics(), logger=LOG
    )


@dataclass
class Instance:
    """One aggregator with a key, a bus connection and a store of its own."""

    service: AggregatorService
    http: httpx.AsyncClient
    address: str
    task: asyncio.Task[None]
    url: str
    leadership: list[Leadership]

    async def ask(self, count: int, **params: int) -> list[dict[str, object]]:
        asked = (self.http.post("/v1/groups/majors/refresh", params=params) for _ in range(count))
        answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {200}
        return [answer.json() for answer in answers]


@dataclass
class Fleet:
    node: Anvil
    client: OracleClient
    store: str
    instances: list[Instance]
    reporters: list[Reporter]

    async def sent(self) -> int:
        counts = [await self.node.call("eth_getTransactionCount", one.address, "pending") for one in self.instances]
        return sum(int(str(count), 16) for count in counts)


@contextlib.asynccontextmanager
async def fleet(rabbitmq_url: str, postgres_url: str, folder: Path, **settings: object) -> AsyncIterator[Fleet]:
    namespace = f"t-{secrets.token_hex(5)}"
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(own_database(postgres_url))
        node = await stack.enter_async_context(anvil())
        keys = ["0x" + secrets.token_hex(32) for _ in range(3)]
        for key in keys:
            await node.call("anvil_setBalance", LocalSigner(key).address, hex(10**24))
        record = await deploy(
            node.url,
            keys[0],
            mode=Mode.TEST,
            groups=[GROUP],
            reporters={"majors": [signer.address for signer in SIGNERS]},
            deployments_dir=folder / "deployments",
        )
        client = await OracleClient.connect(node.url, record, Mode.TEST)
        stack.push_async_callback(client.close)
        bus = await connected(stack, rabbitmq_url, namespace)
        reporters = [Reporter(f"fetcher-{i}", signer, client, PRICES) for i, signer in enumerate(SIGNERS)]
        for reporter in reporters:
            await reporter.listen(bus, GROUP)
        instances = []
        for number in (1, 2):
            own = await connected(stack, rabbitmq_url, namespace)
            theirs = await OracleClient.connect(node.url, record, Mode.TEST)
            stack.push_async_callback(theirs.close)
            one = await instance(stack, f"aggregator-{number}", keys[number], own, theirs, store, **settings)
            instances.append(one)
        yield Fleet(node, client, store, instances, reporters)


async def connected(stack: contextlib.AsyncExitStack, url: str, namespace: str) -> TidyRabbitBus:
    bus = TidyRabbitBus([url], namespace)
    await bus.start()

    async def close() -> None:
        await bus.close()
        await asyncio.to_thread(Raw(url, namespace).tidy, bus.made)

    stack.push_async_callback(close)
    return bus


async def instance(
    stack: contextlib.AsyncExitStack,
    name: str,
    key: str,
    bus: TidyRabbitBus,
    chain: OracleClient,
    store: str,
    **settings: object,
) -> Instance:
    ops = Ops(name, Mode.TEST)
    address = LocalSigner(key).address
    made: list[Leadership] = []

    def leadership(own: Metrics) -> Leadership:
        made.append(leading(store, ["majors"], own, chain.deployment.id))
        return made[0]

    service = AggregatorService(
        settings=AggregatorSettings(**{"heartbeats": False, "min_interval_ms": 0, "deadline_ms": 2_000, **settings}),  # type: ignore[arg-type]
        name=name,
        instance="1",
        groups=[GROUP],
        bus=bus,
        chain=chain,
        submit_key=key,
        store=SqlAttemptStore(store),
        token="word",
        clock=SystemClock(),
        mode=Mode.TEST,
        ops=ops,
        logger=LOG,
        ownership=Ownership(store, chain_id=31337, address=address, logger=LOG),
        leadership=leadership,
    )
    task = asyncio.create_task(service.run())

    async def stop() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(stop)
    await until(lambda: ops.ready, within_s=20)
    port = await stack.enter_async_context(serve(service.app, "127.0.0.1", 0, name))
    url = f"http://127.0.0.1:{port}"
    limits = httpx.Limits(max_connections=200)
    http = httpx.AsyncClient(base_url=url, headers={"authorization": "Bearer word"}, timeout=20, limits=limits)
    await stack.enter_async_context(http)
    return Instance(service, http, address, task, url, made)


async def test_a_hundred_requests_at_two_instances_make_one_transaction(
    rabbitmq_url: str, postgres_url: str, tmp_path: Path
) -> None:
    async with fleet(rabbitmq_url, postgres_url, tmp_path) as two:
        for reporter in two.reporters:
            reporter.delay_s = 0.2
        arrived = SystemClock().now_ms()
        one, other = await asyncio.gather(*(each.ask(50, arrived_ms=arrived) for each in two.instances))
        assert {(answer["state"], answer["round"]) for answer in (*one, *other)} == {("accepted", 1)}
        assert len({answer["id"] for answer in (*one, *other)}) == 1
        assert await two.sent() == 1
        assert (await two.client.group_state("majors")).round == 1
        assert [len(reporter.jobs) for reporter in two.reporters] == [1, 1, 1, 1]
        # and whoever asks now has a round of his own
        assert (await two.instances[1].ask(1))[0]["round"] == 2
        assert (await two.instances[0].ask(1))[0]["round"] == 3


async def test_requests_that_go_on_at_both_move_every_round_by_one(
    rabbitmq_url: str, postgres_url: str, tmp_path: Path
) -> None:
    async with fleet(rabbitmq_url, postgres_url, tmp_path) as two:

        async def keep_asking(each: Instance) -> list[object]:
            return [(await each.ask(1))[0] for _ in range(8)]

        answers = [one for each in await asyncio.gather(*map(keep_asking, two.instances)) for one in each]
        assert {one["state"] for one in answers} == {"accepted"}
        rounds = (await two.client.group_state("majors")).round
        assert sorted({one["round"] for one in answers}) == list(range(1, rounds + 1))
        assert await two.sent() == rounds


async def test_one_leads_and_when_it_is_lost_the_other_does(
    rabbitmq_url: str, postgres_url: str, tmp_path: Path
) -> None:
    async with fleet(rabbitmq_url, postgres_url, tmp_path, heartbeats=True) as two:
        leads = [lambda each=each: each.leadership[0].leads("majors") for each in two.instances]
        await until(lambda: any(one() for one in leads))
        engine = two.instances[0].service.engines["majors"]
        await until(lambda: engine.reading is not None and engine.reading.round >= 1, within_s=10)
        assert [one() for one in leads].count(True) == 1
        shown = [(await one.http.get("/health")).json()["leadership"]["majors"]["leads"] for one in two.instances]
        assert shown == [one() for one in leads]
        leader = next(n for n, one in enumerate(leads) if one())
        # its session ends, as it does when its process or its machine is gone
        two.instances[leader].task.cancel()
        started = time.monotonic()
        await until(leads[1 - leader], within_s=5)
        assert time.monotonic() - started < 5
        survivor = two.instances[1 - leader].service.engines["majors"]
        before = (await two.client.group_state("majors")).round
        late_s = GROUP.feeds[0].heartbeat_ms / 1000 + 5
        await until(lambda: survivor.reading is not None and survivor.reading.round > before, within_s=late_s)


async def test_a_leader_that_is_not_heard_of_loses_its_locks(postgres_url: str) -> None:
    async with own_database(postgres_url) as url:
        frozen, other = (leading(url, ["majors", "minors"]) for _ in "ab")
        await frozen._look()  # it takes the locks, and then says nothing more
        assert frozen.leads("majors")
        running = asyncio.create_task(other.run())
        started = time.monotonic()
        try:
            await until(lambda: other.leads("majors") and other.leads("minors"), within_s=10)
            assert time.monotonic() - started < 6
            assert not frozen.leads("majors")  # it was told, where it can still hear
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await other.release()
            await frozen.release()


async def test_a_leader_steps_down_and_leads_again_where_no_other_does(postgres_url: str) -> None:
    async with own_database(postgres_url) as url:
        one, other = (leading(url, ["majors"]) for _ in range(2))
        await one._look()
        one.step_down("majors")
        assert not one.leads("majors")
        running = [asyncio.create_task(each.run()) for each in (one, other)]
        try:
            await until(lambda: other.leads("majors"), within_s=REST_S)
            await asyncio.sleep(REST_S)
            assert not one.leads("majors")  # it tries again, and the other has it
            other.step_down("majors")
            await until(lambda: one.leads("majors"), within_s=REST_S)
        finally:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await one.release()
            await other.release()


async def test_groups_may_be_served_by_different_instances(postgres_url: str) -> None:
    async with own_database(postgres_url) as url:
        one, other = (leading(f"{url}?{OPTION}", [name]) for name in ("majors", "minors"))
        await one._look()
        await other._look()
        assert (one.leads("majors"), one.leads("minors")) == (True, False)
        assert (other.leads("majors"), other.leads("minors")) == (False, True)
        await one.release()
        await other.release()


async def test_the_end_of_an_attempt_is_heard_of_at_once(postgres_url: str) -> None:
    async with own_database(postgres_url) as url:
        listener = Listener(make_url(f"{url}?{OPTION}"), 2.0)
        listener.start()
        heard = asyncio.create_task(listener.heard("a1", 30))
        store = SqlAttemptStore(url)
        await store.open()
        record = AttemptRecord(
            id="a1", deployment="d", mode=Mode.TEST, group="g", cause=Cause.START, state=State.FAILED, started_ms=1
        )
        for _ in range(100):  # until the listener is connected
            await store.save(record)
            if (await asyncio.wait([heard], timeout=0.1))[0]:
                break
        assert heard.done()
        await store.close()
        await listener.stop()
