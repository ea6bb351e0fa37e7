"""A RabbitMQ server of the test's own going wrong in the middle of attempts: what a client sees, and that it passes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import msgspec
import pytest
import pytest_asyncio

from broker.bus import Topic
from broker.errors import BrokerUnavailableError
from broker.messages import Job, Report
from broker.rabbitmq import RabbitBus
from broker.topology import queue_name
from core.types import Mode
from tests.support.front import LOG, Front, front
from tests.support.rabbit import Raw
from tests.support.rabbit_node import RabbitNode, rabbit_nodes
from tests.support.submission import Anvil, anvil
from tests.support.wait import until

pytestmark = [
    pytest.mark.needs_own_rabbitmq,
    pytest.mark.needs_anvil,
    pytest.mark.asyncio(loop_scope="module"),
]

PUBLISH_TIMEOUT_S = 2.0
CUT_OFF = {"broker_unavailable", "no_quorum"}
"""What an attempt ends as whose broker goes away in the middle: its job is not confirmed, or no report comes."""
FOREIGN = Job(id="m-1", attempt="a-1", deployment="d", mode=Mode.TEST, group="majors", moment=1, budget_ms=1)
"""Nobody's: whoever gets it leaves it."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rabbit(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RabbitNode]:
    async with rabbit_nodes(tmp_path_factory.mktemp("rabbit")) as nodes:
        yield nodes[0]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chain() -> AsyncIterator[Anvil]:
    async with anvil() as node:
        yield node


class World:
    def __init__(self, url: str) -> None:
        self.url = url
        self.namespace = f"t-{secrets.token_hex(4)}"
        self.front: Front
        self._raw: Raw | None = None

    def bus(self) -> RabbitBus:
        return RabbitBus([self.url], self.namespace, PUBLISH_TIMEOUT_S, LOG)

    @property
    def raw(self) -> Raw:
        if self._raw is None:
            self._raw = Raw(self.url, self.namespace)
        return self._raw

    async def confirms(self, within_s: float = 60.0) -> None:
        """Return when the server itself is back: a message to the jobs' queues is confirmed, each has its leader again.

        It takes connections before. Asked again and again: a message to a queue that is just electing its leader may
        never be confirmed.
        """
        bus = self.bus()
        await bus.start()
        try:
            async with asyncio.timeout(within_s):
                while True:
                    try:
                        return await bus.publish(Topic.JOBS, FOREIGN, ttl_ms=1)
                    except BrokerUnavailableError:
                        await asyncio.sleep(0.2)
        finally:
            await bus.close()

    def close(self) -> None:
        if self._raw is not None:
            self._raw._connection.close()

    @contextlib.asynccontextmanager
    async def midway(self) -> AsyncIterator[asyncio.Task[httpx.Response]]:
        """A refresh whose job is with the reporters. Their reports go out when the block ends."""
        for reporter in self.front.reporters:
            reporter.free.clear()
            reporter.jobs.clear()
        asking = asyncio.create_task(self.front.refresh())
        await until(lambda: any(reporter.jobs for reporter in self.front.reporters))
        try:
            yield asking
        finally:
            for reporter in self.front.reporters:
                reporter.free.set()


