"""The fetcher as a service: over the in-process bus, then with real sources, a real store and a real chain."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from subprocess import DEVNULL, Popen
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from broker import Bus, Hint, Job, Message, Refusal, Report, Topic
from broker.memory import MemoryBus
from contracts import LocalSigner, OracleClient
from contracts.deploy import deploy
from contracts.report import in_signer_order, median_hints, recover_reporter
from core.clock import FixedClock, SystemClock
from core.errors import ConfigurationError
from core.ops import Ops
from core.types import FailureCode, Group, Mode, Pair
from fetchers import FetcherService, SqlReportStore
from fetchers.candidates import Candidate
from sources import SourcePool, SourceStatus, State, load_catalogue
from tests.support.fetchers import (
    BTC,
    DEPLOYMENT,
    NOW,
    QUIET,
    SIGNER,
    Entry,
    FakeChain,
    FakePool,
    MemoryReportStore,
    Slow,
    catalogue,
    group,
)
from tests.support.rabbit import Raw, TidyRabbitBus
from tests.support.wait import until

MAJORS = group("BTC/USD")
SERVED = catalogue(a="BTC/USD", b="BTC/USD", c="BTC/USD")


@dataclass
class Heard:
    """What aggregators would hear."""

    answers: list[Message] = field(default_factory=list)
    hints: list[Message] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, message: Message) -> None:
        self.answers.append(message)
        self.came.set()

    async def hint(self, message: Message) -> None:
        self.hints.append(message)
        self.came.set()

    async def until(self, enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not enough():
                self.came.clear()
                await self.came.wait()


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[MemoryBus, Heard]]:
    bus, heard = MemoryBus(), Heard()
    await bus.start()
    await bus.subscribe(Topic.REPORTS, "aggregator", heard.answer)
    await bus.subscribe(Topic.HINTS, "aggregator", heard.hint)
    try:
        yield bus, heard
    finally:
        await bus.close()


@asynccontextmanager
async def running(*services: FetcherService) -> AsyncIterator[None]:
    """Run them until the block ends; ready when it begins."""
    tasks = [asyncio.create_task(service.run()) for service in services]
    try:
        async with asyncio.timeout(30):
            while not all(service.ops.ready for service in services):
                await asyncio.wait(tasks, timeout=0.005, return_when=asyncio.FIRST_EXCEPTION)
                for task in tasks:
                    if task.done():
                        task.result()
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def service(
    bus: Bus,
    *,
    pool: FakePool | None = None,
    store: MemoryReportStore | None = None,
    chain: FakeChain | None = None,
    clock: FixedClock | None = None,
    sample_s: float = 0,
    instance: str = "one",
    of: Group = MAJORS,
    served: Mapping[str, Entry] = MappingProxyType(SERVED),
    **options: Any,
) -> FetcherService:
    return FetcherService(
        name="fetcher-a",
        instance=instance,
        groups=[of],
        sources=tuple(served),
        catalogue=served,
        pool=pool or prices(),
        bus=bus,
        chain=chain or FakeChain(of),
        signer=SIGNER,
        store=store or MemoryReportStore(),
        clock=clock or FixedClock(NOW),
        mode=Mode.TEST,
        ops=Ops("fetcher-a", Mode.TEST),
        logger=QUIET,
        sample_s=sample_s,
        **options,
    )


def prices() -> FakePool:
    return FakePool({("a", "BTC/USD"): "70000", ("b", "BTC/USD"): "70001", ("c", "BTC/USD"): "70002"})


def job(moment: int = NOW, *, attempt: str = "attempt", deployment: str = DEPLOYMENT.id, budget_ms: int = 800) -> Job:
    return Job(
        id=f"job {attempt}",
        attempt=attempt,
        deployment=deployment,
        mode=Mode.TEST,
        group="majors",
        moment=moment,
        budget_ms=budget_ms,
    )


def counted(ops: Ops, name: str) -> dict[str, float]:
    """Samples of one metric by their labels' text."""
    text = generate_latest(ops.registry).decode()
    return {label: float(value) for label, value in re.findall(rf"^{name}\{{(.*)\}} (\S+)$", text, re.MULTILINE)}


