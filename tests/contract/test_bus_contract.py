"""What every bus promises: the in-process one and RabbitMQ pass the same tests."""

from __future__ import annotations

import asyncio
import secrets

import msgspec
import pytest

from broker import Job, Rejected, Topic
from broker.errors import BrokerUnavailableError, MalformedMessageError, UnroutableError
from broker.memory import MemoryBus
from core.types import Mode
from tests.support.rabbit import Raw, TidyRabbitBus, ids
from tests.support.wait import until

JOB = Job(
    id="m-1", attempt="a-1", deployment="d", mode=Mode.TEST, group="majors", moment=1_710_328_245_390, budget_ms=800
)


def job(name: str) -> Job:
    return msgspec.structs.replace(JOB, id=name)


class MemoryWorld:
    """One bus, shared by sender and receiver as in one process."""

    async def open(self) -> None:
        self.bus = MemoryBus(max_queue=100)
        await self.bus.start()

    async def dead_letters(self, count: int) -> list[tuple[str, str]]:
        await until(lambda: len(self.bus.dead_letters) >= count)
        return ids([(letter.reason, letter.data) for letter in self.bus.dead_letters])

    async def close(self) -> None:
        await self.bus.close()


class RabbitWorld:
    def __init__(self, url: str) -> None:
        self._url = url

    async def open(self) -> None:
        namespace = f"test-{secrets.token_hex(6)}"
        self.bus = TidyRabbitBus([self._url], namespace)
        await self.bus.start()
        self._raw = Raw(self._url, namespace)

    async def dead_letters(self, count: int) -> list[tuple[str, str]]:
        return ids(await self._raw.dead_letters(count))

    async def close(self) -> None:
        await self.bus.close()
        self._raw.tidy(self.bus.made)


@pytest.fixture(params=["memory", pytest.param("rabbitmq", marks=pytest.mark.needs_rabbitmq)])
async def world(request, rabbitmq_url, require_services):
    world = MemoryWorld() if request.param == "memory" else RabbitWorld(rabbitmq_url)
    await world.open()
    yield world
    await world.close()


class Inbox:
    """A handler that remembers what it got."""

    def __init__(self) -> None:
        self.got: list[Job] = []
        self._more = asyncio.Event()

    async def __call__(self, message: Job) -> None:
        self.got.append(message)
        self._more.set()

    async def ids(self, count: int) -> list[str]:
        """The ids of all that came, once there are `count`."""
        async with asyncio.timeout(3):
            while len(self.got) < count:
                self._more.clear()
                await self._more.wait()
        await asyncio.sleep(0.05)  # and no more than that
        return [message.id for message in self.got]


async def test_a_message_arrives_equal_and_is_not_the_same_object(world):
    inbox = Inbox()
    await world.bus.subscribe(Topic.JOBS, "a", inbox)
    await world.bus.publish(Topic.JOBS, JOB)
    await inbox.ids(1)
    assert inbox.got == [JOB]
    assert inbox.got[0] is not JOB


async def test_every_queue_gets_its_own_copy(world):
    first, second = Inbox(), Inbox()
    await world.bus.subscribe(Topic.JOBS, "a", first)
    await world.bus.subscribe(Topic.JOBS, "b", second, exclusive=True)
    await world.bus.publish(Topic.JOBS, job("one"))
    assert await first.ids(1) == ["one"]
    assert await second.ids(1) == ["one"]


async def test_subscribers_of_one_queue_share_its_messages(world):
    first, second = Inbox(), Inbox()
    await world.bus.subscribe(Topic.JOBS, "a", first, prefetch=1)
    await world.bus.subscribe(Topic.JOBS, "a", second, prefetch=1)
    sent = [f"m-{n}" for n in range(10)]
    for name in sent:
        await world.bus.publish(Topic.JOBS, job(name))
    await until(lambda: len(first.got) + len(second.got) == 10)
    assert sorted(message.id for message in first.got + second.got) == sorted(sent)
    assert first.got
    assert second.got


async def test_topics_are_apart(world):
    jobs, hints = Inbox(), Inbox()
    await world.bus.subscribe(Topic.JOBS, "a", jobs)
    await world.bus.subscribe(Topic.HINTS, "a", hints)
    await world.bus.publish(Topic.JOBS, job("one"))
    assert await jobs.ids(1) == ["one"]
    assert hints.got == []


