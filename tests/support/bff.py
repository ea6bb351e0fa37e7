"""The BFF's two edges, in memory: a chain that says what it is told to, and an aggregator behind httpx's transport."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from decimal import Decimal

import httpx
from prometheus_client import CollectorRegistry

from bff import BffService
from bff.edges import ChainEdge
from contracts.errors import RpcUnavailableError
from contracts.readings import Answer, AnswerStatus, GroupReading
from core.clock import FixedClock
from core.ops import Ops
from core.settings import BffSettings
from core.types import Deployment, Feed, Group, Mode, Pair
from tests.support.wait import until

NOW_MS = 1_710_328_245_391  # 2024-03-13T11:10:45.391Z
BTC, ETH, TON = Pair("BTC/USD"), Pair("ETH/USD"), Pair("TON/USD")
MAJORS = Group(name="majors", feeds=(Feed(pair=BTC), Feed(pair=ETH, decimals=2), Feed(pair=TON)))
DEPLOYMENT = Deployment(chain_id=31337, address="0x" + "ab" * 20, block_hash="0x" + "cd" * 32)
TOKEN = "the token of both"
ATTEMPT = "0193f6a0c1b74e0f9d3c5a7b1e2d4f60"


def transaction_of(round_: int) -> str:
    return f"0x{round_:064x}"


def answer(
    pair: Pair = BTC,
    value: int = 7_123_456_000_000,
    *,
    decimals: int = 8,
    round_: int = 7,
    observed_ms: int = NOW_MS - 1_001,
    spread_bps: int = 3,
    contributors: int = 4,
    stale_after_s: int = 120,
) -> Answer:
    return Answer(
        pair=pair,
        value=value,
        decimals=decimals,
        price=Decimal(value).scaleb(-decimals),
        round=round_,
        observed_ms=observed_ms,
        updated_at=observed_ms // 1000,
        spread_bps=spread_bps,
        contributors=contributors,
        status=AnswerStatus.FRESH,
        heartbeat_s=60,
        stale_after_s=stale_after_s,
    )


def reading(round_: int = 7, *answers: Answer, paused: bool = False, group: Group = MAJORS) -> GroupReading:
    moment = max((one.observed_ms for one in answers), default=0)
    return GroupReading(
        group=group.name,
        mode=Mode.TEST,
        group_hash="0x" + "00" * 32,
        version=1,
        round=round_,
        moment=moment,
        accepted_block=100 + round_ if round_ else 0,
        block_timestamp=0,  # the chain's clock is never asked
        paused=paused,
        pairs=tuple(feed.pair for feed in group.feeds),
        answers={one.pair: one for one in answers},
    )


class FakeChain:
    """A `bff.edges.ChainEdge`. Set `reading` (or `down`) and it says so from the next read on."""

    deployment = DEPLOYMENT

    def __init__(self, first: GroupReading | None = None) -> None:
        self.reading = first or reading(7, answer(), answer(ETH, 400_001, decimals=2))
        self.down = False
        self.hangs = False
        self.reads = 0
        self.lookups: list[tuple[str, int, int]] = []
        self.transactions: dict[int, str | None] = {}

    async def read_group(self, group: str) -> GroupReading:
        self.reads += 1
        if self.hangs:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        if self.down:
            raise RpcUnavailableError("the node does not answer")
        return self.reading

    async def round_transaction(self, group: str, round_: int, block: int) -> str | None:
        self.lookups.append((group, round_, block))
        return self.transactions.get(round_, transaction_of(round_))


@dataclass
class FakeAggregator:
    """The aggregator's HTTP API. `on_refresh` makes the answer to a refresh; `records` are kept by path."""

    on_refresh: Callable[[httpx.Request], httpx.Response] | None = None
    records: dict[str, httpx.Response] = field(default_factory=dict)
    down: bool = False
    hangs: bool = False
    asked: list[httpx.Request] = field(default_factory=list)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/confidence"):  # asked after each new round, by no client
            self.asked.append(request)
        if self.down:
            raise httpx.ConnectError("connection refused")
        if self.hangs:
            await asyncio.Event().wait()
        if request.url.path == "/live":
            return httpx.Response(200, json={"status": "live"})
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return problem(401, "unauthorized", "no token, or a wrong one")
        if request.method == "POST":
            assert self.on_refresh is not None
            return self.on_refresh(request)
        return self.records.get(request.url.path) or problem(404, "unknown_attempt", "no such record is kept")


def problem(status: int, code: str, detail: str) -> httpx.Response:
    body = {"type": f"urn:fairmark:problem:{code}", "title": code, "status": status, "detail": detail, "code": code}
    return httpx.Response(status, content=json.dumps(body), headers={"content-type": "application/problem+json"})


def ended(state: str, *, status: int = 200, **members: object) -> httpx.Response:
    return httpx.Response(status, json={"id": ATTEMPT, "group": "majors", "state": state, **members})


@dataclass
class House:
    """A BFF between its two edges."""

    service: BffService
    client: httpx.AsyncClient
    chain: ChainEdge
    aggregator: FakeAggregator
    clock: FixedClock
    ops: Ops


@contextlib.asynccontextmanager
async def bff_house(
    *,
    chain: ChainEdge | None = None,
    clock: FixedClock | None = None,
    aggregator: FakeAggregator | None = None,
    groups: tuple[Group, ...] = (MAJORS,),
    token: str = TOKEN,
    first_readings: bool = True,
    trader: httpx.AsyncBaseTransport | None = None,
    **settings: object,
) -> AsyncIterator[House]:
    """Runs a BFF while the block runs. The poll is slow by default: a test that wants a new reading calls `read`."""
    chain, aggregator, clock = chain or FakeChain(), aggregator or FakeAggregator(), clock or FixedClock(NOW_MS)
    ops = Ops("bff", Mode.TEST, clock=clock, registry=CollectorRegistry())
    service = BffService(
        settings=BffSettings.model_validate({"poll_ms": 60_000, "market_url": None, **settings}),
        groups=groups,
        chain=chain,
        mode=Mode.TEST,
        clock=clock,
        ops=ops,
        token=token,
        transport=httpx.MockTransport(aggregator),
        trader_transport=trader,
    )
    running = asyncio.create_task(service.run())
    transport = httpx.ASGITransport(service.app)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://bff") as client:
            if first_readings:
                await until(lambda: ops.ready)
            yield House(service, client, chain, aggregator, clock, ops)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
