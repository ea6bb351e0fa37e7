"""Three RabbitMQ nodes in one cluster; kill -9 for the one that leads a queue, in the middle of jobs: none is lost."""

from __future__ import annotations

import asyncio
import secrets
import time
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
LOG = get_logger("test", Mode.TEST)


async def leader(nodes: list[RabbitNode], queue: str) -> RabbitNode:
    listed = await nodes[0].ctl("list_queues", "name", "leader", "members", "--formatter", "json")
    rows = {row["name"]: row for row in msgspec.json.decode(listed)}
    assert len(rows[queue]["members"]) == len(nodes)
    return next(node for node in nodes if node.name == rows[queue]["leader"])


async def test_the_node_that_leads_a_queue_is_killed_and_no_job_is_lost(tmp_path: Path) -> None:
    async with rabbit_nodes(tmp_path, 3) as nodes:
        namespace = f"t-{secrets.token_hex(4)}"
        urls = [node.url for node in nodes]
        fetcher = RabbitBus(urls, namespace, 2.0, LOG)
        aggregator = RabbitBus(urls[1:] + urls[:1], namespace, 2.0, LOG)
        for bus in (fetcher, aggregator):
            await bus.start()
        got: list[str] = []

        async def handle(job: Job) -> None:
            await asyncio.sleep(0.005)
            got.append(job.id)

        await fetcher.subscribe(Topic.JOBS, "fetcher-a", handle, prefetch=8)  # type: ignore[arg-type]
        killed: asyncio.Task[None] | None = None
        doomed = await leader(nodes, queue_name(namespace, Topic.JOBS, "fetcher-a"))
        longest = 0.0
        try:
            for number in range(JOBS):
                if number == KILL_AT:
                    killed = asyncio.create_task(doomed.kill())
                started = time.monotonic()
                while True:  # as whoever asks again after a 503 does
                    try:
                        await aggregator.publish(Topic.JOBS, msgspec.structs.replace(JOB, id=f"job-{number}"))
                        break
                    except BrokerError:
                        assert time.monotonic() - started < 30
                        await asyncio.sleep(0.05)
                longest = max(longest, time.monotonic() - started)
            await until(lambda: len(set(got)) == JOBS, within_s=30)
        finally:
            for bus in (fetcher, aggregator):
                await bus.close()
        assert killed is not None
        await killed
        assert set(got) == {f"job-{number}" for number in range(JOBS)}
        print(f"longest wait for a confirmation: {longest:.1f} s")  # noqa: T201