async def test_a_topic_nobody_listens_to_is_unroutable(world):
    with pytest.raises(UnroutableError):
        await world.bus.publish(Topic.HINTS, JOB)
    inbox = Inbox()
    await world.bus.subscribe(Topic.HINTS, "a", inbox)
    await world.bus.publish(Topic.HINTS, job("later"))
    assert await inbox.ids(1) == ["later"]


async def test_messages_keep_their_order_for_one_at_a_time(world):
    inbox = Inbox()
    await world.bus.subscribe(Topic.JOBS, "a", inbox, prefetch=1)
    sent = [f"m-{n}" for n in range(20)]
    for name in sent:
        await world.bus.publish(Topic.JOBS, job(name))
    assert await inbox.ids(20) == sent


async def test_many_publish_at_once_and_nothing_is_lost(world):
    inbox = Inbox()
    await world.bus.subscribe(Topic.JOBS, "a", inbox)
    sent = [f"m-{n}" for n in range(50)]
    await asyncio.gather(*(world.bus.publish(Topic.JOBS, job(name)) for name in sent))
    assert sorted(await inbox.ids(50)) == sorted(sent)


@pytest.mark.parametrize("exclusive", [False, True])
async def test_a_failing_handler_gets_the_message_again(world, exclusive):
    seen: list[str] = []
    done = asyncio.Event()

    async def fails_once(message: Job) -> None:
        seen.append(message.id)
        if len(seen) == 1:
            raise RuntimeError("the first time fails")
        done.set()

    await world.bus.subscribe(Topic.JOBS, "a", fails_once, exclusive=exclusive)
    await world.bus.publish(Topic.JOBS, job("again"))
    async with asyncio.timeout(3):
        await done.wait()
    await asyncio.sleep(0.05)
    assert seen == ["again", "again"]


@pytest.mark.parametrize("exclusive", [False, True])
async def test_three_failures_end_in_the_dead_letters_and_others_go_on(world, exclusive):
    tries: list[str] = []
    good = Inbox()

    async def handler(message: Job) -> None:
        if message.id == "poison":
            tries.append(message.id)
            raise RuntimeError("always")
        await good(message)

    await world.bus.subscribe(Topic.JOBS, "a", handler, exclusive=exclusive)
    await world.bus.publish(Topic.JOBS, job("poison"))
    await world.bus.publish(Topic.JOBS, job("good"))
    assert await good.ids(1) == ["good"]
    assert [name for _, name in await world.dead_letters(1)] == ["poison"]
    assert tries == ["poison"] * 3


async def test_a_rejected_message_is_not_tried_again(world):
    tries: list[str] = []

    async def rejects(message: Job) -> None:
        tries.append(message.id)
        raise Rejected("not for us")

    await world.bus.subscribe(Topic.JOBS, "a", rejects)
    await world.bus.publish(Topic.JOBS, job("bad"))
    assert await world.dead_letters(1) == [("rejected", "bad")]
    assert tries == ["bad"]


async def test_a_message_of_a_wrong_shape_is_dead_lettered_and_others_go_on(world):
    inbox = Inbox()
    await world.bus.subscribe(Topic.JOBS, "a", inbox)
    await world.bus.publish(Topic.JOBS, msgspec.structs.replace(JOB, id="bent", moment="noon"))
    await world.bus.publish(Topic.JOBS, job("good"))
    assert [name for _, name in await world.dead_letters(1)] == ["bent"]
    assert await inbox.ids(1) == ["good"]


async def test_a_message_that_waited_past_its_ttl_is_dead_lettered_not_delivered(world):
    inbox = Inbox()
    subscription = await world.bus.subscribe(Topic.JOBS, "a", inbox)
    await subscription.cancel()
    await world.bus.publish(Topic.JOBS, job("late"), ttl_ms=40)
    await world.bus.publish(Topic.JOBS, job("patient"), ttl_ms=60_000)
    await asyncio.sleep(0.15)
    await world.bus.subscribe(Topic.JOBS, "a", inbox)
    assert await inbox.ids(1) == ["patient"]
    assert await world.dead_letters(1) == [("expired", "late")]


async def test_a_queue_keeps_messages_while_nobody_consumes_it(world):
    subscription = await world.bus.subscribe(Topic.JOBS, "a", Inbox())
    await subscription.cancel()
    await world.bus.publish(Topic.JOBS, job("kept"))
    inbox = Inbox()
    await world.bus.subscribe(Topic.JOBS, "a", inbox)
    assert await inbox.ids(1) == ["kept"]


async def test_an_exclusive_queue_goes_away_with_its_subscriber(world):
    subscription = await world.bus.subscribe(Topic.REPORTS, "mine", Inbox(), exclusive=True)
    await subscription.cancel()
    with pytest.raises(UnroutableError):
        await world.bus.publish(Topic.REPORTS, JOB)


