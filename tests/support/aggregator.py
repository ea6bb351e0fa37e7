"""The edges of an aggregator, in memory: reporters that sign as told, a chain that keeps the contract's main rules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import cast

import msgspec
from prometheus_client import CollectorRegistry

from aggregator.attempts import AttemptRecord, FailureReason
from aggregator.edges import Known
from aggregator.equivocations import Equivocation, found_in
from aggregator.metrics import Metrics
from aggregator.running import joins
from aggregator.states import OPEN, State
from aggregator.validation import Expected, Received, identify
from broker.bus import Bus, Subscription, Topic
from broker.messages import Job, Message, Refusal, Report
from contracts.errors import RoundRefusedError, RpcUnavailableError
from contracts.evidence import Statement
from contracts.fees import Fees
from contracts.readings import Answer, AnswerStatus, FeedOnChain, GroupReading, GroupState, Receipt
from contracts.report import Domain, LocalSigner, Signer, hint_digest, median_hints, sign_report
from contracts.transactions import Before, Sent, TransactionSender
from core.errors import StoreUnavailableError
from core.median import from_scaled, to_scaled
from core.types import Deployment, Feed, Group, Mode, Pair, Quote, SignedReport

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


def known_of(of: GroupState, standing: Sequence[int] = ()) -> Known:
    """The state as an aggregator knows it. standing: each feed's answer, scaled; default: none has one."""
    return Known(
        group_hash=of.group_hash,
        last_moment=of.last_moment,
        round=of.round,
        paused=of.paused,
        f=of.f,
        threshold=of.threshold,
        signers=frozenset(signer.lower() for signer in of.signers),
        feeds=of.feeds,
        standing=tuple(standing) or (0,) * len(of.feeds),
    )