async def test_a_job_on_the_bus_becomes_a_report_on_the_bus() -> None:
    async with listening() as (bus, heard):
        fetcher = service(bus)
        assert not fetcher.ops.ready
        async with running(fetcher):
            await bus.publish(Topic.JOBS, job(), ttl_ms=800)
            await heard.until(lambda: len(heard.answers) == 1)
        assert not fetcher.ops.ready
        (report,) = heard.answers
        assert isinstance(report, Report)
        assert report.answers == {"BTC/USD": Decimal("70001.00000000")}
        assert counted(fetcher.ops, "fairmark_fetchers_jobs_total") == {'outcome="report"': 1}
        assert counted(fetcher.ops, "fairmark_fetchers_quotes_total") == {
            f'outcome="ok",source="{source}"': 1 for source in "abc"
        }


async def test_a_job_delivered_twice_gives_the_same_report_twice() -> None:
    async with listening() as (bus, heard):
        store, pool = MemoryReportStore(), prices()
        async with running(service(bus, store=store, pool=pool), service(bus, store=store, pool=pool, instance="two")):
            for _ in range(4):
                await bus.publish(Topic.JOBS, job())
            await heard.until(lambda: len(heard.answers) == 4)
    assert all(answer == heard.answers[0] for answer in heard.answers)
    assert isinstance(heard.answers[0], Report)


async def test_a_refusal_is_published_at_once() -> None:
    async with listening() as (bus, heard):
        fetcher = service(bus)
        async with running(fetcher):
            await bus.publish(Topic.JOBS, job(deployment="1:0xabc:0x1"))
            await heard.until(lambda: len(heard.answers) == 1)
        (refusal,) = heard.answers
        assert isinstance(refusal, Refusal)
        assert refusal.code == "wrong_deployment"
        assert counted(fetcher.ops, "fairmark_fetchers_jobs_total") == {'outcome="wrong_deployment"': 1}


async def test_a_job_whose_budget_is_long_over_is_ignored() -> None:
    async with listening() as (bus, heard):
        fetcher = service(bus)
        async with running(fetcher):
            await bus.publish(Topic.JOBS, job(NOW - 10_000, attempt="old"))
            await bus.publish(Topic.JOBS, job(attempt="new"))
            await heard.until(lambda: len(heard.answers) == 1)
        assert [answer.attempt for answer in heard.answers if isinstance(answer, Report)] == ["new"]
        assert counted(fetcher.ops, "fairmark_fetchers_jobs_total") == {'outcome="expired"': 1, 'outcome="report"': 1}


async def test_a_message_that_is_no_job_goes_to_the_dead_letters() -> None:
    async with listening() as (bus, heard):
        async with running(service(bus)):
            await bus.publish(Topic.JOBS, job(attempt="first"))
            await heard.until(lambda: len(heard.answers) == 1)
            await bus.publish(Topic.JOBS, heard.answers[0])
            await bus.publish(Topic.JOBS, job(NOW + 10, attempt="second"))
            await heard.until(lambda: len(heard.answers) == 2)
        assert [letter.reason for letter in bus.dead_letters] == ["rejected"]


async def test_jobs_in_hand_are_finished_when_the_service_stops() -> None:
    async with listening() as (bus, heard):
        pool = prices()
        pool.answers[("c", "BTC/USD")] = None
        async with running(service(bus, pool=pool)):
            await bus.publish(Topic.JOBS, job(budget_ms=2_000))
            await until(lambda: Candidate("c", Pair("BTC/USD")) in pool.asked)
        assert [type(answer) for answer in heard.answers] == [Report]


async def test_a_job_in_hand_has_its_own_budget_to_end_when_the_service_stops() -> None:
    async with listening() as (bus, heard):
        slow = FakePool({(name, "BTC/USD"): Slow(f"7000{n}", 5.5) for n, name in enumerate("abc")})
        async with running(service(bus, pool=slow)):
            await bus.publish(Topic.JOBS, job(budget_ms=30_000))
            await until(lambda: slow.asked)
        assert [type(answer) for answer in heard.answers] == [Report]


