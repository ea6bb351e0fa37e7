"""The simulator as clients meet it: real ports, real HTTP, faults switched on while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from core.clock import Clock, FixedClock, SystemClock
from core.errors import StartError
from core.logs import get_logger
from core.median import lower_median
from core.ops import Ops
from core.settings import SimulatorSettings
from core.types import FailureCode, Pair, SourceFailure
from simulator import RecordedBody, Simulator
from simulator.errors import UnknownVenueError
from simulator.venues import VENUES
from sources import ParseError, Reading, SourcePool, load_catalogue, parse_ticker, simulator_base_urls

CATALOGUE = load_catalogue()
BTC_USD = Pair("BTC/USD")


@contextlib.asynccontextmanager
async def running(clock: Clock | None = None, **options: Any) -> AsyncIterator[Simulator]:
    clock = clock or SystemClock()
    settings = options.pop("settings", SimulatorSettings(port=0))
    ops = Ops("simulator", "test", clock)
    options.setdefault("catalogue", CATALOGUE)
    simulator = Simulator(settings, clock=clock, logger=get_logger("simulator", "test"), ops=ops, **options)
    async with simulator.run():
        yield simulator


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with running(venues=["coinbase", "kraken"]) as started:
        yield started


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=2, trust_env=False) as opened:
        yield opened


@pytest.fixture
async def control(simulator: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=simulator.control_url, timeout=2, trust_env=False) as opened:
        yield opened


async def ask(client: httpx.AsyncClient, simulator: Simulator, venue: str, pair: str = "BTC/USD") -> httpx.Response:
    return await client.get(simulator.venue_urls[venue] + CATALOGUE[venue].request_path(pair))


async def last(client: httpx.AsyncClient, simulator: Simulator, venue: str, pair: str = "BTC/USD") -> Decimal:
    return parse_ticker(CATALOGUE[venue], pair, (await ask(client, simulator, venue, pair)).content).last


async def test_every_pair_of_the_catalogue_gives_back_the_very_price_served(client: httpx.AsyncClient) -> None:
    async with running() as simulator:
        read: dict[tuple[str, str], Decimal] = {}
        for name, entry in CATALOGUE.items():
            for pair in entry.pairs:
                read[name, pair] = await last(client, simulator, name, pair)
        answer = (await client.get(f"{simulator.control_url}/served")).json()
        served = {(entry["venue"], entry["pair"]): Decimal(entry["last"]) for entry in answer["served"]}
        assert served == read
        assert answer["dropped"] == 0
        true = (await client.get(f"{simulator.control_url}/prices")).json()["true"]
    for pair in ("BTC/USD", "ETH/USD", "SOL/USD", "DOGE/USD", "TON/USD", "USDT/USD", "USDC/USD"):
        median = lower_median([price for (_, priced), price in read.items() if priced == pair])
        assert abs(median - Decimal(true[pair])) <= Decimal(true[pair]) / 1000


async def test_what_was_served_is_shown_by_time_venue_and_pair(
    simulator: Simulator, control: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    await last(client, simulator, "coinbase", "ETH/USD")
    await last(client, simulator, "kraken", "BTC/USD")
    coinbase = (await control.get("/served", params={"venue": "coinbase"})).json()["served"]
    assert [(entry["venue"], entry["pair"], entry["outcome"]) for entry in coinbase] == [("coinbase", "ETH/USD", "ok")]
    assert Decimal(coinbase[0]["bid"]) <= Decimal(coinbase[0]["last"]) <= Decimal(coinbase[0]["ask"])
    bitcoin = (await control.get("/served", params={"pair": "BTC/USD"})).json()["served"]
    assert [(entry["venue"], entry["time_ms"]) for entry in bitcoin] == [("kraken", None)]
    later = (await control.get("/served", params={"since_ms": bitcoin[0]["at_ms"] + 1})).json()["served"]
    assert later == []
    assert (await control.get("/served", params={"pair": "btc"})).status_code == 422


async def test_the_venues_are_told_under_the_name_that_the_client_used(
    simulator: Simulator, control: httpx.AsyncClient
) -> None:
    assert (await control.get("/venues")).json() == simulator.venue_urls
    named = await control.get("/venues", headers={"Host": "simulator:8010"})
    port = simulator.venue_urls["kraken"].rpartition(":")[2]
    assert named.json()["kraken"] == f"http://simulator:{port}"


async def test_operators_endpoints(simulator: Simulator, control: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    await last(client, simulator, "coinbase")
    assert (await control.get("/live")).json()["mode"] == "test"
    assert (await control.get("/ready")).status_code == 200
    health = (await control.get("/health")).json()
    assert (health["status"], health["dependencies"]["venues"]["detail"]) == (
        "up",
        "2 listening, 0 refused by a fault",
    )
    metrics = (await control.get("/metrics")).text
    assert 'fairmark_simulator_requests_total{outcome="ok",venue="coinbase"} 1.0' in metrics


async def put(control: httpx.AsyncClient, venue: str, fault: object) -> None:
    answer = await control.put(f"/faults/{venue}", json=fault)
    assert answer.status_code == 200, answer.text


async def test_delay(simulator: Simulator, control: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    await put(control, "coinbase", {"kind": "delay", "ms": 120})
    started = time.perf_counter()
    assert await last(client, simulator, "coinbase") > 0
    assert time.perf_counter() - started >= 0.12


async def test_hang(simulator: Simulator, control: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    await put(control, "coinbase", {"kind": "hang"})
    with pytest.raises(httpx.ReadTimeout):
        await client.get(
            simulator.venue_urls["coinbase"] + "/products/BTC-USD/ticker", timeout=httpx.Timeout(30, read=0.3)
        )
    assert await last(client, simulator, "kraken") > 0
    (entry,) = (await control.get("/served", params={"venue": "coinbase"})).json()["served"]
    assert (entry["outcome"], entry["last"]) == ("hang", None)


async def test_a_hung_request_does_not_hold_up_the_end(client: httpx.AsyncClient) -> None:
    async with running(venues=["coinbase"]) as simulator:
        async with httpx.AsyncClient(base_url=simulator.control_url) as control:
            await put(control, "coinbase", {"kind": "hang"})
        hung = asyncio.create_task(ask(client, simulator, "coinbase"))
        await asyncio.sleep(0.05)
        started = time.perf_counter()
    assert time.perf_counter() - started < 15
    with pytest.raises(httpx.HTTPError):
        await hung


@pytest.mark.parametrize(
    ("fault", "status", "retry_after"),
    [
        ({"kind": "429", "retry_after_s": 7}, 429, "7"),
        ({"kind": "429"}, 429, None),
        ({"kind": "500"}, 500, None),
    ],
)
async def test_statuses(
    simulator: Simulator,
    control: httpx.AsyncClient,
    client: httpx.AsyncClient,
    fault: dict[str, object],
    status: int,
    retry_after: str | None,
) -> None:
    await put(control, "kraken", fault)
    answer = await ask(client, simulator, "kraken")
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, retry_after)


@pytest.mark.parametrize(("kind", "code"), [("malformed", "malformed"), ("empty", "empty"), ("zero", "invalid_price")])
async def test_bodies_that_give_no_price(
    simulator: Simulator, control: httpx.AsyncClient, client: httpx.AsyncClient, kind: str, code: str
) -> None:
    await put(control, "kraken", {"kind": kind})
    answer = await ask(client, simulator, "kraken")
    assert answer.status_code == 200
    with pytest.raises(ParseError) as caught:
        parse_ticker(CATALOGUE["kraken"], "BTC/USD", answer.content)
    assert caught.value.code == code


async def test_stale(simulator: Simulator, control: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    await put(control, "coinbase", {"kind": "stale", "seconds": 600})
    ticker = parse_ticker(CATALOGUE["coinbase"], "BTC/USD", (await ask(client, simulator, "coinbase")).content)
    assert ticker.time_ms is not None
    assert 600_000 <= SystemClock().now_ms() - ticker.time_ms < 605_000


async def test_outlier(simulator: Simulator, control: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    sound = await last(client, simulator, "coinbase")
    await put(control, "coinbase", {"kind": "outlier", "factor": "3", "pair": "BTC/USD"})
    assert abs(await last(client, simulator, "coinbase") / sound - 3) < Decimal("0.01")
    (entry,) = (await control.get("/served", params={"venue": "coinbase"})).json()["served"][1:]
    assert entry["outcome"] == "outlier"
    assert abs(Decimal(entry["last"]) / sound - 3) < Decimal("0.01")
    assert await last(client, simulator, "coinbase", "ETH/USD") < 5_000


async def test_refused_and_back_on_the_same_port(
    simulator: Simulator, control: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    await last(client, simulator, "kraken")  # leaves an open connection in the client's pool
    url = simulator.venue_urls["kraken"]
    for _ in range(2):
        await put(control, "kraken", {"kind": "refused"})
        with pytest.raises(httpx.ConnectError):
            await ask(client, simulator, "kraken")
        assert (await control.get("/health")).json()["dependencies"]["venues"]["detail"] == (
            "1 listening, 1 refused by a fault"
        )
        assert (await control.delete("/faults/kraken")).status_code == 204
        assert simulator.venue_urls["kraken"] == url
        assert await last(client, simulator, "kraken") > 0


async def test_refusing_aborts_a_request_that_is_under_way(
    simulator: Simulator, control: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    await put(control, "kraken", {"kind": "delay", "ms": 60_000})
    waiting = asyncio.create_task(ask(client, simulator, "kraken"))
    await asyncio.sleep(0.05)
    await put(control, "kraken", {"kind": "refused"})
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        async with asyncio.timeout(30):
            await waiting


async def test_all_faults_are_replaced_and_lifted_together(control: httpx.AsyncClient) -> None:
    await control.put("/faults", json={"coinbase": {"kind": "zero"}})
    both = [{"kind": "delay", "ms": 5, "probability": 0.5}, {"kind": "hang", "pair": "BTC/USD"}]
    assert (await control.put("/faults", json={"kraken": both})).status_code == 200
    assert (await control.get("/faults")).json() == {
        "kraken": [
            {"kind": "delay", "ms": 5, "probability": 0.5},
            {"kind": "hang", "pair": "BTC/USD", "probability": 1.0},
        ]
    }
    assert (await control.delete("/faults")).status_code == 204
    assert (await control.get("/faults")).json() == {}


async def test_wrong_faults_are_refused_whole_naming_every_problem(control: httpx.AsyncClient) -> None:
    answer = await control.put(
        "/faults", json={"kraken": {"kind": "zero"}, "mtgox": {"kind": "zero"}, "coinbase": {"kind": "delay"}}
    )
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["code"] == "invalid_control"
    assert answer.json()["problems"] == [
        "'mtgox' is no simulated venue; there are: coinbase, kraken",
        "coinbase: delay.ms: Field required",
    ]
    assert (await control.get("/faults")).json() == {}


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("PUT", "/faults/mtgox", b'{"kind":"zero"}', 404),
        ("GET", "/faults/mtgox", b"", 404),
        ("DELETE", "/faults/mtgox", b"", 404),
        ("PUT", "/faults/kraken", b"{", 422),
        ("PUT", "/faults/kraken", b"null", 422),
        ("PUT", "/faults", b"[]", 422),
        ("PUT", "/prices", b"1", 422),
        ("PUT", "/prices", b'{"BTC/USD":"0"}', 422),
        ("PUT", "/prices", b" " * 70_000, 422),
    ],
)
async def test_bad_requests_are_answered_with_a_problem(
    control: httpx.AsyncClient, method: str, path: str, content: bytes, status: int
) -> None:
    answer = await control.request(method, path, content=content)
    assert answer.status_code == status
    assert answer.json()["detail"]


async def test_prices_are_pinned_and_let_go(
    simulator: Simulator, control: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    pinned = await control.put("/prices", json={"BTC/USD": "42000.5", "kraken:USDT/USD": "1"})
    assert pinned.json()["pinned"] == {"BTC/USD": "42000.5", "kraken:USDT/USD": "1"}
    assert pinned.json()["true"]["BTC/USD"] == "42000.5"
    assert abs(await last(client, simulator, "coinbase") - Decimal("42000.5")) < 42
    assert await last(client, simulator, "kraken", "USDT/USD") == 1
    assert (await control.delete("/prices")).status_code == 204
    assert (await control.get("/prices")).json()["pinned"] == {}
    assert await last(client, simulator, "coinbase") > 50_000


@pytest.mark.needs_recordings
async def test_recorded_bodies_are_replayed_verbatim_and_nothing_else(
    recordings: Path, client: httpx.AsyncClient
) -> None:
    folder = recordings / "ticker_responses"
    clock = FixedClock(1_710_328_245_000)
    async with running(clock, recordings=folder) as simulator:
        for path in sorted(folder.glob("*.json")):
            answer = await ask(client, simulator, path.stem, "BTC/USDT")
            assert answer.status_code == 200
            assert answer.content in path.read_bytes()
        assert (await ask(client, simulator, "bybit", "BTC/USDT")).json()["retMsg"] == "Not supported symbols"
        assert (await ask(client, simulator, "coinbase", "ETH/USD")).status_code == 404
        await client.put(f"{simulator.control_url}/prices", json={"coinbase:USDT/USD": "1"})
        rate = parse_ticker(
            CATALOGUE["coinbase"], "USDT/USD", (await ask(client, simulator, "coinbase", "USDT/USD")).content
        )
        assert (rate.last, rate.time_ms) == (1, 1_710_328_245_000)
        served = (await client.get(f"{simulator.control_url}/served", params={"venue": "gate"})).json()["served"]
        assert [(entry["outcome"], entry["last"]) for entry in served] == [("replayed", "73373.9")]


async def test_a_body_given_by_a_test_takes_the_place_of_one_pair(client: httpx.AsyncClient) -> None:
    body = RecordedBody(venue="coinbase", pair=BTC_USD, body=b'{"price":"1"}')
    async with running(venues=["coinbase"], recorded=[body]) as simulator:
        assert (await ask(client, simulator, "coinbase")).content == b'{"price":"1"}'
        assert await last(client, simulator, "coinbase", "ETH/USD") > 1_000


async def test_a_control_port_in_use_is_a_start_error_that_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"simulator: port {port} on 127.0.0.1 is in use"):
            async with running(venues=["kraken"], settings=SimulatorSettings(port=port)):
                pass


async def test_a_venues_port_in_use_is_a_start_error_that_names_the_venue() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        first = next(iter(VENUES))
        with pytest.raises(StartError, match=f"venue {first}: port {port} on 127.0.0.1 is in use"):
            async with running(venues=[first], settings=SimulatorSettings(port=0, base_port=port)):
                pass


async def test_a_venue_that_cannot_be_simulated_is_named() -> None:
    with pytest.raises(UnknownVenueError, match="'mtgox' cannot be simulated"):
        async with running(venues=["mtgox"]):
            pass


async def test_the_same_seed_is_the_same_market_in_another_simulator(client: httpx.AsyncClient) -> None:
    prices = []
    for seed in (5, 5, 6):
        settings = SimulatorSettings(port=0, seed=seed)
        async with running(FixedClock(1_710_328_245_000), venues=["kraken"], settings=settings) as simulator:
            prices.append(await last(client, simulator, "kraken"))
    assert prices[0] == prices[1] != prices[2]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"kind": "hang"}, FailureCode.TIMEOUT),
        ({"kind": "delay", "ms": 60_000}, FailureCode.TIMEOUT),
        ({"kind": "429"}, FailureCode.RATE_LIMITED),
        ({"kind": "500"}, FailureCode.SERVER_ERROR),
        ({"kind": "malformed"}, FailureCode.MALFORMED),
        ({"kind": "empty"}, FailureCode.EMPTY),
        ({"kind": "zero"}, FailureCode.INVALID_PRICE),
        ({"kind": "refused"}, FailureCode.CONNECTION),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else None,
)
async def test_a_source_client_sees_each_fault_as_what_it_is(
    simulator: Simulator, control: httpx.AsyncClient, fault: dict[str, object], code: FailureCode
) -> None:
    urls = await simulator_base_urls(simulator.control_url)
    async with SourcePool(CATALOGUE, urls, clock=SystemClock(), registry=CollectorRegistry(), base_urls=urls) as pool:
        loop = asyncio.get_running_loop()
        assert isinstance(await pool.fetch("kraken", BTC_USD, deadline=loop.time() + 1), Reading)
        await put(control, "kraken", fault)
        failure = await pool.fetch("kraken", BTC_USD, deadline=loop.time() + 0.3)
        assert isinstance(failure, SourceFailure)
        assert failure.code == code
        assert isinstance(await pool.fetch("coinbase", BTC_USD, deadline=loop.time() + 1), Reading)
        await control.delete("/faults")
        assert isinstance(await pool.fetch("kraken", BTC_USD, deadline=loop.time() + 1), Reading)
