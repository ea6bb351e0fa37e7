"""What an exchange allows is kept to by all its pairs together, over real sockets."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from core.clock import SystemClock
from core.types import FailureCode, Pair, SourceFailure
from sources import Priority, Reading, RetryPolicy, SourcePool, load_catalogue
from sources.limit_entries import LimitFormat
from tests.support.exchange import Exchange, exchanging, hanging, status
from tests.support.wait import until

CATALOGUE = load_catalogue()
BTC, ETH, SOL, DOGE = (Pair(f"{base}/USDT") for base in ("BTC", "ETH", "SOL", "DOGE"))


async def any_pair(request: web.Request) -> web.StreamResponse:
    """Binance's ticker for whatever is asked, one or many."""
    book = {"lastPrice": "2", "bidPrice": "1.999", "askPrice": "2.001", "volume": "9", "closeTime": 1_710_328_245_391}
    if "symbols" in request.query:
        return web.json_response([{"symbol": each, **book} for each in json.loads(request.query["symbols"])])
    return web.json_response({"symbol": request.query["symbol"], **book})


@pytest.fixture
async def exchange() -> AsyncIterator[Exchange]:
    async with exchanging() as there:
        there.script = [any_pair]
        yield there


def pool_of(exchange: Exchange, limit: LimitFormat | None = None, **options: object) -> SourcePool:
    return SourcePool(
        CATALOGUE,
        ["binance"],
        base_urls={"binance": exchange.url},
        clock=SystemClock(),
        registry=CollectorRegistry(),
        limits={} if limit is None else {"binance": limit},
        rng=random.Random(1),
        **options,  # type: ignore[arg-type]
    )


async def ask(pool: SourcePool, pair: Pair, within_s: float = 2.0, priority: Priority = Priority.JOB) -> str:
    """`quote`, or the failure's code; in quarantine too."""
    deadline = asyncio.get_running_loop().time() + within_s
    found = await pool.fetch("binance", pair, deadline=deadline, priority=priority, anyway=True)
    return "quote" if isinstance(found, Reading) else str(found.code)


async def test_a_rest_that_one_pair_was_told_holds_for_all_pairs(exchange: Exchange) -> None:
    exchange.script = [status(429, Retry_After="30"), any_pair]
    async with pool_of(exchange) as pool:
        found = [await ask(pool, pair) for pair in (BTC, ETH, SOL)]
    assert found == ["rate_limited"] * 3
    assert len(exchange.requests) == 1


async def test_those_who_wait_for_room_are_told_of_a_rest_when_it_begins_and_never_sent(exchange: Exchange) -> None:
    waits = asyncio.Event()

    async def refusal_once_another_waits(request: web.Request) -> web.StreamResponse:
        await waits.wait()
        return await status(429, Retry_After="300")(request)

    exchange.script = [refusal_once_another_waits, any_pair]
    policy = RetryPolicy(try_timeout_s=30)
    async with pool_of(exchange, LimitFormat(weight=1, window_s=60), policy=policy) as pool:
        deadline = asyncio.get_running_loop().time() + 120  # by then there would be room for the second
        first = asyncio.create_task(pool.fetch("binance", BTC, deadline=deadline))
        await until(lambda: exchange.requests)
        second = asyncio.create_task(pool.fetch("binance", ETH, deadline=deadline))
        await until(lambda: pool.status()[0].waiting == 1)
        waits.set()
        told = await asyncio.wait_for(asyncio.gather(first, second), 30)
    assert [type(each) for each in told] == [SourceFailure] * 2
    assert [each.code for each in told] == [FailureCode.RATE_LIMITED] * 2
    assert "asked for a rest of" in told[1].detail, told[1].detail
    assert len(exchange.requests) == 1


async def test_the_pairs_of_an_exchange_share_one_window_and_wait_for_room_where_there_is_time(
    exchange: Exchange,
) -> None:
    async with pool_of(exchange, LimitFormat(weight=3, window_s=1)) as pool:
        found = [await ask(pool, pair, 5) for pair in (BTC, ETH, SOL, DOGE)]
    assert found == ["quote"] * 4
    assert exchange.at[3] - exchange.at[0] >= 0.99


