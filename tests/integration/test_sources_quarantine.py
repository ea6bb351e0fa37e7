"""A source that fails, hangs or dawdles, over real sockets: asked no more, probed, back; and what is learnt of it."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from core.clock import FixedClock, SystemClock
from core.currency import DOLLARS, ConversionGraph
from core.ops import Ops
from core.settings import SimulatorSettings
from core.types import FailureCode, Mode, Pair
from fetchers.candidates import make_plans
from fetchers.fetch import Fetcher
from fetchers.reader import PoolReader
from simulator import Simulator
from simulator.faults import parse_faults
from sources import QuarantinePolicy, Reading, RetryPolicy, SourcePool, State, load_catalogue
from sources.latency import ENOUGH
from tests.support.exchange import Answer, Exchange, body, exchanging, hanging, status, well
from tests.support.fetchers import QUIET, feed
from tests.support.wait import until

CATALOGUE = load_catalogue()
BTC, ETH, DOGE = (Pair(f"{base}/USDT") for base in ("BTC", "ETH", "DOGE"))
SHORT = QuarantinePolicy(pause_s=0.1, longest_pause_s=0.4)
ONCE = RetryPolicy(max_tries=1, try_timeout_s=0.3)


@pytest.fixture
async def exchange() -> AsyncIterator[Exchange]:
    async with exchanging() as there:
        yield there


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def pool(exchange: Exchange, registry: CollectorRegistry) -> AsyncIterator[SourcePool]:
    async with SourcePool(
        CATALOGUE,
        ["binance"],
        base_urls={"binance": exchange.url},
        clock=FixedClock(1_710_328_245_391),
        registry=registry,
        policy=ONCE,
        quarantine=SHORT,
        rng=random.Random(1),
        logger=QUIET,
    ) as made:
        yield made


async def ask(pool: SourcePool, *, pair: Pair = BTC, anyway: bool = False, within_s: float = 1.0) -> str:
    """`quote`, or the failure's code."""
    deadline = asyncio.get_running_loop().time() + within_s
    found = await pool.fetch("binance", pair, deadline=deadline, anyway=anyway)
    return "quote" if isinstance(found, Reading) else str(found.code)


def state(pool: SourcePool) -> State:
    (one,) = pool.status()
    return one.state


async def test_five_failures_quarantine_a_source_and_it_is_back_when_it_has_recovered(
    pool: SourcePool, exchange: Exchange, registry: CollectorRegistry
) -> None:
    exchange.script = [status(500)]
    assert [await ask(pool) for _ in range(6)] == ["server_error"] * 5 + ["quarantined"]
    assert registry.get_sample_value("fairmark_sources_quarantined", {"source": "binance"}) == 1
    assert registry.get_sample_value("fairmark_sources_quarantines_total", {"source": "binance"}) == 1
    sent = len(exchange.requests)
    assert sent == 5
    await until(lambda: len(exchange.requests) >= sent + 2)  # probed in vain
    assert await ask(pool) == "quarantined"
    (ill,) = pool.status()
    assert (ill.last_failure, ill.error_rate) == ("server_error: HTTP 500", 1.0)
    assert ill.health < 0.5
    exchange.script = [well]
    await until(lambda: state(pool) is State.OK)
    assert await ask(pool) == "quote"
    assert registry.get_sample_value("fairmark_sources_quarantined", {"source": "binance"}) == 0
    assert registry.get_sample_value("fairmark_sources_probes_total", {"source": "binance", "outcome": "ok"}) == 1


async def test_one_asked_anyway_that_answers_is_back_at_once(pool: SourcePool, exchange: Exchange) -> None:
    exchange.script = [status(500)] * 5 + [well]
    for _ in range(5):
        await ask(pool)
    assert await ask(pool, anyway=True) == "quote"
    assert state(pool) is State.OK
    sent = len(exchange.requests)
    await asyncio.sleep(0.3)
    assert len(exchange.requests) == sent, "nobody probes a source that is well"


@pytest.mark.parametrize(
    ("answer", "code"),
    [(hanging, FailureCode.TIMEOUT), (status(403), FailureCode.HTTP_STATUS), (status(418), FailureCode.RATE_LIMITED)],
)
async def test_whatever_the_fault_is_a_source_that_has_it_lastingly_is_quarantined(
    pool: SourcePool, exchange: Exchange, answer: Answer, code: FailureCode
) -> None:
    exchange.script = [answer]
    found = await asyncio.gather(*(ask(pool) for _ in range(5)))
    assert found == [str(code)] * 5
    assert await ask(pool) == "quarantined"


