"""RabbitMQ going wrong: connections cut, frozen and refused, alarms, queues deleted underneath, foreign bytes."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import AsyncExitStack

import msgspec
import pytest
import structlog
from prometheus_client import CollectorRegistry

from broker import Job, Topic
from broker.errors import BrokerUnavailableError, TopologyError, UnroutableError
from broker.rabbitmq import RabbitBus
from core.types import Mode
from tests.support.rabbit import Proxy, Raw, TidyRabbitBus
from tests.support.wait import until

pytestmark = pytest.mark.needs_rabbitmq

JOB = Job(
    id="m-1", attempt="a-1", deployment="d", mode=Mode.TEST, group="majors", moment=1_710_328_245_390, budget_ms=800
)
TIMEOUT_S = 1.5
DEAD_URL = "amqp://user:hunter2@127.0.0.1:1/"


def job(name: str) -> Job:
    return msgspec.structs.replace(JOB, id=name)


class World:
    """A bus behind a proxy, and plain pika beside it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.namespace = f"test-{secrets.token_hex(6)}"
        self.registry = CollectorRegistry()
        self.got: list[str] = []

    async def open(self, stack: AsyncExitStack) -> None:
        self.proxy = Proxy(self.url)
        await self.proxy.start()
        stack.push_async_callback(self.proxy.stop)
        self.raw = Raw(self.url, self.namespace)
        self.bus = await self.another([self.proxy.url], stack, registry=self.registry)
        stack.callback(lambda: self.raw.tidy(self.bus.made))
        stack.push_async_callback(self.bus.close)

    async def another(self, urls: list[str], stack: AsyncExitStack | None = None, **more) -> TidyRabbitBus:
        bus = TidyRabbitBus(urls, self.namespace, TIMEOUT_S, **more)
        await bus.start()
        if stack is None:
            bus.made = self.bus.made
        return bus

    async def handler(self, message: Job) -> None:
        self.got.append(message.id)

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"fairmark_broker_{name}", labels) or 0.0


@pytest.fixture
async def world(rabbitmq_url, require_services):
    async with AsyncExitStack() as stack:
        world = World(rabbitmq_url)
        await world.open(stack)
        yield world