@pytest_asyncio.fixture(loop_scope="module")
async def world(rabbit: RabbitNode, chain: Anvil, tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        one = World(rabbit.url)
        stack.callback(one.close)
        buses = one.bus(), one.bus()
        for bus in buses:
            await bus.start()
            stack.push_async_callback(bus.close)
        store = f"sqlite+aiosqlite:///{tmp_path / 'attempts.sqlite'}"
        one.front = await stack.enter_async_context(front(chain, *buses, store, tmp_path))
        assert (await one.front.refresh()).status_code == 200
        yield one


async def test_killed_and_started_in_the_middle_of_an_attempt(world: World, rabbit: RabbitNode) -> None:
    await rabbit.keeps_its_queues()
    async with world.midway() as asking:
        await rabbit.kill()
    assert await world.front.refused(asking) in CUT_OFF
    await nothing_new_and_reads_go_on(world.front)
    await rabbit.start()
    await world.confirms()
    await world.front.recovers()


async def test_blocked_by_a_memory_alarm(world: World, rabbit: RabbitNode) -> None:
    await rabbit.ctl("set_vm_memory_high_watermark", "0.00001")
    await nothing_new_and_reads_go_on(world.front)
    await rabbit.ctl("set_vm_memory_high_watermark", "0.6")
    await world.confirms()
    await world.front.recovers()


async def test_frozen_with_sigstop_in_the_middle_of_an_attempt(world: World, rabbit: RabbitNode) -> None:
    async with world.midway() as asking:
        rabbit.signal(signal.SIGSTOP)
    try:
        assert await world.front.refused(asking) in CUT_OFF
        await nothing_new_and_reads_go_on(world.front)
    finally:
        rabbit.signal(signal.SIGCONT)
    await world.confirms()
    await world.front.recovers()


async def nothing_new_and_reads_go_on(front: Front) -> None:
    """While the broker is away."""
    before = await front.client.group_state("majors")
    assert await front.refused() == "broker_unavailable"
    price = await front.read()
    assert (price["round"], price["price"]) == (before.round, "60000.50000000")
    assert await front.sent() == before.round


async def test_queues_deleted(world: World) -> None:
    world.raw.delete_queue(Topic.JOBS, "fetcher-0")
    world.raw.delete_queue(Topic.REPORTS, "aggregator-1")
    await world.front.recovers()
    await until(lambda: world.raw.exists(Topic.JOBS, "fetcher-0"))
    before = len(world.front.reporters[0].jobs)
    await world.front.recovers()
    assert len(world.front.reporters[0].jobs) > before


async def test_deliveries_that_come_twice_and_out_of_order(world: World) -> None:
    earlier: list[Report] = []
    order = random.Random(5)

    def twist(report: Report) -> list[Report]:
        again = [msgspec.structs.replace(report, id=f"{report.id}-{n}") for n in range(3)]
        sent = [report, report, *again, *earlier[-6:]]
        earlier.append(report)
        order.shuffle(sent)
        return sent

    for reporter in world.front.reporters:
        reporter.twist = twist
    rounds = (await world.front.client.group_state("majors")).round
    for n in range(1, 6):
        answer = await world.front.refresh()
        assert (answer.status_code, answer.json()["round"]) == (200, rounds + n)
    assert await world.front.sent() == rounds + 5
    record = world.front.service.recorder.newest("majors")
    assert record is not None
    assert len({one.signer for one in record.reports if one.verdict == "included"}) >= 3
    assert {one.code for one in record.reports} <= {None, "late"}  # a copy is no contradiction


async def test_a_poison_message_on_every_way(world: World) -> None:
    raw = world.raw
    for topic in (Topic.JOBS, Topic.REPORTS, Topic.HINTS):
        for body in (b"\xff\xfe", b'{"type":"job/1"}', b"[" * 40_000):
            raw.publish(topic, body)
    answer = await world.front.refresh()
    assert answer.status_code == 200
    dead = await raw.dead_letters(3 * (4 + 1 + 1))  # four reporters hear jobs; the aggregator the rest
    assert {reason for reason, _ in dead} == {"rejected"}


async def test_a_full_queue(world: World, rabbit: RabbitNode) -> None:
    """One reporter takes nothing more: his queue fills, and drops its oldest; the others go on."""
    name = queue_name(world.namespace, Topic.JOBS, "nobody")
    other = world.bus()
    await other.start()
    subscription = await other.subscribe(Topic.JOBS, "nobody", _never)
    await subscription.cancel()
    await other.close()
    await rabbit.ctl("set_policy", "small", f"^{name}$", '{"max-length": 5}', "--apply-to", "queues")
    for _ in range(12):
        assert (await world.front.refresh()).status_code == 200
    sent = [b"%d" % number for number in range(12)]
    for body in sent:  # without a time to live, unlike jobs: only the queue's bound takes them away
        world.raw.publish(Topic.JOBS, body)
    await until(lambda: world.raw.depth(Topic.JOBS, "nobody") == 5)
    assert world.raw.bodies(Topic.JOBS, "nobody") == sent[-5:]


async def test_a_queue_that_takes_no_job_keeps_none_from_the_others(world: World) -> None:
    """The broker confirms a job only where every fetcher's queue has it; rounds need only a quorum of them."""
    world.raw.declare_full_queue(Topic.JOBS, "sick")
    for _ in range(3):
        assert (await world.front.refresh()).status_code == 200


async def _never(_message: object) -> None:
    await asyncio.Event().wait()