def only(*sound: str, otherwise: Answer) -> Answer:
    """The ticker of `sound` symbols, in a batch as well; `otherwise` where another one is asked for alone."""

    async def answer(request: web.Request) -> web.StreamResponse:
        book = {"bidPrice": "1.999", "askPrice": "2.001", "closeTime": 1_710_328_245_391}
        if "symbols" in request.query:
            asked = json.loads(request.query["symbols"])
            return web.json_response([{"symbol": e, "lastPrice": "2" if e in sound else "0", **book} for e in asked])
        if request.query["symbol"] not in sound:
            return await otherwise(request)
        return web.json_response({"symbol": request.query["symbol"], "lastPrice": "2", **book})

    return answer


@pytest.mark.parametrize(
    ("dead", "code"), [(status(404), "http_status"), (body(b""), "empty"), (body(b'{"msg":"no such"}'), "malformed")]
)
async def test_a_delisted_market_leaves_its_exchange_to_the_others(
    pool: SourcePool, exchange: Exchange, dead: Answer, code: str
) -> None:
    exchange.script = [only("BTCUSDT", otherwise=dead)]
    for _ in range(12):  # more than the failures in a row, and than half of those that make an error rate
        assert await ask(pool) == "quote"
        assert [await ask(pool, pair=DOGE), await ask(pool, pair=ETH)] == [code] * 2
    assert state(pool) is State.OK


async def test_all_markets_that_answer_404_are_their_exchange_and_it_is_back_without_the_delisted_one(
    pool: SourcePool, exchange: Exchange
) -> None:
    exchange.script = [only("BTCUSDT", "ETHUSDT", otherwise=status(404))]
    for pair in (BTC, ETH, DOGE):
        await ask(pool, pair=pair)
    exchange.script = [status(404)]
    for pair in (BTC, ETH, DOGE, DOGE, DOGE, DOGE):
        await ask(pool, pair=pair)
    assert state(pool) is not State.OK
    sent = len(exchange.requests)
    await until(lambda: len(exchange.requests) >= sent + 2)
    exchange.script = [only("BTCUSDT", otherwise=status(404))]
    await until(lambda: state(pool) is State.OK)
    assert await ask(pool) == "quote"


async def test_a_source_of_which_one_market_is_left_is_back_by_the_next_probe(
    pool: SourcePool, exchange: Exchange, registry: CollectorRegistry
) -> None:
    def probes(outcome: str) -> float:
        metric = "fairmark_sources_probes_total"
        return registry.get_sample_value(metric, {"source": "binance", "outcome": outcome}) or 0

    exchange.script = [status(404)]
    pairs = CATALOGUE["binance"].pairs
    for _ in range(5):
        await ask(pool)
    await until(lambda: probes("http_status") >= 1)
    failed = probes("http_status")
    assert len(exchange.requests) >= 5 + failed * len(pairs), "a probe asks for every market"
    exchange.script = [only(pairs[-1].replace("/", ""), otherwise=status(404))]
    await until(lambda: state(pool) is State.OK)
    assert probes("ok") == 1
    assert probes("http_status") <= failed + 1, "one may have been under way, and past that market"
    assert await ask(pool, pair=pairs[-1]) == "quote"


async def test_a_batch_that_gives_no_ticker_at_all_counts_and_one_that_gives_a_single_one_does_not(
    pool: SourcePool, exchange: Exchange
) -> None:
    async def both() -> list[str]:
        return await asyncio.gather(ask(pool), ask(pool, pair=ETH))

    exchange.script = [only("BTCUSDT", otherwise=status(500))]
    assert [await both() for _ in range(12)] == [["quote", "invalid_price"]] * 12
    assert state(pool) is State.OK
    exchange.script = [only(otherwise=status(500))]
    assert [await both() for _ in range(5)] == [["invalid_price"] * 2] * 5
    assert await both() == ["quarantined"] * 2


async def test_too_little_time_is_not_the_sources_fault(pool: SourcePool, exchange: Exchange) -> None:
    async def steady(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.15)
        return await well(request)

    exchange.script = [steady]
    assert [await ask(pool, within_s=0.05) for _ in range(8)] == ["timeout"] * 8
    assert state(pool) is State.OK
    assert await ask(pool) == "quote"


async def test_a_rest_that_it_asked_for_is_no_quarantine_and_is_kept_to_by_probes(
    pool: SourcePool, exchange: Exchange
) -> None:
    exchange.script = [status(429, Retry_After="30"), well]
    assert [await ask(pool) for _ in range(20)] == ["rate_limited"] * 20
    assert state(pool) is State.OK
    assert len(exchange.requests) == 1


