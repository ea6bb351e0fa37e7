"""Streams over real sockets against the simulator: values, reconnects, watchdogs, and what is not believed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from decimal import Decimal

import httpx
import msgspec
import pytest
from prometheus_client import CollectorRegistry

from core.clock import SystemClock
from core.ops import Ops
from core.settings import SimulatorSettings
from core.types import Pair
from simulator import RecordedBody, Simulator
from simulator.streams import DIALECTS
from sources.http import Reading
from sources.latest import KEEP_MS
from sources.simulated import simulator_stream_urls
from sources.stream_reader import MAX_REPEATS, Trade, Update
from sources.streams import Streams
from tests.support.fetchers import QUIET
from tests.support.streams import CATALOGUE, QUICK, STREAMED, fault, sample, simulated, state, streaming
from tests.support.wait import until

BTC = Pair("BTC/USD")
CLOCK = SystemClock()
VENUE = "coinbase"


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with simulated(VENUE, "okx") as running:
        yield running


def shown(streams: Streams, source: str, pair: Pair = BTC) -> Reading | None:
    return streams.latest(source, pair, CLOCK.now_ms())


def told_volume(source: str) -> bool:
    stream = CATALOGUE[source].stream
    return stream is not None and any(each.volume for each in stream.messages)


def true_to(simulator: Simulator, reading: Reading) -> bool:
    """Whether the simulator showed just that: the same last, bid and ask in one market."""
    ticker = reading.ticker
    return any(
        (each.venue, each.pair) == (reading.source, reading.pair)
        and (each.last, each.bid, each.ask) == (ticker.last, ticker.bid, ticker.ask)
        for each in simulator.served.since(0)
    )


async def lost(streams: Streams, because: str, source: str = VENUE, timeout_s: float = 8) -> str:
    await until(lambda: state(streams, source).last_loss.startswith(because), timeout_s)
    return state(streams, source).last_loss


def test_ten_exchanges_are_streamed_and_simulated() -> None:
    assert set(STREAMED) == set(DIALECTS)
    assert len(STREAMED) == 10


async def test_every_streamed_pair_shows_the_very_market_that_its_venue_showed() -> None:
    async with simulated(*STREAMED) as simulator:
        urls = await simulator_stream_urls(simulator.control_url)
        assert set(urls) == set(STREAMED)
        wanted = {name: CATALOGUE[name].streamed for name in STREAMED}
        heard: list[Update] = []
        async with streaming(urls, wanted, trades=True, sink=heard.append) as streams:
            missing = {(name, pair) for name, pairs in wanted.items() for pair in pairs}
            deadline = CLOCK.now_ms() + 15_000
            while missing and CLOCK.now_ms() < deadline:
                await asyncio.sleep(0.05)
                for source, pair in list(missing):
                    reading = shown(streams, source, pair)
                    # of two channels one may have moved on: then the next look finds them together
                    if reading is not None and true_to(simulator, reading):
                        assert bool(reading.ticker.volume) == told_volume(source), reading
                        missing.remove((source, pair))
            assert missing == set()
            # some exchanges want a second between two messages of ours
            await until(lambda: {each.source for each in heard if isinstance(each, Trade)} == set(STREAMED))
            for name in STREAMED:
                of = state(streams, name)
                assert (of.up, of.connections, of.last_loss) == (1, 1, "")
        trades = [each for each in heard if isinstance(each, Trade)]
        lasts = {(each.venue, each.pair, each.last) for each in simulator.served.since(0)}
        assert {(each.source, each.pair, each.price) for each in trades} <= lasts
        assert {each.missed for each in trades} == {0}
        times = [shown(streams, name, pair) for name, pairs in wanted.items() for pair in pairs]
        assert times == [None] * len(times)  # what no longer runs shows nothing


async def test_the_price_is_the_one_as_of_the_moment_until_that_is_too_long_ago(simulator: Simulator) -> None:
    async with streaming(simulator.stream_urls(), {VENUE: [BTC]}) as streams:
        await until(lambda: shown(streams, VENUE) is not None)
        moment = CLOCK.now_ms()
        then = streams.latest(VENUE, BTC, moment)
        assert then is not None
        await until(lambda: shown(streams, VENUE) != then)
        await asyncio.sleep(0.3)
        again = streams.latest(VENUE, BTC, moment)
        assert again is not None
        assert moment - 5_000 < again.received_ms <= moment + 50
        later = shown(streams, VENUE)
        assert later is not None
        assert later.received_ms > again.received_ms
        # its readings come 20 a second: by their number alone this moment would be kept for 25 s
        await until(lambda: streams.latest(VENUE, BTC, moment) is None, KEEP_MS / 1000 + 10)
        assert shown(streams, VENUE) is not None


async def test_each_trade_reaches_who_wants_them_numbered_without_a_gap(simulator: Simulator) -> None:
    heard: list[Update] = []
    async with streaming(simulator.stream_urls(), {VENUE: [BTC]}, trades=True, sink=heard.append):
        await until(lambda: sum(isinstance(each, Trade) for each in heard) >= 5)
    trades = [each for each in heard if isinstance(each, Trade)]
    first = int(trades[0].id)
    assert [int(each.id) for each in trades] == list(range(first, first + len(trades)))
    assert {each.missed for each in trades} == {0}
    prices = {each.last for each in simulator.served.since(0) if each.venue == VENUE}
    assert {each.price for each in trades} <= prices


async def test_a_quiet_pair_is_no_silent_connection(simulator: Simulator) -> None:
    """OKX sends nothing of its own accord: what keeps the connection is its answer to our pings."""
    pair = Pair("BTC/USDT")
    simulator.board.pin({"okx:BTC/USDT": "65000.1"})
    async with streaming(simulator.stream_urls(), {"okx": [pair]}) as streams:
        await until(lambda: shown(streams, "okx", pair) is not None)
        await asyncio.sleep(2.5 * QUICK.silence_s)
        of = state(streams, "okx")
        assert (of.up, of.last_loss) == (1, "")
        reading = shown(streams, "okx", pair)
        assert reading is not None
        assert reading.ticker.last == Decimal("65000.1")
        # and too old a price is not used, though nothing is wrong with the connection
        assert streams.latest("okx", pair, reading.received_ms + 5_001) is None


async def test_a_silent_connection_is_lost_and_found_again(simulator: Simulator) -> None:
    registry = CollectorRegistry()
    async with streaming(simulator.stream_urls(), {"okx": [Pair("BTC/USDT")]}, registry=registry) as streams:
        await until(lambda: shown(streams, "okx", Pair("BTC/USDT")) is not None)
        async with fault(simulator, "okx", kind="hang", over="stream"):
            assert "not even a pong" in await lost(streams, "silent", "okx")
            assert shown(streams, "okx", Pair("BTC/USDT")) is None
            assert sample(registry, "fairmark_streams_connected", source="okx") == 0
        await until(lambda: shown(streams, "okx", Pair("BTC/USDT")) is not None)
        assert sample(registry, "fairmark_streams_connected", source="okx") == 1
        assert sample(registry, "fairmark_streams_reconnects_total", source="okx", reason="silent") == 1


@pytest.mark.parametrize(
    ("what", "because"),
    [
        ({"kind": "close", "after_s": 0.2}, "closed"),
        ({"kind": "reset"}, "closed"),
        ({"kind": "refused"}, "refused"),
        ({"kind": "429", "retry_after_s": 1}, "rate_limited"),
        ({"kind": "500"}, "refused: HTTP 500"),
        ({"kind": "redirect"}, "refused: HTTP 302"),
        ({"kind": "html"}, "refused"),
        ({"kind": "hang"}, "timeout"),
        ({"kind": "no_ack"}, "not_subscribed"),
        ({"kind": "rejected"}, "not_subscribed"),
        ({"kind": "malformed"}, "garbage"),
        ({"kind": "empty"}, "garbage"),
        ({"kind": "zero"}, "garbage"),
        ({"kind": "huge"}, "garbage"),
        ({"kind": "deep"}, "garbage"),
        ({"kind": "million"}, "too_large"),
        ({"kind": "leave"}, "told_to_leave"),
    ],
    ids=lambda what: what["kind"] if isinstance(what, dict) else "",
)
async def test_what_ends_a_stream_is_named_and_when_it_is_over_the_stream_is_back(
    what: dict[str, object], because: str, simulator: Simulator
) -> None:
    pair = Pair("BTC/USDT")
    async with streaming(simulator.stream_urls(), {"okx": [pair]}) as streams:
        if what["kind"] in {"close", "reset", "refused", "leave"}:  # those that strike an open connection
            await until(lambda: shown(streams, "okx", pair) is not None)
        async with fault(simulator, "okx", **what):
            await lost(streams, because, "okx")
            assert shown(streams, "okx", pair) is None
        await until(lambda: shown(streams, "okx", pair) is not None)
        reading = shown(streams, "okx", pair)
        assert reading is not None
        assert true_to(simulator, reading)


class Impatient(random.Random):
    """Draws no wait at all, and remembers out of which each was to be drawn."""

    def __init__(self) -> None:
        super().__init__(1)
        self.ceilings: list[float] = []

    def uniform(self, a: float, b: float) -> float:
        self.ceilings.append(round(b, 6))
        return a


async def test_each_wait_is_drawn_from_twice_the_last_one_until_a_connection_was_steady(simulator: Simulator) -> None:
    rng = Impatient()
    policy = msgspec.structs.replace(QUICK, backoff_s=0.01, max_backoff_s=0.1, steady_s=0.5)
    async with streaming(simulator.stream_urls(), {VENUE: [BTC]}, policy=policy, rng=rng) as streams:
        await until(lambda: shown(streams, VENUE) is not None)
        async with fault(simulator, VENUE, kind="refused"):
            await until(lambda: len(rng.ceilings) >= 7)
        assert rng.ceilings[:7] == [0.01, 0.02, 0.04, 0.08, 0.1, 0.1, 0.1]
        await until(lambda: shown(streams, VENUE) is not None)
        refused = len(rng.ceilings)
        await asyncio.sleep(policy.steady_s + 0.1)
        async with fault(simulator, VENUE, kind="close"):
            await lost(streams, "closed")
        assert rng.ceilings[refused] == 0.01


async def test_told_to_wait_it_waits(simulator: Simulator) -> None:
    async with fault(simulator, VENUE, kind="429", retry_after_s=2):
        started = asyncio.get_running_loop().time()
        async with streaming(simulator.stream_urls(), {VENUE: [BTC]}) as streams:
            await lost(streams, "rate_limited")
            simulator.faults.set(VENUE, ())
            await until(lambda: shown(streams, VENUE) is not None)
            assert asyncio.get_running_loop().time() - started >= 2.0


async def test_one_bad_message_among_good_ones_is_skipped(simulator: Simulator) -> None:
    registry = CollectorRegistry()
    async with (
        fault(simulator, VENUE, kind="malformed", probability=0.2),
        streaming(simulator.stream_urls(), {VENUE: [BTC]}, registry=registry) as streams,
    ):
        bad = {"source": VENUE, "code": "malformed"}
        await until(lambda: sample(registry, "fairmark_streams_bad_messages_total", **bad) >= 2)
        await until(lambda: shown(streams, VENUE) is not None)
        assert state(streams, VENUE).last_loss == ""


async def test_lost_trades_are_counted_and_the_price_goes_on(simulator: Simulator) -> None:
    registry = CollectorRegistry()
    heard: list[Update] = []
    async with (
        fault(simulator, VENUE, kind="gap", missing=3),
        streaming(
            simulator.stream_urls(), {VENUE: [BTC]}, registry=registry, trades=True, sink=heard.append
        ) as streams,
    ):
        await until(lambda: sum(isinstance(each, Trade) for each in heard) >= 4)
        assert [each.missed for each in heard if isinstance(each, Trade)][:4] == [0, 3, 3, 3]
        gaps = sample(registry, "fairmark_streams_gaps_total", source=VENUE)
        assert gaps >= 3
        assert sample(registry, "fairmark_streams_missed_total", source=VENUE) == 3 * gaps
        assert state(streams, VENUE).up == 1
        assert shown(streams, VENUE) is not None


async def test_a_repeated_message_is_read_once(simulator: Simulator) -> None:
    heard: list[Update] = []
    registry = CollectorRegistry()
    async with (
        fault(simulator, VENUE, kind="repeat"),
        streaming(simulator.stream_urls(), {VENUE: [BTC]}, registry=registry, trades=True, sink=heard.append),
    ):
        await until(lambda: sum(isinstance(each, Trade) for each in heard) >= 4)
    ids = [each.id for each in heard if isinstance(each, Trade)]
    assert len(ids) == len(set(ids))
    assert sample(registry, "fairmark_streams_messages_total", source=VENUE, heard="repeated") >= 4


async def test_a_stream_whose_numbers_begin_anew_is_opened_again(simulator: Simulator) -> None:
    registry = CollectorRegistry()
    async with streaming(simulator.stream_urls(), {VENUE: [BTC]}, registry=registry) as streams:
        await until(lambda: shown(streams, VENUE) is not None)
        async with fault(simulator, VENUE, kind="renumber"):
            assert str(BTC) in await lost(streams, "renumbered")
            repeated = {"source": VENUE, "heard": "repeated"}
            assert sample(registry, "fairmark_streams_messages_total", **repeated) == MAX_REPEATS - 1
            await until(lambda: state(streams, VENUE).up and shown(streams, VENUE) is not None)
            reading = shown(streams, VENUE)
            assert reading is not None
            assert true_to(simulator, reading)
        lost_for = {"source": VENUE, "reason": "renumbered"}
        assert sample(registry, "fairmark_streams_reconnects_total", **lost_for) == 1


@pytest.mark.parametrize(
    ("what", "outcome"),
    [
        ({"kind": "stale", "seconds": 300}, "expired"),
        ({"kind": "ahead", "seconds": 60}, "future"),
        ({"kind": "crossed"}, "crossed"),
        ({"kind": "untraded"}, "not_traded"),
    ],
    ids=lambda what: what["kind"] if isinstance(what, dict) else "",
)
async def test_a_stream_that_shows_what_is_not_to_be_believed_is_not_used(
    what: dict[str, object], outcome: str, simulator: Simulator
) -> None:
    registry = CollectorRegistry()
    async with (
        fault(simulator, VENUE, **what),
        streaming(simulator.stream_urls(), {VENUE: [BTC]}, registry=registry) as streams,
    ):
        read = {"source": VENUE, "outcome": outcome}
        await until(
            lambda: shown(streams, VENUE) is None and sample(registry, "fairmark_streams_reads_total", **read) > 0
        )
        assert state(streams, VENUE).up == 1


async def test_a_fault_over_streams_leaves_requests_alone_and_the_other_way_round(simulator: Simulator) -> None:
    async with (
        httpx.AsyncClient(trust_env=False, timeout=5) as client,
        streaming(simulator.stream_urls(), {VENUE: [BTC]}) as streams,
    ):
        url = simulator.venue_urls[VENUE] + CATALOGUE[VENUE].request_path(BTC)
        await until(lambda: shown(streams, VENUE) is not None)
        async with fault(simulator, VENUE, kind="500", over="http"):
            assert (await client.get(url)).status_code == 500
            await asyncio.sleep(0.2)
            assert shown(streams, VENUE) is not None
        async with fault(simulator, VENUE, kind="500", over="stream"):
            assert (await client.get(url)).status_code == 200
        async with fault(simulator, VENUE, kind="no_ack"):
            assert (await client.get(url)).status_code == 200


async def test_a_replay_has_no_streams_beside_its_recorded_bodies() -> None:
    body = RecordedBody(venue=VENUE, pair=BTC, body=b"{}")
    ops = Ops("simulator", "test")
    replay = Simulator(SimulatorSettings(port=0), clock=CLOCK, logger=QUIET, ops=ops, recorded=[body], venues=[VENUE])
    async with replay.run():
        assert await simulator_stream_urls(replay.control_url) == {}
