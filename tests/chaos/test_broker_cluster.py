"""Three RabbitMQ nodes in one cluster; kill -9 for the one that leads a queue, in the middle of jobs: none is lost."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from broker import Job, Topic
from broker.errors import BrokerError
from broker.rabbitmq import RabbitBus
from broker.topology import queue_name
from core.logs import get_logger
from core.types import Mode
from tests.support.rabbit_node import RabbitNode, rabbit_nodes
from tests.support.wait import until

pytestmark = pytest.mark.needs_own_rabbitmq

JOB = Job(id="", attempt="a", deployment="d", mode=Mode.TEST, group="majors", moment=1_710_328_245_390, budget_ms=800)
JOBS, KILL_AT = 150, 50
RECOVERY_S = 5.0
"""Longest time from the cluster's own recovery, which has a leader to elect, until jobs pass through us again."""
LOG = get_logger("test", Mode.TEST)


async def leader(nodes: list[RabbitNode], queue: str) -> RabbitNode:
    listed = await nodes[0].ctl("list_queues", "name", "leader", "members", "--formatter", "json")
    rows = {row["name"]: row for row in msgspec.json.decode(listed)}
    assert len(rows[queue]["members"]) == len(nodes)
    return next(node for node in nodes if node.name == rows[queue]["leader"])


async def publish(bus: RabbitBus, name: str) -> float:
    """Until it is confirmed, as whoever asks again after a 503 does. When it was."""
    async with asyncio.timeout(60):
        while True:
            try:
                await bus.publish(Topic.JOBS, msgspec.structs.replace(JOB, id=name))
            except BrokerError:
                await asyncio.sleep(0.05)
            else:
                return time.monotonic()


async def test_the_node_that_leads_a_queue_is_killed_and_no_job_is_lost(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(rabbit_nodes(tmp_path, 3))
        namespace = f"t-{secrets.token_hex(4)}"

        async def started(*nodes: RabbitNode, publish_timeout_s: float = 2.0) -> RabbitBus:
            bus = RabbitBus([node.url for node in nodes], namespace, publish_timeout_s, LOG)
            await bus.start()
            stack.push_async_callback(bus.close)
            return bus

        handled: dict[str, float] = {}  # by job, when it first was

        async def handle(job: Job) -> None:
            await asyncio.sleep(0.02)  # slower than they come: some wait, and some are unacknowledged
            handled.setdefault(job.id, time.monotonic())

        fetcher = await started(*nodes)
        await fetcher.subscribe(Topic.JOBS, "fetcher-a", handle, prefetch=2)  # type: ignore[arg-type]
        doomed = await leader(nodes, queue_name(namespace, Topic.JOBS, "fetcher-a"))
        survivors = [node for node in nodes if node is not doomed]
        aggregator = await started(doomed, *survivors)
        beside = await started(
            survivors[0], publish_timeout_s=1.0
        )  # its connection stays: it waits for the cluster only

        begun: dict[str, float] = {}
        confirmed: dict[str, float] = {}

        async def publish_all() -> None:
            for number in range(JOBS):
                name = f"job-{number}"
                begun[name] = time.monotonic()
                confirmed[name] = await publish(aggregator, name)

        publishing = asyncio.create_task(publish_all())
        await until(lambda: len(confirmed) >= KILL_AT)
        await doomed.kill()
        killed = time.monotonic()
        assert len(handled) < len(confirmed) < JOBS, "not in the middle"
        cluster_s = await publish(beside, "beside") - killed
        await publishing
        await until(lambda: len(handled) == JOBS + 1)
        assert set(handled) == {"beside", *(f"job-{number}" for number in range(JOBS))}

        later = [name for name in begun if begun[name] > killed]
        published_s = min(confirmed[name] for name in later) - killed
        handled_s = min(handled[name] for name in later) - killed
        print(f"a leader after {cluster_s:.1f} s; published {published_s:.1f} s, handled {handled_s:.1f} s")  # noqa: T201
        assert published_s - cluster_s < RECOVERY_S
        assert handled_s - cluster_s < RECOVERY_S