async def test_prefetch_bounds_the_handlers_that_run(world):
    running, most = 0, 0
    release, handled = asyncio.Event(), asyncio.Semaphore(0)

    async def slow(_: Job) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await release.wait()
        running -= 1
        handled.release()

    await world.bus.subscribe(Topic.JOBS, "a", slow, prefetch=3)
    for n in range(8):
        await world.bus.publish(Topic.JOBS, job(f"m-{n}"))
    await asyncio.sleep(0.1)
    assert running == 3
    release.set()
    async with asyncio.timeout(3):
        for _ in range(8):
            await handled.acquire()
    assert most == 3


async def test_a_backlog_is_taken_up_to_prefetch_at_once(world):
    subscription = await world.bus.subscribe(Topic.JOBS, "a", Inbox())
    await subscription.cancel()
    for n in range(4):
        await world.bus.publish(Topic.JOBS, job(f"m-{n}"))
    barrier = asyncio.Barrier(5)  # passes only when all four handlers run together

    async def together(_: Job) -> None:
        await barrier.wait()

    await world.bus.subscribe(Topic.JOBS, "a", together, prefetch=4)
    async with asyncio.timeout(3):
        await barrier.wait()


async def test_cancel_waits_for_the_message_in_hand_and_takes_no_more(world):
    started, release = asyncio.Event(), asyncio.Event()
    finished: list[str] = []

    async def slow(message: Job) -> None:
        started.set()
        await release.wait()
        finished.append(message.id)

    subscription = await world.bus.subscribe(Topic.JOBS, "a", slow, prefetch=1)
    await world.bus.publish(Topic.JOBS, job("in hand"))
    await world.bus.publish(Topic.JOBS, job("waiting"))
    await started.wait()
    cancelling = asyncio.create_task(subscription.cancel())
    await asyncio.sleep(0.05)
    assert not cancelling.done()
    release.set()
    await cancelling
    assert finished == ["in hand"]
    inbox = Inbox()
    await world.bus.subscribe(Topic.JOBS, "a", inbox)
    assert await inbox.ids(1) == ["waiting"]


async def test_what_is_not_handled_within_the_time_to_drain_is_cut_off_and_returns_to_the_queue(world):
    started, cut_off = asyncio.Event(), asyncio.Event()

    async def endless(_: Job) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cut_off.set()

    subscription = await world.bus.subscribe(Topic.JOBS, "a", endless)
    await world.bus.publish(Topic.JOBS, job("long"))
    await started.wait()
    async with asyncio.timeout(30):
        await subscription.cancel(0.05)
    assert cut_off.is_set()
    inbox = Inbox()
    await world.bus.subscribe(Topic.JOBS, "a", inbox)
    assert await inbox.ids(1) == ["long"]


async def test_a_handler_may_publish(world):
    inbox = Inbox()

    async def forward(message: Job) -> None:
        await world.bus.publish(Topic.REPORTS, message)

    await world.bus.subscribe(Topic.REPORTS, "b", inbox, exclusive=True)
    await world.bus.subscribe(Topic.JOBS, "a", forward)
    await world.bus.publish(Topic.JOBS, job("through"))
    assert await inbox.ids(1) == ["through"]


async def test_a_handler_may_cancel_its_own_subscription(world):
    done = asyncio.Event()

    async def once(_: Job) -> None:
        await subscription.cancel()
        done.set()

    subscription = await world.bus.subscribe(Topic.JOBS, "a", once, prefetch=1)
    await world.bus.publish(Topic.JOBS, job("last"))
    async with asyncio.timeout(2):
        await done.wait()


async def test_a_message_too_large_is_refused_before_it_is_sent(world):
    await world.bus.subscribe(Topic.JOBS, "a", Inbox())
    with pytest.raises(MalformedMessageError, match="at most 1000000"):
        await world.bus.publish(Topic.JOBS, msgspec.structs.replace(JOB, group="x" * 1_000_001))


async def test_ping_and_connected_tell_the_state_and_a_closed_bus_refuses(world):
    assert world.bus.connected
    assert 0 <= await world.bus.ping() < 1000
    await world.bus.close()
    await world.bus.close()
    assert not world.bus.connected
    for refused in (
        world.bus.ping(),
        world.bus.publish(Topic.JOBS, JOB),
        world.bus.subscribe(Topic.JOBS, "a", Inbox()),
    ):
        with pytest.raises(BrokerUnavailableError):
            await refused