def expected(of: Group, signers: Sequence[Signer], moment: int = NOW, **changes: object) -> Expected:
    known = replace(known_of(state(of, signers)), **changes)  # type: ignore[arg-type]
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
    instance: str = "1",
    quotes: Sequence[Quote] = (),
    unchanged: int = 0,
    standing: Sequence[int] = (),
) -> Report:
    """standing: what stands where bits of `unchanged` are set. quotes: all of them counted for the first feed."""
    shown = [standing[index] if unchanged >> index & 1 else price for index, price in enumerate(prices)]
    said = Statement(
        deployment=deployment,
        mode=mode,
        fetcher=fetcher,
        instance=instance,
        answers={
            str(f.pair): from_scaled(price, f.decimals) for f, price in zip(of.feeds, shown, strict=False) if price
        },
        quotes=tuple(quotes),
        failures=(),
        observed={str(of.feeds[0].pair): tuple(range(len(quotes)))} if quotes else {},
        elapsed_ms=5,
    )
    signed = sign_report(
        signer,
        domain,
        group=of.name,
        group_hash=group_hash,
        previous_moment=previous_moment,
        moment=moment,
        prices=prices,
        unchanged=unchanged,
        evidence_root=said.tree().root,
    )
    return Report(id=f"{attempt}-{signer.address}", attempt=attempt, signed=signed, **msgspec.structs.asdict(said))


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
        if hints != median_hints(reports, self.group.feeds, self._stands()):
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
            if hints[index] == 255:
                continue
            median = reports[hints[index]]
            if median.unchanged >> index & 1:
                attested = replace(
                    self.answers[feed.pair], observed_ms=self.last_moment, updated_at=self.last_moment // 1000
                )
                self.answers[feed.pair] = attested
            else:
                self.answers[feed.pair] = self._standing(feed, median.prices[index])

    def _stands(self) -> list[int]:
        return [self.answers[feed.pair].value if feed.pair in self.answers else 0 for feed in self.group.feeds]

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
    raws: dict[str, str | None] = field(default_factory=dict)
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

    async def announce(self, record: AttemptRecord) -> None:
        self._check()
        self.rows.setdefault(record.id, record)

    async def claim(self, record: AttemptRecord, arrived_ms: int | None = None) -> AttemptRecord | None:
        self._check()
        served = [
            row
            for row in self.rows.values()
            if (row.deployment, row.group, row.state) == (record.deployment, record.group, State.ACCEPTED)
            and row.relayer != record.relayer
            and arrived_ms is not None
            and joins(row, arrived_ms)
        ]
        if served:
            return max(served, key=lambda row: row.moment)
        for row in self.rows.values():
            others_open = row.state in OPEN and row.relayer != record.relayer
            if (row.deployment, row.group) == (record.deployment, record.group) and (
                row.moment == record.moment or others_open
            ):
                return row
        self.rows[record.id] = record
        return None

    async def note(self, record: AttemptRecord, raw: str) -> bool:
        self._check()
        if not self._replace_open(record):
            return False
        self.raws[record.id] = raw
        return True

    async def retire(self, record: AttemptRecord) -> bool:
        self._check()
        row = self.rows.get(record.id)
        if row is not None and row.transactions != record.transactions:
            return False
        return self._replace_open(record)

    def _replace_open(self, record: AttemptRecord) -> bool:
        if (row := self.rows.get(record.id)) is not None and row.state.final:
            return False
        self.rows[record.id] = record
        return True

    async def save(self, record: AttemptRecord) -> None:
        self._check()
        self.rows[record.id] = record
        if record.settled or record.code == FailureReason.REORGED:
            self.raws[record.id] = None

    async def equivocations(self, deployment: str, limit: int = 100) -> list[Equivocation]:
        self._check()
        found = [proof for row in self.rows.values() if row.deployment == deployment for proof in found_in(row)]
        return sorted(found, key=lambda one: -one.moment)[:limit]

    async def raw(self, attempt: str) -> str | None:
        self._check()
        return self.raws.get(attempt)

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

    async def unended(self, deployment: str) -> list[AttemptRecord]:
        self._check()
        rows = (row for row in self.rows.values() if row.deployment == deployment and not row.state.final)
        return sorted(rows, key=lambda row: row.started_ms)

    async def unsettled(self, deployment: str, relayer: str) -> list[AttemptRecord]:
        self._check()
        rows = (row for row in self.rows.values() if (row.deployment, row.relayer) == (deployment, relayer))
        kept = [row for row in rows if self.raws.get(row.id) is not None]
        return sorted(kept, key=lambda row: (row.state is not State.ACCEPTED, -row.started_ms))

    async def changed(self, attempt: str, timeout_s: float) -> None:
        await asyncio.sleep(min(timeout_s, 0.01))

    async def ping(self) -> str:
        self._check()
        return "memory"


@dataclass
class Reporter:
    """A fetcher as the aggregator sees it: answers each job with a signed report of `prices`.

    previous, group_hash: asked of `chain` for each job. delay_s: before it answers; free: not before this is set;
    silent: it never does.
    """

    name: str
    signer: Signer
    chain: object  # anything with group_state and domain
    prices: Mapping[Pair, str]
    delay_s: float = 0.0
    silent: bool = False
    refuses: str | None = None
    instance: str = "1"
    twist: Callable[[Report], Sequence[Report]] = lambda report: [report]
    jobs: list[Job] = field(default_factory=list)
    free: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.free.set()

    async def listen(self, bus: Bus, of: Group) -> Subscription:
        async def handle(message: Message) -> None:
            assert isinstance(message, Job)
            self.jobs.append(message)
            if self.silent:
                return
            await asyncio.sleep(self.delay_s)
            await self.free.wait()
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
                instance=self.instance,
            )
        )


def hint_signature(signer: Signer, pair: Pair, price: int, moment: int, previous: int, domain: Domain = DOMAIN) -> str:
    return signer.sign(hint_digest(domain, "majors", pair, price, moment, previous))