async def test_a_job_that_outlasts_the_time_to_drain_is_left_to_another_instance() -> None:
    async with listening() as (bus, heard):
        hung = FakePool({(name, "BTC/USD"): None for name in "abc"})
        async with running(service(bus, pool=hung, drain_s=0.1)):
            await bus.publish(Topic.JOBS, job(budget_ms=30_000))
            await until(lambda: hung.asked)
        assert not heard.answers
        async with running(service(bus, instance="two")):
            await heard.until(lambda: len(heard.answers) == 1)
    assert isinstance(heard.answers[0], Report)
    assert heard.answers[0].instance == "two"


async def test_an_aggregator_that_is_gone_does_not_stop_the_fetcher() -> None:
    bus = MemoryBus()
    await bus.start()
    fetcher = service(bus)
    async with running(fetcher):
        await bus.publish(Topic.JOBS, job())
        await until(lambda: counted(fetcher.ops, "fairmark_fetchers_jobs_total"))
    await bus.close()
    assert counted(fetcher.ops, "fairmark_fetchers_jobs_total") == {'outcome="unpublished"': 1}
    assert not bus.dead_letters


async def test_deviation_hints_go_out_between_rounds() -> None:
    async with listening() as (bus, heard):
        chain = FakeChain(MAJORS, last_moment=NOW - 1000, standing={BTC: 6_900_000_000_000})
        async with running(service(bus, chain=chain, sample_s=0.02)):
            await heard.until(lambda: len(heard.hints) >= 1)
    hint = heard.hints[0]
    assert isinstance(hint, Hint)
    assert (hint.pair, hint.price, hint.previous_moment) == (BTC, 7_000_100_000_000, NOW - 1000)


async def test_health_names_each_dependency() -> None:
    async with listening() as (bus, heard):
        pool, chain, store = prices(), FakeChain(MAJORS), MemoryReportStore()
        pool.answers[("a", "BTC/USD")] = FailureCode.RATE_LIMITED
        fetcher = service(bus, pool=pool, chain=chain, store=store)
        async with running(fetcher):
            await bus.publish(Topic.JOBS, job())
            await heard.until(lambda: len(heard.answers) == 1)
            healthy, body = await fetcher.ops.health()
            assert healthy
            shown = body["dependencies"]
            assert isinstance(shown, dict)
            assert {name: each["status"] for name, each in shown.items()} == dict.fromkeys(
                ("broker", "chain", "store", "sources", "clock"), "up"
            )
            assert shown["sources"]["detail"] == "2 of 3 gave a price for the last job; failing: a rate_limited"
            chain.down = store.broken = True
            healthy, body = await fetcher.ops.health()
            assert not healthy


async def test_a_source_that_disagrees_with_the_last_answer_has_answered() -> None:
    async with listening() as (bus, heard):
        pool = FakePool({("a", "BTC/USD"): "70000", ("b", "BTC/USD"): "70001", ("c", "BTC/USD"): "75000"})
        chain = FakeChain(MAJORS, last_moment=NOW - 1000, standing={BTC: 7_000_000_000_000})
        fetcher = service(bus, pool=pool, chain=chain)
        async with running(fetcher):
            for index in range(2):  # the first learns the answer
                await bus.publish(Topic.JOBS, job(NOW + index * 10, attempt=str(index)))
                await heard.until(lambda most=index: len(heard.answers) == most + 1)
            refused = {each.source: each.code for each in heard.answers[-1].failures}
            assert refused == {"c": FailureCode.JUMP}
            _, body = await fetcher.ops.health()
            assert body["dependencies"]["sources"]["detail"] == "3 of 3 gave a price for the last job"


