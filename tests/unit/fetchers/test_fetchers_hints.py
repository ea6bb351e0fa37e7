"""Hints: one signed word for each feed that has left its threshold, and no source asked twice in one interval."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from prometheus_client import CollectorRegistry

from broker import Hint, Message, Topic
from broker.errors import BrokerUnavailableError
from broker.memory import MemoryBus
from contracts.errors import RpcUnavailableError
from contracts.report import hint_digest, recover
from core.clock import FixedClock
from core.currency import DOLLARS, ConversionGraph
from core.types import Mode
from fetchers.candidates import make_plans
from fetchers.clocks import ClockWatch
from fetchers.fetch import Fetcher, Observation
from fetchers.hints import Sampler
from fetchers.metrics import FetcherMetrics
from fetchers.reader import PoolReader
from tests.support.fetchers import (
    BTC,
    DEPLOYMENT,
    DOMAIN,
    ETH,
    NOW,
    QUIET,
    SIGNER,
    FakeChain,
    FakePool,
    catalogue,
    group,
)

MAJORS = group("BTC/USD", "ETH/USD", deviation_bps=50)
SERVED = catalogue(a="BTC/USD ETH/USD", b="BTC/USD ETH/USD")


def prices(btc: str, eth: str) -> FakePool:
    return FakePool({(source, pair): price for source in "ab" for pair, price in (("BTC/USD", btc), ("ETH/USD", eth))})


@dataclass
class Room:
    pool: FakePool
    chain: FakeChain = field(
        default_factory=lambda: FakeChain(
            MAJORS, last_moment=NOW - 5000, standing={BTC: 7_000_000_000_000, ETH: 400_000_000_000}
        )
    )
    bus: MemoryBus = field(default_factory=MemoryBus)
    heard: list[Hint] = field(default_factory=list)
    offsets: dict[str, float] = field(default_factory=dict)

    async def sampler(self, sample_s: float = 5.0) -> Sampler:
        async def hear(message: Message) -> None:
            assert isinstance(message, Hint)
            self.heard.append(message)

        await self.bus.start()
        await self.bus.subscribe(Topic.HINTS, "aggregator", hear)
        graph = ConversionGraph(DOLLARS)
        return Sampler(
            groups=[MAJORS],
            plans={"majors": make_plans(MAJORS.feeds, list(SERVED), SERVED, graph)},
            fetcher=Fetcher(PoolReader(self.pool), graph, QUIET),
            chain=self.chain,
            signer=SIGNER,
            bus=self.bus,
            mode=Mode.TEST,
            clock=FixedClock(NOW + 7),
            sample_s=sample_s,
            new_id=lambda: "id",
            logger=QUIET,
            metrics=FetcherMetrics(CollectorRegistry()),
            watch=ClockWatch(lambda: self.offsets, FetcherMetrics(CollectorRegistry()), QUIET),
        )


async def test_a_feed_that_left_its_threshold_is_hinted_once_and_the_others_are_not() -> None:
    room = Room(prices("70351", "4020"))
    await (await room.sampler()).sample(MAJORS)
    await room.bus.close()
    (hint,) = room.heard
    assert (hint.pair, hint.price) == (BTC, 7_035_100_000_000)
    assert (hint.moment, hint.previous_moment) == (NOW, NOW - 5000)
    assert (hint.deployment, hint.group, hint.mode) == (DEPLOYMENT.id, "majors", Mode.TEST)
    digest = hint_digest(DOMAIN, "majors", BTC, hint.price, hint.moment, hint.previous_moment)
    assert recover(digest, hint.signature) == hint.reporter == SIGNER.address


async def test_with_a_wrong_clock_nothing_is_said() -> None:
    room = Room(prices("70351", "4020"), offsets={"a": -2_500.0, "b": -2_500.0, "c": -2_500.0})
    assert await (await room.sampler()).sample(MAJORS) == ()
    room.offsets.clear()
    assert len(await (await room.sampler()).sample(MAJORS)) == 1


async def test_quiet_feeds_say_nothing() -> None:
    assert await (await Room(prices("70350", "3980")).sampler()).sample(MAJORS) == ()


async def test_a_feed_without_a_price_or_without_an_answer_says_nothing() -> None:
    room = Room(FakePool({}))
    assert await (await room.sampler()).sample(MAJORS) == ()
    room = Room(prices("99999", "9999"), chain=FakeChain(MAJORS))
    assert await (await room.sampler()).sample(MAJORS) == ()


def observed(moment: int, btc: str) -> Observation:
    return Observation(moment=moment, answers={BTC: Decimal(btc)}, verdicts=(), quotes=(), failures=())


async def test_a_jobs_observation_is_used_again_within_the_interval() -> None:
    room = Room(prices("70000", "4000"))
    sampler = await room.sampler()
    sampler.saw("majors", observed(NOW - 10, "71000"))
    (hint,) = await sampler.sample(MAJORS)
    assert (hint.price, hint.moment, room.pool.asked) == (7_100_000_000_000, NOW - 10, [])


async def test_after_the_interval_the_sources_are_asked() -> None:
    room = Room(prices("70000", "4000"))
    sampler = await room.sampler(sample_s=0.02)
    sampler.saw("majors", observed(NOW - 10, "71000"))
    await asyncio.sleep(0.03)
    assert await sampler.sample(MAJORS) == ()
    assert len(room.pool.asked) == 4


async def test_an_observation_from_before_the_standing_answer_says_nothing() -> None:
    room = Room(prices("70000", "4000"))
    sampler = await room.sampler()
    sampler.saw("majors", observed(NOW - 5000, "71000"))
    assert await sampler.sample(MAJORS) == ()


async def test_the_chains_and_the_brokers_faults_are_named() -> None:
    room = Room(prices("71000", "4000"))
    sampler = await room.sampler()
    room.chain.down = True
    with pytest.raises(RpcUnavailableError):
        await sampler.sample(MAJORS)
    room.chain.down = False
    await room.bus.close()
    with pytest.raises(BrokerUnavailableError):
        await sampler.sample(MAJORS)


async def test_sampling_goes_on_after_a_fault() -> None:
    room = Room(prices("71000", "4000"))
    sampler = await room.sampler(sample_s=0.02)
    room.chain.down = True
    task = asyncio.create_task(sampler.run())
    await asyncio.sleep(0.07)
    assert room.heard == []
    room.chain.down = False
    await asyncio.sleep(0.07)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert {hint.pair for hint in room.heard} == {BTC}
