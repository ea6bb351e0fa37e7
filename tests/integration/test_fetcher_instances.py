"""Two instances of one fetcher over RabbitMQ: they share the work, sign once, and stop without losing a job."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest

from broker import Job, Message, Refusal, Report, Topic
from core.clock import FixedClock
from core.ops import Ops
from core.types import Group, Mode
from fetchers import FetcherService, SqlReportStore
from tests.support.fetchers import DEPLOYMENT, NOW, QUIET, SIGNER, FakeChain, FakePool, Slow, catalogue, group
from tests.support.rabbit import Raw, TidyRabbitBus
from tests.support.wait import until

pytestmark = pytest.mark.needs_rabbitmq

SERVED = catalogue(a="BTC/USD", b="BTC/USD", c="BTC/USD")
GROUPS = [group("BTC/USD", name=f"group-{letter}") for letter in "abcdefghijklmnopqrstuvwxy"]
WAVES = 40
"""Of one job for each of the 25 groups: 1,000 jobs."""


class Chain(FakeChain):
    """Knows every group: they are all alike."""

    async def group_state(self, group: str):  # type: ignore[no-untyped-def]
        return await FakeChain(next(each for each in GROUPS if each.name == group)).group_state(group)


@dataclass
class Floor:
    """Two instances, a store that they share, and whoever hears their answers."""

    url: str
    folder: Path
    namespace: str = field(default_factory=lambda: f"test-{uuid4().hex[:12]}")
    clock: FixedClock = field(default_factory=lambda: FixedClock(NOW))
    heard: list[Message] = field(default_factory=list)
    buses: list[TidyRabbitBus] = field(default_factory=list)

    async def bus(self) -> TidyRabbitBus:
        bus = TidyRabbitBus([self.url], self.namespace)
        await bus.start()
        self.buses.append(bus)
        return bus

    def instance(self, name: str, bus: TidyRabbitBus, groups: list[Group], pool: FakePool) -> FetcherService:
        return FetcherService(
            name="fetcher-a",
            instance=name,
            groups=groups,
            sources=tuple(SERVED),
            catalogue=SERVED,
            pool=pool,
            bus=bus,
            chain=Chain(groups[0]),
            signer=SIGNER,
            store=SqlReportStore(f"sqlite+aiosqlite:///{self.folder}/reports.sqlite"),
            clock=self.clock,
            mode=Mode.TEST,
            ops=Ops("fetcher-a", Mode.TEST),
            logger=QUIET,
            sample_s=0,
        )

    async def hear(self, message: Message) -> None:
        self.heard.append(message)

    def reports(self) -> list[Report]:
        assert not [one for one in self.heard if isinstance(one, Refusal)]
        return [one for one in self.heard if isinstance(one, Report)]


@pytest.fixture
async def floor(rabbitmq_url: str, tmp_path: Path) -> AsyncIterator[Floor]:
    one = Floor(rabbitmq_url, tmp_path)
    try:
        yield one
    finally:
        for bus in reversed(one.buses):
            await bus.close()
        await asyncio.to_thread(Raw(rabbitmq_url, one.namespace).tidy, set().union(*(bus.made for bus in one.buses)))


@asynccontextmanager
async def running(service: FetcherService) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(service.run())
    try:
        await until(lambda: service.ops.ready or task.done())
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
        await service._store.close()


def prices(**slow: Slow) -> FakePool:
    return FakePool({(source, "BTC/USD"): slow.get(source, f"7000{index}") for index, source in enumerate("abc")})


def job(of: Group, moment: int, attempt: str) -> Job:
    return Job(
        id=attempt,
        attempt=attempt,
        deployment=DEPLOYMENT.id,
        mode=Mode.TEST,
        group=of.name,
        moment=moment,
        budget_ms=20_000,
    )


async def test_of_a_thousand_jobs_each_instance_does_its_share_and_each_moment_is_signed_once(floor: Floor) -> None:
    aggregator = await floor.bus()
    await aggregator.subscribe(Topic.REPORTS, "aggregator", floor.hear, exclusive=True, prefetch=64)
    one, two = [floor.instance(name, await floor.bus(), GROUPS, prices()) for name in ("one", "two")]
    async with running(one), running(two):
        for wave in range(WAVES):
            moment = NOW + 10 * wave
            floor.clock.advance(10 if wave else 0)
            await asyncio.gather(
                *(aggregator.publish(Topic.JOBS, job(of, moment, f"{of.name}-{wave}")) for of in GROUPS)
            )
            await until(lambda wave=wave: len(floor.heard) >= len(GROUPS) * (wave + 1), 60)
    reports = floor.reports()
    assert sorted(report.attempt for report in reports) == sorted(
        f"{of.name}-{wave}" for of in GROUPS for wave in range(WAVES)
    )
    share = Counter(report.instance for report in reports)
    assert share.total() == 1_000
    assert all(350 <= share[name] <= 650 for name in ("one", "two")), share


async def test_an_instance_that_stops_finishes_its_jobs_and_the_other_takes_the_rest(floor: Floor) -> None:
    aggregator = await floor.bus()
    await aggregator.subscribe(Topic.REPORTS, "aggregator", floor.hear, exclusive=True, prefetch=64)
    # every price takes a while, so that jobs are in hand when one instance is told to stop
    slow = [prices(a=Slow("70000", 0.4), b=Slow("70001", 0.4), c=Slow("70002", 0.4)) for _ in range(2)]
    one, two = [
        floor.instance(name, await floor.bus(), GROUPS, pool) for name, pool in zip(("one", "two"), slow, strict=True)
    ]
    async with running(one) as first, running(two):
        for of in GROUPS[:12]:
            await aggregator.publish(Topic.JOBS, job(of, NOW, of.name))
        await until(lambda: slow[0].asked)
        first.cancel()  # what SIGTERM does to a service
        for of in GROUPS[12:20]:
            await aggregator.publish(Topic.JOBS, job(of, NOW, of.name))
        await asyncio.wait([first])
        drained = Counter(report.instance for report in floor.reports())
        await until(lambda: len(floor.heard) >= 20, 30)
    reports = floor.reports()
    assert sorted(report.attempt for report in reports) == sorted(of.name for of in GROUPS[:20])
    share = Counter(report.instance for report in reports)
    assert share["one"] >= 1
    assert share["one"] == drained["one"]  # nothing came of it after it had stopped