async def routed(bus: RabbitBus, topic: Topic, name: str) -> None:
    """Publish, as soon as a queue is bound."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await bus.publish(topic, job(name))
            except UnroutableError:
                await asyncio.sleep(0.02)


async def test_consuming_and_publishing_go_on_after_the_connection_is_cut(world):
    await world.bus.subscribe(Topic.JOBS, "a", world.handler)
    await world.bus.publish(Topic.JOBS, job("before"))
    await until(lambda: world.got == ["before"])
    world.proxy.cut()
    await until(lambda: not world.bus.connected)
    assert world.count("connected") == 0
    await world.bus.publish(Topic.JOBS, job("after"))  # waits for the reconnection, within its timeout
    await until(lambda: "after" in world.got)
    assert world.got in (["before", "after"], ["before", "before", "after"])  # its acknowledgement may have been cut
    await until(lambda: world.bus.connected)
    assert world.count("reconnects_total") == 2  # one connection each way
    assert world.count("published_total", topic="jobs") == 2


async def test_publishing_while_the_broker_is_gone_fails_by_the_timeout_and_works_when_it_is_back(world):
    await world.bus.subscribe(Topic.JOBS, "a", world.handler)
    await world.proxy.refuse()
    world.proxy.cut()
    await until(lambda: not world.bus.connected)
    started = time.monotonic()
    with pytest.raises(BrokerUnavailableError, match="not connected"):
        await world.bus.publish(Topic.JOBS, job("lost"))
    assert time.monotonic() - started > TIMEOUT_S - 0.1
    with pytest.raises(BrokerUnavailableError):
        await world.bus.ping()
    await world.proxy.start()
    await until(lambda: world.bus.connected)
    await world.bus.publish(Topic.JOBS, job("back"))
    await until(lambda: world.got == ["back"])


async def test_a_publication_whose_connection_dies_before_the_confirm_says_so(world):
    await world.bus.subscribe(Topic.JOBS, "a", world.handler)
    world.proxy.freeze()
    publishing = asyncio.create_task(world.bus.publish(Topic.JOBS, job("doubtful")))
    await until(lambda: world.bus._publisher._pending)
    world.proxy.cut()
    with pytest.raises(BrokerUnavailableError, match="before the broker confirmed"):
        await publishing
    world.proxy.thaw()


async def test_a_frozen_broker_is_left_long_before_the_heartbeat_would_tell(world):
    await world.bus.subscribe(Topic.JOBS, "a", world.handler)
    connections = world.proxy.accepted
    world.proxy.freeze()
    with pytest.raises(BrokerUnavailableError, match="does not answer"):
        await world.bus.publish(Topic.JOBS, job("doubtful"))
    await until(lambda: world.proxy.accepted >= connections + 2, within_s=10)  # both were dropped and dialled again
    world.proxy.thaw()
    await until(lambda: world.bus.connected)
    await world.bus.publish(Topic.JOBS, job("thawed"))
    await until(lambda: "thawed" in world.got)


async def test_closing_before_a_frozen_broker_is_bounded(world):
    world.proxy.freeze()
    started = time.monotonic()
    await world.bus.close()
    assert time.monotonic() - started < 12  # a few bounds of two seconds, one after another


async def test_during_an_alarm_publishing_fails_by_the_timeout_without_being_sent(world):
    await world.bus.subscribe(Topic.JOBS, "a", world.handler)
    world.proxy.alarm("low on memory")
    await until(lambda: not world.bus._outward.flowing.is_set())
    with pytest.raises(BrokerUnavailableError, match="low on memory"):
        await world.bus.publish(Topic.JOBS, job("refused"))
    with pytest.raises(BrokerUnavailableError, match="low on memory"):
        await world.bus.ping()
    waiting = asyncio.create_task(world.bus.publish(Topic.JOBS, job("waited")))
    await asyncio.sleep(0.05)
    world.proxy.alarm(None)
    await waiting
    await until(lambda: world.got == ["waited"])
    assert world.proxy.accepted == 2  # an alarm is no reason to reconnect


async def test_a_handler_that_outlives_its_connection_does_not_acknowledge_on_the_next(world):
    release = asyncio.Event()
    seen: list[str] = []

    async def slow_once(message: Job) -> None:
        seen.append(message.id)
        if len(seen) == 1:
            await release.wait()

    await world.bus.subscribe(Topic.JOBS, "a", slow_once, prefetch=4)
    await world.bus.publish(Topic.JOBS, job("one"))
    await until(lambda: seen == ["one"])
    world.proxy.cut()
    await until(lambda: seen == ["one", "one"])  # delivered again on the new channel
    release.set()
    await world.bus.publish(Topic.JOBS, job("two"))
    await until(lambda: seen == ["one", "one", "two"])
    await until(lambda: world.raw.depth(Topic.JOBS, "a") == 0)
    assert world.count("reconnects_total") == 2
    assert seen == ["one", "one", "two"]


async def test_an_instances_own_queue_keeps_its_messages_through_a_short_loss(world):
    await world.bus.subscribe(Topic.REPORTS, "mine", world.handler, exclusive=True)
    other = await world.another([world.url])
    await world.proxy.refuse()
    world.proxy.cut()
    await until(lambda: not world.bus.connected)
    await other.publish(Topic.REPORTS, job("meanwhile"), ttl_ms=5_000)
    await world.proxy.start()
    await until(lambda: world.got == ["meanwhile"])
    await other.close()


@pytest.mark.parametrize("exclusive", [False, True])
async def test_a_queue_deleted_underneath_is_made_again(world, exclusive):
    await world.bus.subscribe(Topic.JOBS, "a", world.handler, exclusive=exclusive)
    world.raw.delete_queue(Topic.JOBS, "a")
    await until(lambda: world.raw.exists(Topic.JOBS, "a"))
    await routed(world.bus, Topic.JOBS, "again")
    await until(lambda: world.got == ["again"])


async def test_an_instance_whose_own_queue_cannot_be_had_back_takes_another(world):
    """In a cluster, the node that held it may be down; here its name is taken by a queue of another kind."""
    subscription = await world.bus.subscribe(Topic.REPORTS, "mine", world.handler, exclusive=True)
    await world.proxy.refuse()
    world.proxy.cut()
    await until(lambda: not world.bus.connected)
    world.raw.delete_queue(Topic.REPORTS, "mine")
    world.raw.declare_queue(Topic.REPORTS, "mine", durable=False)
    await world.proxy.start()
    await until(lambda: world.bus.connected)
    await routed(world.bus, Topic.REPORTS, "elsewhere")
    await until(lambda: world.got == ["elsewhere"])
    await subscription.cancel()


async def test_malformed_bytes_end_in_the_dead_letters_and_the_next_message_is_handled(world):
    await world.bus.subscribe(Topic.JOBS, "a", world.handler)
    foreign = [
        b"not json",
        b"\xff\xfe\x00",
        b'{"type":"job/99","id":"x"}',
        b'{"type":"job/1"}',
        b"",
        b'{"x":' + b"[" * 50_000,
    ]
    for body in foreign:
        world.raw.publish(Topic.JOBS, body)
    await world.bus.publish(Topic.JOBS, job("good"))
    await until(lambda: world.got == ["good"])
    dead = await world.raw.dead_letters(len(foreign))
    assert sorted(dead) == sorted(("rejected", body) for body in foreign)
    assert world.count("dead_lettered_total", reason="malformed") == len(foreign)


async def test_an_exchange_deleted_underneath_is_made_again(world):
    await world.bus.subscribe(Topic.HINTS, "a", world.handler)
    world.raw.delete_exchange(Topic.HINTS)
    with pytest.raises(BrokerUnavailableError, match="404 NOT_FOUND"):
        await world.bus.publish(Topic.HINTS, job("nowhere"))
    world.raw.delete_queue(Topic.HINTS, "a")  # its consumer makes queue and binding again
    await until(lambda: world.raw.exists(Topic.HINTS, "a"))
    await routed(world.bus, Topic.HINTS, "there")
    await until(lambda: world.got == ["there"])


async def test_a_channel_on_which_the_broker_refused_a_message_is_replaced(world):
    """RabbitMQ may go on refusing on that channel for ever: in tests/chaos/test_broker_cluster.py it does."""
    await world.bus.subscribe(Topic.JOBS, "a", world.handler)
    world.raw.declare_full_queue(Topic.JOBS, "full")
    world.bus.made.add(f"{world.namespace}.jobs.full")
    refused_on = world.bus._publisher._keeper.channel
    with pytest.raises(BrokerUnavailableError, match="could not take"):
        await world.bus.publish(Topic.JOBS, job("refused"))
    world.raw.delete_queue(Topic.JOBS, "full")
    await world.bus.publish(Topic.JOBS, job("taken"))
    await until(lambda: "taken" in world.got)
    assert world.bus._publisher._keeper.channel is not refused_on
    assert world.count("reconnects_total") == 0  # the connection is as good as before


async def test_the_second_url_is_used_when_the_first_is_dead(world):
    bus = await world.another([DEAD_URL, world.url])
    assert bus.connected
    assert await bus.ping() > 0
    await bus.close()


async def test_a_lost_broker_is_replaced_by_the_next_in_the_list(world):
    bus = await world.another([world.proxy.url, world.url])
    await bus.subscribe(Topic.JOBS, "a", world.handler)
    await world.proxy.refuse()
    world.proxy.cut()
    await until(lambda: not bus.connected)
    await bus.publish(Topic.JOBS, job("elsewhere"))
    await until(lambda: world.got == ["elsewhere"])
    await bus.close()


async def start_fails(urls: list[str]) -> str:
    bus = RabbitBus(urls, "test-never", 0.5, structlog.stdlib.get_logger("test"))
    with pytest.raises(BrokerUnavailableError) as raised:
        await bus.start()
    assert not bus.connected
    return str(raised.value)


async def test_start_names_every_url_it_tried_without_its_password_and_what_to_do():
    text = await start_fails([DEAD_URL, "amqp://other:s3cret@127.0.0.1:2/vhost"])
    assert "amqp://user@127.0.0.1:1/: ConnectionRefusedError" in text
    assert "amqp://other@127.0.0.1:2/vhost: ConnectionRefusedError" in text
    assert "Start RabbitMQ, or correct broker.urls" in text
    assert "hunter2" not in text
    assert "s3cret" not in text


async def test_start_tells_a_wrong_password_from_a_missing_broker(rabbitmq_url):
    text = await start_fails([rabbitmq_url.replace("guest:guest", "guest:wrong")])
    assert "ACCESS_REFUSED" in text
    assert "wrong" not in text


@pytest.mark.parametrize("url", ["", "nonsense", "amqp://host:notaport/", "http://127.0.0.1:1/"])
async def test_start_refuses_what_is_not_a_url(url):
    assert "no broker answers" in await start_fails([url])


async def test_a_queue_that_exists_with_other_arguments_is_named(world):
    world.raw.declare_queue(Topic.JOBS, "taken", durable=False)
    world.bus.made.add(f"{world.namespace}.jobs.taken")
    with pytest.raises(TopologyError, match=r"406 PRECONDITION_FAILED.*jobs\.taken"):
        await world.bus.subscribe(Topic.JOBS, "taken", world.handler)
    assert world.bus.connected
