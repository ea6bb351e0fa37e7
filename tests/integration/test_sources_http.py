"""A source that delays, hangs, floods, lies or dies: a reading or a coded failure, and never after the deadline.

The other side is a real HTTP server on loopback that misbehaves on demand.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from core.clock import FixedClock
from core.types import FailureCode, Pair, SourceFailure
from sources import (
    CatalogueError,
    Reading,
    RetryPolicy,
    SimulatorUnreachableError,
    SourcePool,
    load_catalogue,
    simulator_base_urls,
)
from sources.parse import MAX_BODY_BYTES
from tests.support.exchange import (
    BODY,
    Answer,
    Exchange,
    body,
    drip,
    exchanging,
    flood,
    hanging,
    reset,
    reset_mid_body,
    status,
    well,
)
from tests.support.wait import until

NOW = 1_710_328_245_391
BTC = Pair("BTC/USDT")


@pytest.fixture
async def exchange() -> AsyncIterator[Exchange]:
    async with exchanging() as there:
        yield there


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def pool(exchange: Exchange, registry: CollectorRegistry) -> AsyncIterator[SourcePool]:
    policy = RetryPolicy(try_timeout_s=0.2, max_tries=3, backoff_s=0.01, max_backoff_s=0.05)
    async with SourcePool(
        load_catalogue(),
        ["binance"],
        base_urls={"binance": exchange.url},
        clock=FixedClock(NOW),
        registry=registry,
        policy=policy,
        rng=random.Random(1),
    ) as made:
        yield made


async def ask(pool: SourcePool, budget_s: float = 2.0, pair: Pair = BTC) -> Reading | SourceFailure:
    loop = asyncio.get_running_loop()
    started = loop.time()
    result = await pool.fetch("binance", pair, deadline=started + budget_s)
    assert loop.time() - started < budget_s + 3, "a fetch ends by its deadline, on a busy machine too"
    return result


async def failure_of(pool: SourcePool, budget_s: float = 2.0) -> SourceFailure:
    result = await ask(pool, budget_s)
    assert isinstance(result, SourceFailure), result
    return result


def outcomes(registry: CollectorRegistry) -> dict[str, float]:
    return {
        sample.labels["outcome"]: sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "fairmark_sources_requests_total"
    }


async def test_a_ticker_comes_with_its_receipt(
    pool: SourcePool, exchange: Exchange, registry: CollectorRegistry
) -> None:
    reading = await ask(pool)
    assert isinstance(reading, Reading)
    assert (reading.source, reading.pair, reading.received_ms) == ("binance", BTC, NOW)
    assert (reading.ticker.last, reading.ticker.bid, reading.ticker.ask, reading.ticker.time_ms) == (
        Decimal("73369.84"),
        Decimal("73369.83"),
        Decimal("73369.84"),
        NOW,
    )
    (request,) = exchange.requests
    assert request.path_qs == "/api/v3/ticker/24hr?symbol=BTCUSDT"
    assert request.headers["User-Agent"] == "fairmark/0.1"
    assert outcomes(registry) == {"ok": 1}


async def test_connections_are_kept_and_cookies_are_not(pool: SourcePool, exchange: Exchange) -> None:
    exchange.script = [body(BODY, Set_Cookie="tracking=1")]
    for _ in range(3):
        assert isinstance(await ask(pool), Reading)
    assert len(exchange.connections) == 1
    assert all("Cookie" not in request.headers for request in exchange.requests)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (status(404), FailureCode.HTTP_STATUS),
        (status(403), FailureCode.HTTP_STATUS),
        (status(204), FailureCode.HTTP_STATUS),
        (status(302, Location="http://127.0.0.1:1/elsewhere"), FailureCode.REDIRECTED),
        (status(304), FailureCode.REDIRECTED),
        (flood, FailureCode.TOO_LARGE),
        (body(b" " * 300_000), FailureCode.TOO_LARGE),
        (body(BODY, Content_Encoding="gzip"), FailureCode.MALFORMED),
        (body(b"<html>busy</html>"), FailureCode.MALFORMED),
        (body(b""), FailureCode.EMPTY),
        (body(BODY.replace(b"BTCUSDT", b"ETHUSDT")), FailureCode.MALFORMED),
        (body(BODY.replace(b"73369.84", b"0.00")), FailureCode.INVALID_PRICE),
    ],
)
async def test_what_a_second_try_cannot_mend_is_asked_once(
    pool: SourcePool, exchange: Exchange, answer: Answer, code: FailureCode
) -> None:
    exchange.script = [answer]
    assert (await failure_of(pool)).code is code
    assert len(exchange.requests) == 1


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (status(500), FailureCode.SERVER_ERROR),
        (status(503), FailureCode.SERVER_ERROR),
        (status(429), FailureCode.RATE_LIMITED),
        (status(418), FailureCode.RATE_LIMITED),
        (reset, FailureCode.CONNECTION),
        (reset_mid_body, FailureCode.CONNECTION),
        (hanging, FailureCode.TIMEOUT),
    ],
)
async def test_a_passing_fault_is_tried_again_and_a_lasting_one_is_told(
    pool: SourcePool, exchange: Exchange, answer: Answer, code: FailureCode
) -> None:
    exchange.script = [answer, answer, well]
    assert isinstance(await ask(pool), Reading)
    asked = len(exchange.requests)
    assert asked >= 3
    exchange.script = [answer]
    assert (await failure_of(pool)).code is code
    assert len(exchange.requests) >= asked + 3


async def test_a_refused_connection_is_a_coded_failure(exchange: Exchange, registry: CollectorRegistry) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"  # bound, and nobody listens
        pool = SourcePool(
            load_catalogue(),
            ["binance"],
            base_urls={"binance": url},
            clock=FixedClock(NOW),
            registry=registry,
            policy=RetryPolicy(backoff_s=0.001),
        )
        async with pool:
            assert (await failure_of(pool)).code is FailureCode.CONNECTION
    assert outcomes(registry) == {"ok": 0, "connection": 3}


@pytest.mark.parametrize("answer", [hanging, drip])
async def test_a_source_that_never_finishes_is_cut_at_the_deadline(
    pool: SourcePool, exchange: Exchange, answer: Answer
) -> None:
    exchange.script = [answer]
    failure = await failure_of(pool, budget_s=0.15)
    assert failure.code is FailureCode.TIMEOUT
    assert failure.elapsed_ms >= 140


async def test_what_does_not_even_speak_http_is_a_coded_failure(registry: CollectorRegistry) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\xff hello \r\n" * 100)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    pool = SourcePool(
        load_catalogue(),
        ["binance"],
        base_urls={"binance": f"http://{host}:{port}"},
        clock=FixedClock(NOW),
        registry=registry,
        policy=RetryPolicy(max_tries=1),
    )
    async with server, pool:
        assert (await failure_of(pool)).code is FailureCode.CONNECTION


async def test_no_budget_is_no_request(pool: SourcePool, exchange: Exchange) -> None:
    assert (await failure_of(pool, budget_s=0)).code is FailureCode.TIMEOUT
    assert exchange.requests == []


async def test_retry_after_is_waited_for_where_the_budget_allows(pool: SourcePool, exchange: Exchange) -> None:
    exchange.script = [status(429, Retry_After="1"), well]
    assert isinstance(await ask(pool), Reading)
    assert exchange.at[1] - exchange.at[0] >= 1.0


async def test_retry_after_beyond_the_budget_fails_at_once_and_is_kept_to(pool: SourcePool, exchange: Exchange) -> None:
    exchange.script = [status(429, Retry_After="30"), well]
    first = await failure_of(pool, budget_s=20)
    assert first.code is FailureCode.RATE_LIMITED
    assert first.elapsed_ms < 10_000
    assert (await failure_of(pool)).code is FailureCode.RATE_LIMITED
    assert len(exchange.requests) == 1, "it asked for a rest and is left in peace"


async def test_a_busy_server_that_asks_for_a_rest_is_left_in_peace_too(pool: SourcePool, exchange: Exchange) -> None:
    exchange.script = [status(503, Retry_After="30"), well]
    assert (await failure_of(pool)).code is FailureCode.SERVER_ERROR
    again = await failure_of(pool)
    assert (again.code, again.detail[:22]) == (FailureCode.SERVER_ERROR, "it asked for a rest of")
    assert len(exchange.requests) == 1


@pytest.mark.parametrize("shorter", [status(429), status(429, Retry_After="1"), status(503, Retry_After="1")])
async def test_a_shorter_rest_does_not_undo_a_longer_one(pool: SourcePool, exchange: Exchange, shorter: Answer) -> None:
    async def later(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.05)
        return await shorter(request)

    exchange.script = [status(429, Retry_After="60"), later, well]
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(pool.fetch("binance", BTC, deadline=loop.time() + 5) for _ in range(2)))
    assert len(exchange.requests) == 2
    assert (await failure_of(pool)).code is FailureCode.RATE_LIMITED
    assert len(exchange.requests) == 2


async def test_a_body_announced_as_too_long_is_not_waited_for(pool: SourcePool, exchange: Exchange) -> None:
    async def announcing(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(MAX_BODY_BYTES + 1)})
        await response.prepare(request)
        await response.write(b" ")
        await asyncio.sleep(30)
        raise AssertionError("cut long before")

    exchange.script = [announcing]
    failure = await failure_of(pool)
    assert (failure.code, failure.detail) == (FailureCode.TOO_LARGE, f"{MAX_BODY_BYTES + 1} bytes announced")


async def test_a_pair_it_does_not_serve_is_not_asked_for(pool: SourcePool, exchange: Exchange) -> None:
    result = await ask(pool, pair=Pair("BTC/EUR"))
    assert isinstance(result, SourceFailure)
    assert result.code is FailureCode.UNSUPPORTED
    elsewhere = await pool.fetch("kraken", BTC, deadline=asyncio.get_running_loop().time() + 1)
    assert isinstance(elsewhere, SourceFailure)
    assert elsewhere.code is FailureCode.UNSUPPORTED
    assert exchange.requests == []


async def test_many_at_once_do_not_wait_for_one_that_hangs(pool: SourcePool, exchange: Exchange) -> None:
    exchange.script = [hanging, well]
    results = await asyncio.gather(*(ask(pool) for _ in range(20)))
    assert all(isinstance(result, Reading) for result in results)


async def test_a_cancelled_fetch_ends_at_once_and_leaves_the_pool_usable(pool: SourcePool, exchange: Exchange) -> None:
    exchange.script = [hanging, well]
    task = asyncio.create_task(ask(pool))
    await until(lambda: exchange.requests)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(await ask(pool), Reading)


async def test_in_test_mode_a_source_without_a_venue_is_refused_rather_than_asked_for_real(
    registry: CollectorRegistry,
) -> None:
    with pytest.raises(CatalogueError) as caught:
        SourcePool(
            load_catalogue(),
            ["binance", "kraken", "nosuch"],
            base_urls={"binance": "http://127.0.0.1:1"},
            clock=FixedClock(NOW),
            registry=registry,
        )
    assert caught.value.problems == [
        "nosuch: no such source in the catalogue",
        "kraken: the simulator has no such venue",
        "nosuch: the simulator has no such venue",
    ]


async def test_the_simulator_tells_where_its_venues_are(exchange: Exchange) -> None:
    exchange.script = [body(b'{"binance":"http://127.0.0.1:8101"}')]
    assert await simulator_base_urls(exchange.url) == {"binance": "http://127.0.0.1:8101"}
    assert exchange.requests[0].path == "/venues"


@pytest.mark.parametrize("answer", [status(500), body(b"[]"), hanging])
async def test_a_simulator_that_does_not_tell_is_one_clear_error(exchange: Exchange, answer: Answer) -> None:
    exchange.script = [answer]
    with pytest.raises(SimulatorUnreachableError, match="start `fairmark simulator`"):
        await simulator_base_urls(exchange.url, timeout_s=0.2)