async def test_health_names_those_in_quarantine_and_not_those_that_were_merely_outrun() -> None:
    async with listening() as (bus, heard):
        pool = prices()
        pool.answers[("a", "BTC/USD")] = None  # silent, and outrun
        pool.answers[("d", "BTC/USD")] = "70003"
        ill = SourceStatus(source="e", state=State.QUARANTINED, health=0.3)
        fetcher = service(
            bus,
            pool=pool,
            served=catalogue(**dict.fromkeys("abcd", "BTC/USD")),
            hedge_after={"a": 0.0}.get,
            status=lambda: [ill, SourceStatus(source="b", state=State.OK, health=1.0)],
        )
        async with running(fetcher):
            await bus.publish(Topic.JOBS, job())
            await heard.until(lambda: len(heard.answers) == 1)
            (answer,) = heard.answers
            assert {each.source: each.code for each in answer.failures} == {"a": FailureCode.CANCELLED}
            _, body = await fetcher.ops.health()
            assert body["dependencies"]["sources"]["detail"] == (
                "3 of 3 gave a price for the last job; in quarantine: e"
            )


def test_two_sources_that_are_one_anothers_echo_are_too_few_for_a_feed_that_needs_two() -> None:
    echo = {name: Entry(name, (BTC,), relays=relays) for name, relays in (("a", ()), ("b", ("a",)))}
    with pytest.raises(ConfigurationError, match="too few of them serve any feed"):
        service(MemoryBus(), served=echo)
    assert service(MemoryBus(), served={**echo, "c": Entry("c", (BTC,))})


async def test_a_fetcher_whose_sources_serve_nothing_does_not_start() -> None:
    with pytest.raises(ConfigurationError, match=r"fetchers\.fetcher-a\.sources: too few"):
        service(MemoryBus(), of=group("ETH/USD"))


@pytest.mark.needs_rabbitmq
async def test_of_two_instances_over_rabbitmq_one_answers_each_job_and_the_other_takes_over(rabbitmq_url: str) -> None:
    namespace, heard, store = f"test-{uuid4().hex[:12]}", Heard(), MemoryReportStore()
    raw = Raw(rabbitmq_url, namespace)
    buses = [TidyRabbitBus([rabbitmq_url], namespace) for _ in range(3)]
    try:
        for bus in buses:
            await bus.start()
        await buses[0].subscribe(Topic.REPORTS, "aggregator-one", heard.answer, exclusive=True)
        clock = FixedClock(NOW)
        one, two = (
            service(bus, store=store, clock=clock, instance=name)
            for bus, name in zip(buses[1:], ("one", "two"), strict=True)
        )
        async with running(two):
            async with running(one):
                for step in range(4):
                    await buses[0].publish(Topic.JOBS, job(NOW + 10 * step, attempt=f"a{step}"), ttl_ms=800)
                    await heard.until(lambda step=step: len(heard.answers) == step + 1)
            for step in range(4, 8):
                await buses[0].publish(Topic.JOBS, job(NOW + 10 * step, attempt=f"a{step}"), ttl_ms=800)
                await heard.until(lambda step=step: len(heard.answers) == step + 1)
    finally:
        for bus in reversed(buses):
            await bus.close()
        raw.tidy(set().union(*(bus.made for bus in buses)))
    reports = [answer for answer in heard.answers if isinstance(answer, Report)]
    assert [report.attempt for report in reports] == [f"a{step}" for step in range(8)]
    assert {report.instance for report in reports[:4]} == {"one", "two"}
    assert {report.instance for report in reports[4:]} == {"two"}


KEYS = ["0x" + f"{index:02x}" * 32 for index in (0x21, 0x22, 0x23, 0x24)]
ANVIL_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
"""The first of the accounts that anvil makes for everybody."""


@asynccontextmanager
async def kraken_and_others() -> AsyncIterator[dict[str, str]]:
    """Two exchanges on one local server, in their own formats. Gives their base URLs."""

    async def kraken(request: web.Request) -> web.Response:
        prices = {"XXBTZUSD": "70000.1", "USDTZUSD": "0.9990"}
        asked = {symbol: prices[symbol] for symbol in request.query["pair"].split(",")}
        result = {symbol: {"a": [price], "b": [price], "c": [price, "1"]} for symbol, price in asked.items()}
        return web.json_response({"error": [], "result": result})

    async def bitstamp(request: web.Request) -> web.Response:
        price = {"btcusd": "70002", "usdtusd": "0.9992"}[request.match_info["symbol"]]
        now = str(int(time.time()))
        return web.json_response({"last": price, "bid": price, "ask": price, "timestamp": now})

    async def binance(request: web.Request) -> web.Response:
        numbers = {"lastPrice": "70070", "bidPrice": "70070", "askPrice": "70070"}
        now = int(time.time() * 1000)
        return web.json_response({"symbol": request.query["symbol"], "closeTime": now, **numbers})

    app = web.Application()
    app.router.add_get("/0/public/Ticker", kraken)
    app.router.add_get("/api/v2/ticker/{symbol}/", bitstamp)
    app.router.add_get("/api/v3/ticker/24hr", binance)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server = site._server
    assert isinstance(server, asyncio.Server)
    port = server.sockets[0].getsockname()[1]
    try:
        yield dict.fromkeys(("kraken", "bitstamp", "binance"), f"http://127.0.0.1:{port}")
    finally:
        await runner.cleanup()


