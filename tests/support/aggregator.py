"""The edges of an aggregator, in memory: reporters that sign as told, a chain that keeps the contract's main rules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import cast

from prometheus_client import CollectorRegistry

from aggregator.attempts import AttemptRecord
from aggregator.edges import Known
from aggregator.errors import StoreUnavailableError
from aggregator.metrics import Metrics
from aggregator.validation import Expected, Received, identify
from broker.bus import Bus, Subscription, Topic
from broker.messages import Job, Message, Refusal, Report
from contracts.errors import RoundRefusedError, RpcUnavailableError
from contracts.fees import Fees
from contracts.readings import Answer, AnswerStatus, FeedOnChain, GroupReading, GroupState, Receipt
from contracts.report import Domain, LocalSigner, Signer, hint_digest, median_hints, sign_report
from contracts.transactions import Before, Sent, TransactionSender
from core.median import from_scaled, to_scaled
from core.types import Deployment, Feed, Group, Mode, Pair, SignedReport

NOW = 1_710_328_245_000
BTC, ETH = Pair("BTC/USD"), Pair("ETH/USD")
HASH = "0x" + "c3" * 32
DEPLOYMENT = Deployment(chain_id=31337, address="0x" + "a1" * 20, block_hash="0x" + "b2" * 32)
DOMAIN = Domain(Mode.TEST, DEPLOYMENT.chain_id, DEPLOYMENT.address)
SIGNERS = tuple(LocalSigner(f"{number:064x}") for number in range(1, 14))
STRANGER = LocalSigner("ab" * 32)


def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def group(*pairs: str, **rules: object) -> Group:
    own = {name: rules.pop(name) for name in ("f", "threshold", "grid_ms", "max_age_ms") if name in rules}
    feeds = tuple(Feed(pair=Pair(pair), **{"min_price": Decimal(1), **rules}) for pair in pairs or (BTC, ETH))  # type: ignore[arg-type]
    return Group(name="majors", feeds=feeds, **own)  # type: ignore[arg-type]


def state(of: Group, signers: Sequence[Signer], last_moment: int = NOW - 60_000, round_: int = 4) -> GroupState:
    return GroupState(
        group=of.name,
        group_hash=HASH,
        version=1,
        last_moment=last_moment,
        round=round_,
        accepted_block=5,
        paused=False,
        threshold=of.threshold,
        f=of.f,
        max_age_ms=of.max_age_ms,
        signers=tuple(signer.address for signer in signers),
        feeds=tuple(FeedOnChain(feed.pair, feed.decimals, feed.min_contributors, 50, 60) for feed in of.feeds),
        block_timestamp=last_moment // 1000,
    )


def expected(of: Group, signers: Sequence[Signer], moment: int = NOW, **changes: object) -> Expected:
    known = replace(Known.of(state(of, signers)), **changes)  # type: ignore[arg-type]
    return Expected(DEPLOYMENT.id, Mode.TEST, of, moment, known)


def report(
    signer: Signer,
    prices: Sequence[int],
    of: Group,
    *,
    moment: int = NOW,
    previous_moment: int = NOW - 60_000,
    group_hash: str = HASH,
    attempt: str = "a",
    domain: Domain = DOMAIN,
    deployment: str = DEPLOYMENT.id,
    mode: Mode = Mode.TEST,
    fetcher: str = "fetcher-a",
) -> Report:
    signed = sign_report(
        signer,
        domain,
        group=of.name,
        group_hash=group_hash,
        previous_moment=previous_moment,
        moment=moment,
        prices=prices,
    )
    answers = {str(f.pair): from_scaled(price, f.decimals) for f, price in zip(of.feeds, prices, strict=False) if price}
    return Report(
        id=f"{attempt}-{signer.address}",
        attempt=attempt,
        deployment=deployment,
        mode=mode,
        fetcher=fetcher,
        instance="1",
        signed=signed,
        answers=answers,
        quotes=(),
        failures=(),
        elapsed_ms=5,
    )


def received(signer: Signer, prices: Sequence[int], of: Group, **rest: object) -> Received:
    return identify(report(signer, prices, of, **rest), DOMAIN, 5)  # type: ignore[arg-type]


def refusal(reporter: str, attempt: str = "a", fetcher: str = "fetcher-a", code: str = "no_prices") -> Refusal:
    return Refusal(
        id=f"{attempt}-{fetcher}",
        attempt=attempt,
        deployment=DEPLOYMENT.id,
        mode=Mode.TEST,
        fetcher=fetcher,
        instance="1",
        reporter=reporter,
        moment=NOW,
        code=code,
        detail="",
        quotes=(),
        failures=(),
        elapsed_ms=1,
    )


@dataclass
class FakeSender:
    """All that is asked of a sender beside a chain that takes whatever it is given."""

    address: str

    async def balance(self) -> int:
        return 10**18

    async def used(self) -> int:
        return 0


@dataclass
class FakeChain:
    """One group on a chain that accepts what the contract would, as far as an aggregator can tell.

    down: nothing answers. refuses: the error's name that a simulation ends with. on_state: called before each reading.
    """

    group: Group
    signers: tuple[Signer, ...] = SIGNERS[:4]
    now: Callable[[], int] = lambda: NOW
    deployment: Deployment = DEPLOYMENT
    domain: Domain = DOMAIN
    last_moment: int = 0
    round: int = 0
    answers: dict[Pair, Answer] = field(default_factory=dict)
    down: bool = False
    paused: bool = False
    refuses: str | None = None
    reverts: bool = False
    submitted: list[tuple[tuple[SignedReport, ...], bytes]] = field(default_factory=list)
    on_state: Callable[[], None] = lambda: None
    receipts: dict[str, Receipt] = field(default_factory=dict)
    _built: list[tuple[tuple[SignedReport, ...], bytes]] = field(default_factory=list)

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise RpcUnavailableError("http://127.0.0.1:1 refuses the connection")

    async def group_state(self, group: str) -> GroupState:
        await self._answer()
        self.on_state()
        return replace(state(self.group, self.signers, self.last_moment, self.round), paused=self.paused)

    async def read_group(self, group: str) -> GroupReading:
        await self._answer()
        return GroupReading(
            group=group,
            mode=Mode.TEST,
            group_hash=HASH,
            version=1,
            round=self.round,
            moment=self.last_moment,
            accepted_block=self.round,
            block_timestamp=self.last_moment // 1000,
            paused=self.paused,
            pairs=tuple(feed.pair for feed in self.group.feeds),
            answers=dict(self.answers),
        )

    async def ping(self) -> str:
        await self._answer()
        return "chain 31337"

    def build_submission(self, group: str, reports: Sequence[SignedReport], hints: bytes) -> bytes:
        self._built.append((tuple(reports), hints))
        return len(self._built).to_bytes(4, "big")

    async def simulate(self, calldata: bytes, sender: str) -> None:
        await self._answer()
        reports, hints = self._submission(calldata)
        if self.refuses:
            raise RoundRefusedError(self.refuses)
        addresses = [int(one.reporter, 16) for one in reports]
        if addresses != sorted(set(addresses)):
            raise RoundRefusedError("SignersNotAscending")
        if any(one.previous_moment != self.last_moment for one in reports):
            raise RoundRefusedError("UnexpectedPreviousMoment")
        if hints != median_hints(reports, self.group.feeds):
            raise RoundRefusedError("NotTheMedian")

    def sender(self, key: str | Signer) -> TransactionSender:
        signer = LocalSigner(key) if isinstance(key, str) else key
        return cast(TransactionSender, FakeSender(signer.address))

    async def place(
        self, calldata: bytes, sender: TransactionSender, *, over: Sent | None = None, before: Before | None = None
    ) -> Sent:
        await self._answer()
        sent = Sent("0x" + calldata.hex(), over.nonce if over else len(self._built), Fees(1, 1), "0x00")
        if before is not None:
            await before(sent)
        return sent

    async def wait_any(self, transactions: Sequence[str], timeout_s: float) -> Receipt:
        await self._answer()
        transaction = transactions[0]
        reports, hints = self._submission(bytes.fromhex(transaction[2:]))
        if not self.reverts:
            self._accept(reports, hints)
        self.receipts[transaction] = Receipt(transaction, self.round, "0x" + "d4" * 32, 210_000, not self.reverts)
        return self.receipts[transaction]

    async def find_receipt(self, transaction: str) -> Receipt | None:
        await self._answer()
        return self.receipts.get(transaction)

    async def find_fees(self, transaction: str) -> Fees | None:
        await self._answer()
        return Fees(1, 1)

    async def settled_block(self, confirmations: int | str) -> int:
        await self._answer()
        return 0

    def _submission(self, calldata: bytes) -> tuple[tuple[SignedReport, ...], bytes]:
        return self._built[int.from_bytes(calldata, "big") - 1]

    def _accept(self, reports: tuple[SignedReport, ...], hints: bytes) -> None:
        self.submitted.append((reports, hints))
        self.round += 1
        self.last_moment = reports[0].moment
        for index, feed in enumerate(self.group.feeds):
            if hints[index] != 255:
                self.answers[feed.pair] = self._standing(feed, reports[hints[index]].prices[index])

    def _standing(self, feed: Feed, value: int) -> Answer:
        return Answer(
            pair=feed.pair,
            value=value,
            decimals=feed.decimals,
            price=from_scaled(value, feed.decimals),
            round=self.round,
            observed_ms=self.last_moment,
            updated_at=self.last_moment // 1000,
            spread_bps=0,
            contributors=4,
            status=AnswerStatus.FRESH,
            heartbeat_s=60,
            stale_after_s=120,
        )


@dataclass
class MemoryStore:
    """A store in memory. fails: every call raises."""

    rows: dict[str, AttemptRecord] = field(default_factory=dict)
    claims: set[tuple[str, str, int]] = field(default_factory=set)
    fails: bool = False
    opened: bool = False

    async def open(self) -> None:
        self._check()
        self.opened = True

    async def close(self) -> None:
        self.opened = False

    def _check(self) -> None:
        if self.fails:
            raise StoreUnavailableError("the disk is gone")

    async def claim(self, record: AttemptRecord) -> bool:
        self._check()
        key = (record.deployment, record.group, record.moment)
        if key in self.claims:
            return False
        self.claims.add(key)
        self.rows[record.id] = record
        return True

    async def save(self, record: AttemptRecord) -> None:
        self._check()
        self.rows[record.id] = record

    async def get(self, deployment: str, attempt: str) -> AttemptRecord | None:
        self._check()
        return self.rows.get(attempt)

    async def by_round(self, deployment: str, group: str, round_: int) -> AttemptRecord | None:
        self._check()
        return next((row for row in self.rows.values() if (row.group, row.round) == (group, round_)), None)

    async def latest(self, deployment: str, group: str, limit: int = 20) -> list[AttemptRecord]:
        self._check()
        rows = (row for row in self.rows.values() if row.group == group)
        return sorted(rows, key=lambda row: row.started_ms, reverse=True)[:limit]

    async def ping(self) -> str:
        self._check()
        return "memory"


@dataclass
class Reporter:
    """A fetcher as the aggregator sees it: answers each job with a signed report of `prices`.

    previous, group_hash: asked of `chain` for each job. delay_s: before it answers; silent: it never does.
    """

    name: str
    signer: Signer
    chain: object  # anything with group_state and domain
    prices: Mapping[Pair, str]
    delay_s: float = 0.0
    silent: bool = False
    refuses: str | None = None
    twist: Callable[[Report], Sequence[Report]] = lambda report: [report]
    jobs: list[Job] = field(default_factory=list)

    async def listen(self, bus: Bus, of: Group) -> Subscription:
        async def handle(message: Message) -> None:
            assert isinstance(message, Job)
            self.jobs.append(message)
            if self.silent:
                return
            await asyncio.sleep(self.delay_s)
            for answer in await self._answers(message, of):
                await bus.publish(Topic.REPORTS, answer)

        return await bus.subscribe(Topic.JOBS, self.name, handle)

    async def _answers(self, job: Job, of: Group) -> Sequence[Report | Refusal]:
        if self.refuses:
            return [
                Refusal(
                    id=f"{job.id}-{self.name}",
                    attempt=job.attempt,
                    deployment=job.deployment,
                    mode=job.mode,
                    fetcher=self.name,
                    instance="1",
                    reporter=self.signer.address,
                    moment=job.moment,
                    code=self.refuses,
                    detail="as told",
                    quotes=(),
                    failures=(),
                    elapsed_ms=1,
                )
            ]
        found: GroupState = await self.chain.group_state(of.name)  # type: ignore[attr-defined]
        prices = [
            to_scaled(Decimal(self.prices[feed.pair]), feed.decimals) if feed.pair in self.prices else 0
            for feed in of.feeds
        ]
        return self.twist(
            report(
                self.signer,
                prices,
                of,
                moment=job.moment,
                previous_moment=found.last_moment,
                group_hash=found.group_hash,
                attempt=job.attempt,
                domain=self.chain.domain,  # type: ignore[attr-defined]
                deployment=job.deployment,
                mode=job.mode,
                fetcher=self.name,
            )
        )


def hint_signature(signer: Signer, pair: Pair, price: int, moment: int, previous: int, domain: Domain = DOMAIN) -> str:
    return signer.sign(hint_digest(domain, "majors", pair, price, moment, previous))