async def test_two_that_ask_from_one_address_keep_to_its_limit_together(exchange: Exchange) -> None:
    limit, shares = LimitFormat(weight=6, window_s=60), {"binance": 2}
    async with pool_of(exchange, limit, shares=shares) as one, pool_of(exchange, limit, shares=shares) as two:
        found = [await ask(pool, pair) for pool in (one, two) for pair in (BTC, ETH, SOL, DOGE)]
    assert found == ["quote", "quote", "quote", "rate_limited"] * 2
    assert len(exchange.requests) == 6


async def test_what_cannot_be_sent_in_time_is_told_at_once_and_never_sent(exchange: Exchange) -> None:
    async with pool_of(exchange, LimitFormat(weight=2, window_s=60)) as pool:
        found = [await ask(pool, pair) for pair in (BTC, ETH)]
        started = asyncio.get_running_loop().time()
        deadline = started + 2
        third = await pool.fetch("binance", SOL, deadline=deadline)
        took = asyncio.get_running_loop().time() - started
    assert found == ["quote", "quote"]
    assert isinstance(third, SourceFailure)
    assert third.code is FailureCode.RATE_LIMITED
    assert third.detail.startswith("its limit of 2 in 60 s is used up for 6")
    assert took < 1
    assert len(exchange.requests) == 2


async def test_a_batch_weighs_what_the_exchange_says_and_not_its_pairs(exchange: Exchange) -> None:
    async with pool_of(exchange, LimitFormat(weight=10, window_s=60, ticker=2, batch=3)) as pool:
        together = await asyncio.gather(*(ask(pool, pair) for pair in (BTC, ETH, SOL, DOGE)))
        alone = [await ask(pool, pair) for pair in (BTC, ETH, SOL, DOGE)]
    assert together == ["quote"] * 4
    assert alone == ["quote"] * 3 + ["rate_limited"]  # 3 + 2 + 2 + 2 of 10
    assert len(exchange.requests) == 4


async def test_a_sample_leaves_room_for_a_job(exchange: Exchange) -> None:
    async with pool_of(exchange, LimitFormat(weight=5, window_s=60)) as pool:
        samples = [await ask(pool, BTC, priority=Priority.HINT) for _ in range(6)]
        job = await ask(pool, BTC)
    assert samples == ["quote"] * 4 + ["rate_limited"] * 2
    assert job == "quote"


async def test_an_exchange_that_refuses_without_a_word_is_asked_half_as_much(exchange: Exchange) -> None:
    policy = RetryPolicy(max_tries=1)
    async with pool_of(exchange, LimitFormat(weight=40, window_s=60), policy=policy) as pool:
        assert [await ask(pool, BTC) for _ in range(20)] == ["quote"] * 20
        exchange.script = [status(429)]
        assert await ask(pool, BTC) == "rate_limited"
        exchange.script = [any_pair]
        sent = len(exchange.requests)
        assert await ask(pool, BTC) == "rate_limited"
        assert len(exchange.requests) == sent, "half of 21 in this window are long gone"


async def test_a_source_that_is_down_uses_its_retries_up(exchange: Exchange) -> None:
    exchange.script = [status(500)]
    policy = RetryPolicy(max_tries=3, backoff_s=0.001, retry_share=0.0)
    async with pool_of(exchange, policy=policy) as pool:
        found = [await ask(pool, BTC) for _ in range(20)]
    assert found == ["server_error"] * 20
    assert 30 <= len(exchange.requests) <= 31, "20 first tries and 10 retries, all that were saved"


async def test_a_source_may_have_a_timeout_of_its_own(exchange: Exchange) -> None:
    exchange.script = [hanging]
    async with pool_of(exchange, policy=RetryPolicy(max_tries=1), timeouts={"binance": 0.1}) as pool:
        started = asyncio.get_running_loop().time()
        assert await ask(pool, BTC, 5) == "timeout"
        assert asyncio.get_running_loop().time() - started < 1