async def test_a_closed_pool_probes_no_more(exchange: Exchange) -> None:
    exchange.script = [status(500)]
    before = asyncio.all_tasks()
    pool = SourcePool(
        CATALOGUE,
        ["binance"],
        base_urls={"binance": exchange.url},
        clock=SystemClock(),
        registry=CollectorRegistry(),
        policy=ONCE,
        quarantine=SHORT,
        logger=QUIET,
    )
    async with pool:
        for _ in range(5):
            await ask(pool)
    sent = len(exchange.requests)
    await asyncio.sleep(0.3)
    assert len(exchange.requests) == sent
    assert asyncio.all_tasks() <= before | {task for task in asyncio.all_tasks() if "probe" not in task.get_name()}


async def test_a_simulated_exchange_is_quarantined_and_back_and_judgements_do_not_count() -> None:
    """As in a real fetcher: of four venues one refuses connections, then only its market is dead, then it is well."""
    names = ("bitstamp", "coinbase", "gemini", "bitfinex")
    settings = SimulatorSettings(port=0, tick_ms=100)
    simulator = Simulator(settings, clock=SystemClock(), logger=QUIET, ops=Ops("simulator", Mode.TEST))
    async with simulator.run():
        pool = SourcePool(
            CATALOGUE,
            names,
            base_urls=simulator.venue_urls,
            clock=SystemClock(),
            registry=CollectorRegistry(),
            quarantine=SHORT,
            policy=RetryPolicy(backoff_s=0.001, max_backoff_s=0.002),
            logger=QUIET,
        )
        graph = ConversionGraph(DOLLARS)
        plans = make_plans([feed("BTC/USD", wanted_sources=3)], names, CATALOGUE, graph)
        fetcher = Fetcher(PoolReader(pool), graph, QUIET, hedge_after=pool.hedge_s)
        loop = asyncio.get_running_loop()

        async def round_of() -> str:
            observation = await fetcher.fetch(plans, SystemClock().now_ms(), loop.time() + 2)
            assert set(observation.answers) == {"BTC/USD"}
            return next((str(each.code) for each in observation.failures if each.source == "bitstamp"), "quote")

        async def with_fault(**what: object) -> None:
            simulator.faults.set("bitstamp", parse_faults(dict(what)) if what else ())
            await simulator.apply_faults()

        def ill() -> State:
            return next(each.state for each in pool.status() if each.source == "bitstamp")

        async with pool:
            await with_fault(kind="refused")
            assert [await round_of() for _ in range(5)] == ["connection"] * 5
            assert await round_of() == "quarantined"
            await with_fault(kind="untraded")
            await until(lambda: ill() is State.OK)
            assert [await round_of() for _ in range(8)] == ["not_traded"] * 8
            assert ill() is State.OK
            await with_fault()
            assert await round_of() == "quote"
            await fetcher.close()


async def test_a_source_that_is_slow_once_in_ten_is_hedged_and_what_it_really_takes_is_learnt() -> None:
    """Two exchanges, one price wanted: slow answers of the first are outrun by the second, and end by themselves."""
    asked = 0

    async def slow_once_in_ten(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.4 if asked % 10 == 0 else 0.01)
        return await well(request)

    async with exchanging() as first, exchanging() as second:
        first.script = [slow_once_in_ten]
        urls = {"binance": first.url, "binanceus": second.url}
        clock = FixedClock(1_710_328_245_391)
        pool = SourcePool(
            CATALOGUE, urls, base_urls=urls, clock=clock, registry=CollectorRegistry(), quarantine=SHORT, logger=QUIET
        )
        graph = ConversionGraph(DOLLARS)
        rules = feed("BTC/USDT", min_sources=1, wanted_sources=1, max_unchanged_ms=10**9)
        plans = make_plans([rules], list(urls), CATALOGUE, graph)
        took = []
        async with pool:
            fetcher = Fetcher(PoolReader(pool), graph, QUIET, hedge_after=pool.hedge_s)
            for _ in range(ENOUGH + 30):
                started = time.perf_counter()
                observation = await fetcher.fetch(plans, clock.now_ms(), asyncio.get_running_loop().time() + 2)
                took.append(time.perf_counter() - started)
                assert len(observation.quotes) >= 1
            await asyncio.sleep(0.5)
            learnt = next(each for each in pool.status() if each.source == "binance")
            await fetcher.close()
    assert max(took[:ENOUGH]) >= 0.39, "nothing is known yet, and two fifths of the budget are longer"
    assert sorted(took[ENOUGH:])[-3] < 0.3, took  # three of thirty were slow, and the machine may be slow once
    assert learnt.p95_ms is not None
    assert learnt.p95_ms >= 390
    assert learnt.state is State.OK
