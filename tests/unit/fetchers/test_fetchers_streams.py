"""What streams show is used as of the moment, requests fill the rest, and glances between rounds ask nobody."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from prometheus_client import CollectorRegistry

from broker import Hint, Message, Topic
from broker.memory import MemoryBus
from core.clock import FixedClock
from core.currency import DOLLARS, ConversionGraph
from core.ops import Ops
from core.types import Aggregate, FailureCode, Feed, Mode, Pair
from fetchers.asks import Using
from fetchers.candidates import Candidate, make_plans
from fetchers.clocks import ClockWatch
from fetchers.fetch import Fetcher, Observation
from fetchers.hints import Sampler
from fetchers.metrics import FetcherMetrics
from fetchers.reader import PoolReader
from fetchers.service import FetcherService
from sources import ChangeTracker, Ticker
from tests.support.fetchers import (
    BTC,
    NOW,
    QUIET,
    SIGNER,
    FakeChain,
    FakePool,
    FakeStreams,
    MemoryReportStore,
    catalogue,
    feed,
    group,
)
from tests.support.wait import until

GRAPH = ConversionGraph(DOLLARS)
SERVED = catalogue(a="BTC/USD", b="BTC/USD", c="BTC/USD", d="BTC/USD")
ONE = feed("BTC/USD", wanted_sources=2, min_sources=2)
KNOWN = {"a": 0.0, "b": 0.0, "c": 0.0}


def pool(**prices: str) -> FakePool:
    return FakePool({(source, "BTC/USD"): price for source, price in prices.items()})


def streams(**prices: str) -> FakeStreams:
    return FakeStreams({(source, "BTC/USD"): price for source, price in prices.items()})


async def fetch(
    asked: FakePool,
    shown: FakeStreams,
    using: Using = Using.ANY,
    changes: ChangeTracker | None = None,
    of: Feed = ONE,
) -> Observation:
    fetcher = Fetcher(PoolReader(asked, changes, shown), GRAPH, QUIET)
    plans = make_plans([of], list(SERVED), SERVED, GRAPH)
    return await fetcher.fetch(plans, NOW, asyncio.get_running_loop().time() + 0.5, using=using)


async def test_what_is_streamed_takes_no_request_and_goes_first_in_order_of_priority() -> None:
    asked = pool(a="70000", b="70001", c="70002", d="70003")
    seen = await fetch(asked, streams(b="70010", c="70012", d="70014"))
    assert asked.asked == []
    assert [(quote.source, quote.price) for quote in seen.quotes] == [("b", Decimal(70010)), ("c", Decimal(70012))]
    assert seen.answers == {BTC: Decimal(70010)}


async def test_it_is_read_as_of_the_moment() -> None:
    shown = streams(a="70000", b="70001")
    await fetch(pool(), shown)
    assert set(shown.moments) == {NOW}


async def test_requests_fill_the_rest_in_the_same_fetch() -> None:
    asked = pool(a="70000", b="70001", c="70002")
    seen = await fetch(asked, streams(c="70012"))
    assert asked.asked == [Candidate("a", BTC)]
    assert {quote.source: quote.price for quote in seen.quotes} == {"a": Decimal(70000), "c": Decimal(70012)}


async def test_a_streamed_price_that_is_refused_is_replaced_like_any_other() -> None:
    asked = pool(a="70000", b="70001", c="70002", d="70003")
    seen = await fetch(asked, streams(a="0.1", b="70011"))  # the first is below the feed's magnitude
    assert {failure.source: failure.code for failure in seen.failures} == {"a": FailureCode.OUT_OF_RANGE}
    assert {quote.source for quote in seen.quotes} == {"b", "c"}
    assert asked.asked == [Candidate("c", BTC)]


async def test_with_streams_only_nobody_is_asked_and_with_requests_only_no_stream_is_used() -> None:
    asked = pool(a="70000", b="70001")
    seen = await fetch(asked, streams(c="70012", d="70014"), Using.STREAMS)
    assert (asked.asked, seen.answers) == ([], {BTC: Decimal(70012)})
    seen = await fetch(asked, streams(c="70012", d="70014"), Using.REQUESTS)
    assert {quote.source for quote in seen.quotes} == {"a", "b"}


async def test_where_volume_weighs_a_source_is_requested_whose_stream_tells_none() -> None:
    weighed = feed("BTC/USD", wanted_sources=2, min_sources=2, aggregate=Aggregate.VOLUME)
    asked = FakePool(
        {("a", "BTC/USD"): "70000", ("b", "BTC/USD"): "70001"}, volumes={("a", "BTC/USD"): "1", ("b", "BTC/USD"): "3"}
    )
    shown = streams(a="70010", b="70011", c="70012", d="70013")
    seen = await fetch(asked, shown, of=weighed)
    assert {quote.source: quote.volume for quote in seen.quotes} == {"a": Decimal(1), "b": Decimal(3)}
    assert seen.answers == {BTC: Decimal(70001)}
    # one that does not answer counts as its stream shows it, and no other is asked in its place
    asked = FakePool({("a", "BTC/USD"): FailureCode.RATE_LIMITED, ("b", "BTC/USD"): "70001"})
    seen = await fetch(asked, shown, of=weighed)
    assert {quote.source: quote.price for quote in seen.quotes} == {"a": Decimal(70010), "b": Decimal(70001)}
    assert {each.source for each in asked.asked} == {"a", "b"}
    # between rounds, glances ask nobody all the same
    asked = pool()
    seen = await fetch(asked, shown, Using.STREAMS, of=weighed)
    assert (asked.asked, seen.answers) == ([], {BTC: Decimal(70010)})


async def test_where_volume_weighs_a_stream_that_tells_it_takes_no_request_and_goes_first() -> None:
    weighed = feed("BTC/USD", wanted_sources=3, min_sources=2, aggregate=Aggregate.VOLUME)
    shown = streams(a="70000", b="70001", c="70002", d="70003")
    shown.volumes = {("b", "BTC/USD"): "10", ("d", "BTC/USD"): "25"}
    asked = FakePool({("a", "BTC/USD"): "70010", ("c", "BTC/USD"): "70012"})
    seen = await fetch(asked, shown, of=weighed)
    assert asked.asked == [Candidate("a", BTC)]
    assert {quote.source: (quote.price, quote.volume) for quote in seen.quotes} == {
        "a": (Decimal(70010), None),  # weighs what the least of the others does
        "b": (Decimal(70001), Decimal(10)),
        "d": (Decimal(70003), Decimal(25)),
    }
    assert seen.answers == {BTC: Decimal(70003)}  # 10, 25 and 10: half is reached at the second
    shown.volumes["a", "BTC/USD"] = "60"
    seen = await fetch(FakePool({}), shown, of=weighed)
    assert seen.answers == {BTC: Decimal(70000)}


async def test_streamed_volumes_weigh_nothing_in_a_plain_median() -> None:
    shown = streams(a="70000", b="70001")
    shown.volumes = {("a", "BTC/USD"): "1", ("b", "BTC/USD"): "3"}
    assert (await fetch(pool(), shown)).answers == {BTC: Decimal(70000)}
    weighed = feed("BTC/USD", wanted_sources=2, min_sources=2, aggregate=Aggregate.VOLUME)
    assert (await fetch(pool(), shown, of=weighed)).answers == {BTC: Decimal(70001)}


async def test_a_stream_that_shows_the_same_for_too_long_is_frozen() -> None:
    changes = ChangeTracker()
    for source in "ab":
        for ago_ms in range(ONE.max_unchanged_ms + 60_000, 0, -60_000):
            changes.saw(source, BTC, Ticker(last=Decimal(70000)), NOW - ago_ms)
    asked = pool(c="70002", d="70003")
    seen = await fetch(asked, streams(a="70000", b="70000"), changes=changes)
    assert {failure.source: failure.code for failure in seen.failures} == dict.fromkeys("ab", FailureCode.FROZEN)
    assert {quote.source for quote in seen.quotes} == {"c", "d"}


class Room:
    """A sampler with streams, and who listens to it."""

    def __init__(self, shown: FakeStreams, asked: FakePool, offsets: dict[str, float] | None = None) -> None:
        self.group = group("BTC/USD", deviation_bps=50, wanted_sources=2, min_sources=2)
        self.chain = FakeChain(self.group, standing={BTC: 7_000_000_000_000}, last_moment=NOW - 5_000)
        self.reads = 0
        self.bus = MemoryBus()
        self.heard: list[Hint] = []
        self.offsets = KNOWN if offsets is None else offsets
        self.shown, self.asked = shown, asked

    async def sampler(self, sample_s: float = 5.0, glance_s: float = 1.0) -> Sampler:
        async def hear(message: Message) -> None:
            assert isinstance(message, Hint)
            self.heard.append(message)

        await self.bus.start()
        await self.bus.subscribe(Topic.HINTS, "aggregator", hear)
        read_group = self.chain.read_group

        async def counted(name: str) -> object:
            self.reads += 1
            return await read_group(name)

        self.chain.read_group = counted  # type: ignore[method-assign, assignment]
        return Sampler(
            groups=[self.group],
            plans={"majors": make_plans(self.group.feeds, list(SERVED), SERVED, GRAPH)},
            fetcher=Fetcher(PoolReader(self.asked, None, self.shown), GRAPH, QUIET),
            chain=self.chain,
            signer=SIGNER,
            bus=self.bus,
            mode=Mode.TEST,
            clock=FixedClock(NOW),
            sample_s=sample_s,
            new_id=lambda: "id",
            logger=QUIET,
            metrics=FetcherMetrics(CollectorRegistry()),
            watch=ClockWatch(lambda: self.offsets, FetcherMetrics(CollectorRegistry()), QUIET),
            glance_s=glance_s,
        )


async def test_a_glance_hints_by_what_is_streamed_and_asks_no_source() -> None:
    room = Room(streams(a="70351", b="70352"), pool(a="70000", b="70000"))
    sampler = await room.sampler()
    (hint,) = await sampler.glance(room.group)
    assert (hint.pair, hint.price, hint.moment) == (BTC, 7_035_100_000_000, NOW)
    assert room.asked.asked == []


async def test_the_chain_is_read_anew_only_where_a_price_seems_to_have_left() -> None:
    room = Room(streams(a="70001", b="70002"), pool())
    sampler = await room.sampler()
    for _ in range(3):
        assert await sampler.glance(room.group) == ()
    assert room.reads == 1
    room.shown.prices = {("a", "BTC/USD"): "70351", ("b", "BTC/USD"): "70352"}
    room.chain.standing = {BTC: 7_035_000_000_000}  # but a round has been there in the meantime
    assert await sampler.glance(room.group) == ()
    assert room.reads == 2


async def test_after_a_job_the_answers_are_read_anew() -> None:
    room = Room(streams(a="70001", b="70002"), pool())
    sampler = await room.sampler(glance_s=0.01)
    await sampler.glance(room.group)
    sampler.saw("majors", Observation(moment=NOW, answers={}, verdicts=(), quotes=(), failures=()))
    await asyncio.sleep(0.02)
    await sampler.glance(room.group)
    assert room.reads == 2


async def test_where_nothing_is_streamed_a_glance_says_nothing() -> None:
    room = Room(streams(), pool(a="71000", b="71000"))
    assert await (await room.sampler()).glance(room.group) == ()
    assert (room.asked.asked, room.reads) == ([], 0)


async def test_glances_come_between_samples() -> None:
    room = Room(streams(a="70001", b="70002"), pool(a="70000", b="70000"))
    sampler = await room.sampler(sample_s=10, glance_s=0.02)
    task = asyncio.create_task(sampler.run())
    await asyncio.sleep(0.05)
    assert room.heard == []
    room.shown.prices = {("a", "BTC/USD"): "70351", ("b", "BTC/USD"): "70352"}
    await until(lambda: room.heard)
    task.cancel()
    await asyncio.wait([task])
    assert room.asked.asked == []


async def test_where_nobody_told_the_time_lately_a_sample_asks_though_all_is_streamed() -> None:
    room = Room(streams(a="70001", b="70002"), pool(a="70000", b="70000"), offsets={"a": 0.0})
    await (await room.sampler()).sample(room.group)
    assert {candidate.source for candidate in room.asked.asked} == {"a", "b"}
    knowing = Room(streams(a="70001", b="70002"), pool(a="70000", b="70000"))
    await (await knowing.sampler()).sample(knowing.group)
    assert knowing.asked.asked == []


async def test_the_service_runs_its_streams_and_shows_how_they_stand() -> None:
    shown = streams(a="70001", b="70002")
    majors = group("BTC/USD", wanted_sources=2, min_sources=2)
    ops = Ops("fetcher-a", Mode.TEST)
    bus = MemoryBus()
    await bus.start()
    service = FetcherService(
        name="fetcher-a",
        instance="one",
        groups=[majors],
        sources=tuple(SERVED),
        catalogue=SERVED,
        pool=pool(a="70000"),
        bus=bus,
        chain=FakeChain(majors),
        signer=SIGNER,
        store=MemoryReportStore(),
        clock=FixedClock(NOW),
        mode=Mode.TEST,
        ops=ops,
        logger=QUIET,
        sample_s=0,
        streams=shown,
    )
    assert shown.wanted == {source: {Pair("BTC/USD")} for source in "abcd"}
    task = asyncio.create_task(service.run())
    await until(lambda: ops.ready and shown.running)

    async def health() -> tuple[str, str]:
        _, body = await ops.health()
        found = body["dependencies"]["streams"]  # type: ignore[index]
        return found["status"], found["detail"]

    assert await health() == ("up", "4 of 4 up")
    shown.lost["b"] = "silent: nothing for 61.0 s, not even a pong"
    assert await health() == ("up", "3 of 4 up; b silent: nothing for 61.0 s, not even a pong")
    shown.lost |= dict.fromkeys("acd", "refused: HTTP 500")
    assert (await health())[0] == "down"
    healthy, _ = await ops.health()
    assert healthy  # there are still requests
    task.cancel()
    await asyncio.wait([task])
    assert not shown.running
    await bus.close()