@pytest.fixture
async def anvil(anvil_path: str) -> AsyncIterator[str]:
    """The URL of a fresh EVM node."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    node = Popen([anvil_path, "--port", str(port), "--silent"], stdout=DEVNULL, stderr=DEVNULL)  # noqa: ASYNC220
    try:
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                break
        yield f"http://127.0.0.1:{port}"
    finally:
        node.terminate()
        node.wait(5)


@pytest.mark.needs_anvil
async def test_from_exchanges_to_reports_that_the_contract_accepts(anvil: str, tmp_path: Path) -> None:
    majors = group("BTC/USD", "USDT/USD")
    signers = [LocalSigner(key) for key in KEYS]
    record = await deploy(
        anvil,
        ANVIL_KEY,
        mode=Mode.TEST,
        groups=[majors],
        reporters={"majors": [signer.address for signer in signers]},
        deployments_dir=tmp_path,
    )
    known = load_catalogue()
    sources = ("kraken", "bitstamp", "binance")
    clock, registry = SystemClock(), CollectorRegistry()
    async with kraken_and_others() as urls, listening() as (bus, heard):
        chain = await OracleClient.connect(anvil, record, Mode.TEST)
        pool = SourcePool(known, sources, base_urls=urls, clock=clock, registry=registry)
        stores = [await SqlReportStore.open(f"sqlite+aiosqlite:///{tmp_path / f'{i}.sqlite'}") for i in range(3)]
        services = [
            FetcherService(
                name=f"fetcher-{index}",
                instance="one",
                groups=[majors],
                sources=sources,
                catalogue=known,
                pool=pool,
                bus=bus,
                chain=chain,
                signer=signers[index],
                store=store,
                clock=clock,
                mode=Mode.TEST,
                ops=Ops(f"fetcher-{index}", Mode.TEST),
                logger=QUIET,
                sample_s=0,
            )
            for index, store in enumerate(stores)
        ]
        try:
            async with running(*services):
                moment = majors.moment_at(clock.now_ms())
                await bus.publish(Topic.JOBS, job(moment, deployment=chain.deployment.id))
                await heard.until(lambda: len(heard.answers) == 3)
            reports = [answer for answer in heard.answers if isinstance(answer, Report)]
            assert len(reports) == 3, heard.answers
            for report in reports:
                # 70070 USDT at 0.9990 is 69999.93: the lowest of three, so kraken's 70000.1 is the median
                assert report.answers == {"BTC/USD": Decimal("70000.10000000"), "USDT/USD": Decimal("0.99900000")}
                assert {(quote.source, quote.pair) for quote in report.quotes} == {
                    ("kraken", BTC),
                    ("bitstamp", BTC),
                    ("binance", Pair("BTC/USDT")),
                    ("kraken", Pair("USDT/USD")),
                    ("bitstamp", Pair("USDT/USD")),
                }
            signed = in_signer_order({recover_reporter(chain.domain, each.signed): each.signed for each in reports})
            calldata = chain.build_submission("majors", signed, median_hints(signed, majors.feeds))
            receipt = await chain.wait_receipt(await chain.submit(calldata, chain.sender(ANVIL_KEY)), 5)
            assert receipt.ok
            reading = await chain.read_group("majors")
            assert reading.moment == moment
            assert reading.answers[BTC].price == Decimal("70000.1")
        finally:
            await pool.close()
            await chain.close()
            for store in stores:
                await store.close()
