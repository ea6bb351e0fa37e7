"""The edges of a fetcher, in memory: sources that answer as told, a chain that knows one group, a store, signers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import structlog

from contracts import Answer, AnswerStatus, Domain, FeedOnChain, GroupReading, GroupState, LocalSigner
from contracts.errors import CallRevertedError, RpcUnavailableError
from core.median import from_scaled
from core.types import Deployment, FailureCode, Feed, Group, Mode, Pair, SourceFailure
from fetchers.candidates import Candidate
from fetchers.errors import MomentPassedError, ReportStoreError
from fetchers.report_store import ReportKey
from sources import Priority, Reading, Ticker
from sources.streams import StreamState

NOW = 1_710_328_245_000
"""2024-03-13T11:10:45Z: the moment of the recorded minute."""
BTC, ETH, USDT, USDC = Pair("BTC/USD"), Pair("ETH/USD"), Pair("USDT/USD"), Pair("USDC/USD")
DEPLOYMENT = Deployment(chain_id=31337, address="0x" + "a1" * 20, block_hash="0x" + "b2" * 32)
DOMAIN = Domain(Mode.TEST, DEPLOYMENT.chain_id, DEPLOYMENT.address)
SIGNER = LocalSigner("0x" + "11" * 32)


def _drop(*_: object) -> dict[str, object]:
    raise structlog.DropEvent


QUIET = structlog.stdlib.BoundLogger(None, [_drop], {})
"""A logger that says nothing."""


def feed(pair: str, **rules: object) -> Feed:
    return Feed(pair=Pair(pair), **{"min_price": Decimal("0.2"), **rules})  # type: ignore[arg-type]


def group(*pairs: str, name: str = "majors", **rules: object) -> Group:
    return Group(name=name, feeds=tuple(feed(pair, **rules) for pair in pairs))


@dataclass(frozen=True)
class Entry:
    """A catalogue entry as far as candidates look at it."""

    name: str
    pairs: tuple[Pair, ...]
    host: str = ""
    kind: str = "exchange"
    relays: tuple[str, ...] = ()
    aliases: Mapping[Pair, Pair] = field(default_factory=dict)

    def alias_of(self, pair: str) -> Pair | None:
        return self.aliases.get(Pair(pair))

    @property
    def base_url(self) -> str:
        return f"https://{self.host or self.name}.example"

    def request_path(self, pair: Pair) -> str:
        return f"/{pair.slug}"


def catalogue(**served: str) -> dict[str, Entry]:
    """`catalogue(kraken="BTC/USD USDT/USD")`."""
    return {name: Entry(name, tuple(Pair(pair) for pair in pairs.split())) for name, pairs in served.items()}


@dataclass(frozen=True)
class Slow:
    """Answers with `price` after `seconds`."""

    price: str
    seconds: float


@dataclass
class FakePool:
    """Sources that answer as told. answers: by source and pair; what is not there is unsupported. asked: in order.
    volumes: by source and pair, of those that tell one."""

    answers: dict[tuple[str, str], str | FailureCode | Slow | BaseException | None]
    now: Callable[[], int] = lambda: NOW
    asked: list[Candidate] = field(default_factory=list)
    volumes: dict[tuple[str, str], str] = field(default_factory=dict)

    async def fetch(
        self, source: str, pair: Pair, *, deadline: float, priority: Priority = Priority.JOB, anyway: bool = False
    ) -> Reading | SourceFailure:
        self.asked.append(Candidate(source, pair))
        answer = self.answers.get((source, pair), FailureCode.UNSUPPORTED)
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, Slow):
            await asyncio.sleep(answer.seconds)
            answer = answer.price
        if isinstance(answer, FailureCode):
            return SourceFailure(pair=pair, source=source, code=answer, detail="as told")
        assert answer is not None
        volume = self.volumes.get((source, pair))
        ticker = Ticker(last=Decimal(answer), volume=None if volume is None else Decimal(volume))
        return Reading(source=source, pair=pair, ticker=ticker, received_ms=self.now(), elapsed_ms=1)


@dataclass
class FakeStreams:
    """Streams that show what they are told to. prices, volumes: by source and pair. received_ms: of all of them."""

    prices: dict[tuple[str, str], str] = field(default_factory=dict)
    volumes: dict[tuple[str, str], str] = field(default_factory=dict)
    received_ms: int = NOW
    lost: dict[str, str] = field(default_factory=dict)
    wanted: dict[str, set[Pair]] = field(default_factory=dict)
    moments: list[int] = field(default_factory=list)
    running: bool = False

    def want(self, source: str, pairs: Collection[Pair]) -> tuple[Pair, ...]:
        self.wanted.setdefault(source, set()).update(pairs)
        return tuple(pairs)

    def latest(self, source: str, pair: Pair, moment_ms: int) -> Reading | None:
        self.moments.append(moment_ms)
        price = self.prices.get((source, pair))
        if price is None:
            return None
        volume = self.volumes.get((source, pair))
        ticker = Ticker(last=Decimal(price), volume=None if volume is None else Decimal(volume))
        return Reading(source=source, pair=pair, ticker=ticker, received_ms=self.received_ms, elapsed_ms=0)

    async def run(self) -> None:
        self.running = True
        try:
            await asyncio.Event().wait()
        finally:
            self.running = False

    def states(self) -> tuple[StreamState, ...]:
        return tuple(
            StreamState(
                source=source,
                up=0 if source in self.lost else 1,
                connections=1,
                pairs=len(pairs),
                age_s=0.1,
                last_loss=self.lost.get(source, ""),
            )
            for source, pairs in self.wanted.items()
        )


@dataclass
class FakeChain:
    """One group on a chain. standing: scaled answers by pair, all observed at `last_moment`. down: nothing answers."""

    group: Group
    signers: tuple[str, ...] = (SIGNER.address,)
    last_moment: int = 0
    standing: Mapping[Pair, int] = field(default_factory=dict)
    decimals: int = 8
    down: bool = False
    hangs: bool = False
    deployment: Deployment = DEPLOYMENT
    domain: Domain = DOMAIN

    async def _answers(self) -> None:
        await asyncio.sleep(0)
        if self.hangs:
            await asyncio.Event().wait()
        if self.down:
            raise RpcUnavailableError("http://127.0.0.1:1 refuses the connection")

    async def group_state(self, group: str) -> GroupState:
        await self._answers()
        if group != self.group.name:
            raise CallRevertedError("UnknownGroup")
        return GroupState(
            group=group,
            group_hash="0x" + "c3" * 32,
            version=1,
            last_moment=self.last_moment,
            round=1 if self.last_moment else 0,
            accepted_block=5,
            paused=False,
            threshold=3,
            f=1,
            max_age_ms=60_000,
            signers=self.signers,
            feeds=tuple(FeedOnChain(each.pair, self.decimals, 3, 50, 60) for each in self.group.feeds),
            block_timestamp=NOW // 1000,
        )

    async def read_group(self, group: str) -> GroupReading:
        await self._answers()
        return GroupReading(
            group=group,
            mode=Mode.TEST,
            group_hash="0x" + "c3" * 32,
            version=1,
            round=1,
            moment=self.last_moment,
            accepted_block=5,
            block_timestamp=NOW // 1000,
            paused=False,
            pairs=tuple(each.pair for each in self.group.feeds),
            answers={pair: self._answer(pair, value) for pair, value in self.standing.items()},
        )

    def _answer(self, pair: Pair, value: int) -> Answer:
        return Answer(
            pair=pair,
            value=value,
            decimals=self.decimals,
            price=from_scaled(value, self.decimals),
            round=1,
            observed_ms=self.last_moment,
            updated_at=self.last_moment // 1000,
            spread_bps=0,
            contributors=3,
            status=AnswerStatus.FRESH,
            heartbeat_s=60,
            stale_after_s=120,
        )

    async def ping(self) -> str:
        await self._answers()
        return "chain 31337 at block 5"


@dataclass
class MemoryReportStore:
    """The store's rules without a database; `broken` makes it fail, `hangs` makes it silent."""

    kept: dict[ReportKey, bytes] = field(default_factory=dict)
    broken: bool = False
    hangs: bool = False

    async def _works(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.broken:
            raise ReportStoreError("sqlite: disk is full; check store.url and that the database runs")

    async def start(self) -> None:
        await self._works()

    async def put(self, key: ReportKey, report: bytes) -> bytes:
        await self._works()
        if key in self.kept:
            return self.kept[key]
        last = await self.last_moment(key.deployment, key.group, key.reporter) or 0
        if key.moment <= last:
            raise MomentPassedError(key.moment, last)
        self.kept[key] = report
        return report

    async def get(self, key: ReportKey) -> bytes | None:
        await self._works()
        return self.kept.get(key)

    async def last_moment(self, deployment: str, group: str, reporter: str) -> int | None:
        mine = (deployment, group, reporter)
        moments = [key.moment for key in self.kept if (key.deployment, key.group, key.reporter) == mine]
        return max(moments, default=None)

    async def prune(self) -> int:
        return 0

    async def ping(self) -> str:
        await self._works()
        return "memory"

    async def close(self) -> None:
        return None
