"""Batches on the wire: the pool asks the simulator's venues, in their own formats, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from core.clock import FixedClock, SystemClock
from core.logs import get_logger
from core.ops import Ops
from core.settings import SimulatorSettings
from core.types import FailureCode, Pair, SourceFailure
from simulator import RecordedBody, Simulator
from simulator.faults import parse_faults
from sources import Reading, RetryPolicy, SourceEntry, SourcePool, load_catalogue, parse_ticker
from sources.batch_body import read_batch

CATALOGUE = load_catalogue()
BATCHED = sorted(name for name, entry in CATALOGUE.items() if entry.batch is not None)
BTC, ETH, SOL = (Pair(f"{base}/USDT") for base in ("BTC", "ETH", "SOL"))


@contextlib.asynccontextmanager
async def running(venues: Collection[str], clock_ms: int | None = None) -> AsyncIterator[Simulator]:
    clock = SystemClock() if clock_ms is None else FixedClock(clock_ms)
    ops = Ops("simulator", "test", clock)
    settings = SimulatorSettings(port=0)
    simulator = Simulator(settings, clock=clock, logger=get_logger("simulator", "test"), ops=ops, venues=venues)
    async with simulator.run():
        yield simulator


@contextlib.asynccontextmanager
async def asking(
    urls: dict[str, str], registry: CollectorRegistry, catalogue: dict[str, SourceEntry] | None = None
) -> AsyncIterator[SourcePool]:
    policy = RetryPolicy(try_timeout_s=1.0, max_tries=2, backoff_s=0.01, max_backoff_s=0.02)
    async with SourcePool(
        catalogue or CATALOGUE, list(urls), base_urls=urls, clock=SystemClock(), registry=registry, policy=policy
    ) as pool:
        yield pool


async def fetch(
    pool: SourcePool, source: str, pairs: Collection[Pair], budget_s: float = 3.0
) -> dict[Pair, Reading | SourceFailure]:
    deadline = asyncio.get_running_loop().time() + budget_s
    answers = await asyncio.gather(*(pool.fetch(source, pair, deadline=deadline) for pair in pairs))
    return dict(zip(pairs, answers, strict=True))


def requests(registry: CollectorRegistry, source: str) -> dict[str, float]:
    return {
        sample.labels["outcome"]: sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "fairmark_sources_requests_total" and sample.labels["source"] == source
    }


async def test_all_pairs_of_a_source_are_one_request_and_read_as_they_are_alone() -> None:
    registry = CollectorRegistry()
    at = 1_710_328_245_300
    async with running(BATCHED, at) as simulator, asking(simulator.venue_urls, registry) as pool:
        for name in BATCHED:
            pairs = CATALOGUE[name].pairs
            together = await fetch(pool, name, pairs)
            asked_together = sum(requests(registry, name).values())
            alone = {pair: (await fetch(pool, name, [pair]))[pair] for pair in pairs}
            for pair in pairs:
                one, other = together[pair], alone[pair]
                assert isinstance(one, Reading), one
                assert isinstance(other, Reading), other
                assert one.ticker == other.ticker, (name, pair)
            form = CATALOGUE[name].batch
            assert form is not None
            batched = len(pairs) >= form.at_least
            assert asked_together == (1 if batched else len(pairs)), name
            assert requests(registry, name) == {"ok": asked_together + len(pairs)}
        served = [entry.outcome for entry in simulator.served.since(0)]
        assert served == ["ok"] * 2 * sum(len(CATALOGUE[name].pairs) for name in BATCHED)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"kind": "500"}, FailureCode.SERVER_ERROR),
        ({"kind": "429"}, FailureCode.RATE_LIMITED),
        ({"kind": "hang"}, FailureCode.TIMEOUT),
        ({"kind": "zero"}, FailureCode.INVALID_PRICE),
        ({"kind": "malformed"}, FailureCode.MALFORMED),
        ({"kind": "empty"}, FailureCode.EMPTY),
        ({"kind": "refused"}, FailureCode.CONNECTION),
    ],
)
async def test_a_fault_of_the_venue_is_the_failure_of_each_pair(fault: dict[str, Any], code: FailureCode) -> None:
    async with running(["binance"]) as simulator, asking(simulator.venue_urls, CollectorRegistry()) as pool:
        simulator.faults.set("binance", parse_faults(fault))
        await simulator.apply_faults()
        found = await fetch(pool, "binance", [BTC, ETH, SOL], budget_s=0.5)
        assert {pair: each.code for pair, each in found.items() if isinstance(each, SourceFailure)} == {
            BTC: code,
            ETH: code,
            SOL: code,
        }
        simulator.faults.set("binance", ())
        await simulator.apply_faults()
        assert all(isinstance(each, Reading) for each in (await fetch(pool, "binance", [BTC, ETH])).values())


async def test_wrong_numbers_of_one_pair_are_that_pairs() -> None:
    async with running(["binance"]) as simulator, asking(simulator.venue_urls, CollectorRegistry()) as pool:
        simulator.faults.set("binance", parse_faults({"kind": "zero", "pair": "ETH/USDT"}))
        found = await fetch(pool, "binance", [BTC, ETH, SOL])
        assert isinstance(found[BTC], Reading)
        assert isinstance(found[SOL], Reading)
        failure = found[ETH]
        assert isinstance(failure, SourceFailure)
        assert failure.code is FailureCode.INVALID_PRICE
        outcomes = {entry.pair: entry.outcome for entry in simulator.served.since(0)}
        assert outcomes == {BTC: "ok", ETH: "zero", SOL: "ok"}


async def test_one_symbol_that_the_exchange_delisted_costs_that_pair_alone() -> None:
    """Binance refuses the whole list for one unknown name; its pairs are then asked one by one."""
    symbols = {**CATALOGUE["binance"].symbols, "ETH/USDT": "GONEUSDT"}
    entry = SourceEntry.model_validate(CATALOGUE["binance"].model_dump() | {"symbols": symbols})
    registry = CollectorRegistry()
    async with (
        running(["binance"]) as simulator,
        asking(simulator.venue_urls, registry, {"binance": entry}) as pool,
    ):
        found = await fetch(pool, "binance", [BTC, ETH, SOL])
        failure = found.pop(ETH)
        assert isinstance(failure, SourceFailure)
        assert failure.code is FailureCode.HTTP_STATUS
        assert all(isinstance(each, Reading) for each in found.values())
        assert requests(registry, "binance") == {"ok": 2, "http_status": 2}


async def test_a_list_longer_than_declared_is_cut_off_and_its_pairs_are_asked_alone() -> None:
    """A server that answers a list of all markets without end, and single requests as it should."""
    okx = CATALOGUE["okx"]
    assert okx.batch is not None
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        if request.path == "/api/v5/market/ticker":
            market = {"instId": request.query["instId"], "last": "2", "bidPx": "1", "askPx": "3", "ts": "1790000000123"}
            return web.json_response({"code": "0", "msg": "", "data": [market]})
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            await response.write(b'{"code":"0","msg":"","data":[')
            for _ in range(200):
                await response.write(b" " * 16_384)
        return response

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        url = site._server.sockets[0].getsockname()  # type: ignore[union-attr]
        registry = CollectorRegistry()
        async with asking({"okx": f"http://127.0.0.1:{url[1]}"}, registry) as pool:
            pairs = okx.pairs[: okx.batch.at_least]
            found = await fetch(pool, "okx", pairs)
            assert all(isinstance(each, Reading) for each in found.values()), found
            assert requests(registry, "okx") == {"ok": len(pairs), "too_large": 1}
            assert asked.count("/api/v5/market/tickers") == 1
    finally:
        await runner.cleanup()


async def test_a_venue_that_replays_recordings_answers_one_by_one() -> None:
    ops = Ops("simulator", "test", SystemClock())
    body = b'[{"currency_pair":"BTC_USDT","last":"7","lowest_ask":"8","highest_bid":"6","base_volume":"1"}]'
    recorded = [RecordedBody(venue="gate", pair=BTC, body=body)]
    simulator = Simulator(
        SimulatorSettings(port=0),
        clock=SystemClock(),
        logger=get_logger("simulator", "test"),
        ops=ops,
        venues=["gate"],
        recorded=recorded,
    )
    async with simulator.run(), asking(simulator.venue_urls, CollectorRegistry()) as pool:
        found = await fetch(pool, "gate", CATALOGUE["gate"].pairs)
        assert all(isinstance(each, Reading) for each in found.values()), found
        reading = found[BTC]
        assert isinstance(reading, Reading)
        assert reading.ticker == parse_ticker(CATALOGUE["gate"], BTC, body)
        assert read_batch(CATALOGUE["gate"], [BTC], body) == {BTC: reading.ticker}
