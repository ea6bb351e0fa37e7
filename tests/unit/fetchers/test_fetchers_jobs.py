"""One job, one answer: in time, the same when asked again, and never an exception."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import count

import pytest
from prometheus_client import CollectorRegistry

from broker import Job, Refusal, Report
from contracts import GroupReading, Signer
from contracts.errors import RpcUnavailableError
from contracts.evidence import Statement
from contracts.report import recover_reporter
from core.clock import FixedClock
from core.currency import DOLLARS, ConversionGraph
from core.types import FailureCode, Group, Mode, Pair, SourceFailure
from fetchers.candidates import make_plans
from fetchers.clocks import ClockWatch
from fetchers.fetch import Fetcher, Observation
from fetchers.jobs import MAX_BUDGET_MS, MAX_JOBS_PER_S, JobDesk
from fetchers.metrics import FetcherMetrics
from fetchers.reader import PoolReader
from sources import Priority, Reading
from tests.support.fetchers import (
    DEPLOYMENT,
    DOMAIN,
    NOW,
    QUIET,
    SIGNER,
    FakeChain,
    FakePool,
    MemoryReportStore,
    catalogue,
    group,
)

MAJORS = group("BTC/USD", "ETH/USD")
SERVED = catalogue(a="BTC/USD ETH/USD", b="BTC/USD ETH/USD", c="BTC/USD")


def answering() -> FakePool:
    return FakePool(
        {
            ("a", "BTC/USD"): "70000",
            ("b", "BTC/USD"): "70001.5",
            ("c", "BTC/USD"): "70002",
            ("a", "ETH/USD"): FailureCode.TIMEOUT,
            ("b", "ETH/USD"): "4000",
        }
    )


@dataclass
class Room:
    """A desk and its edges."""

    pool: FakePool = field(default_factory=answering)
    store: MemoryReportStore = field(default_factory=MemoryReportStore)
    chain: FakeChain = field(default_factory=lambda: FakeChain(MAJORS))
    clock: FixedClock = field(default_factory=lambda: FixedClock(NOW))
    seen: list[tuple[str, Observation]] = field(default_factory=list)
    offsets: dict[str, float] = field(default_factory=dict)
    signer: Signer = SIGNER
    new_id: Callable[[], str] = field(default_factory=lambda: map(str, count()).__next__)

    async def desk(self, instance: str = "one", of: Group = MAJORS) -> JobDesk:
        graph = ConversionGraph(DOLLARS)
        desk = JobDesk(
            name="fetcher-a",
            instance=instance,
            mode=Mode.TEST,
            groups=[of],
            plans={of.name: make_plans(of.feeds, list(SERVED), SERVED, graph)},
            fetcher=Fetcher(PoolReader(self.pool), graph, QUIET),
            chain=self.chain,
            signer=self.signer,
            store=self.store,
            clock=self.clock,
            logger=QUIET,
            new_id=self.new_id,
            saw=lambda name, observation: self.seen.append((name, observation)),
            watch=ClockWatch(lambda: self.offsets, FetcherMetrics(CollectorRegistry()), QUIET),
        )
        await desk.start()
        return desk


def job(moment: int = NOW, *, attempt: str = "attempt", budget_ms: int = 400, **fields: str) -> Job:
    told = {"deployment": DEPLOYMENT.id, "group": "majors", **fields}
    return Job(id="job", attempt=attempt, mode=Mode.TEST, moment=moment, budget_ms=budget_ms, **told)


async def code(room: Room, asked: Job | None = None) -> str:
    answer = await (await room.desk()).answer(asked or job())
    assert isinstance(answer, Refusal)
    return answer.code


async def test_a_job_becomes_a_signed_report_with_its_evidence() -> None:
    room = Room()
    report = await (await room.desk()).answer(job())
    assert isinstance(report, Report)
    assert report.signed.prices == (7_000_150_000_000, 0)
    assert report.answers == {"BTC/USD": Decimal("70001.50000000")}
    assert (report.attempt, report.fetcher, report.instance) == ("attempt", "fetcher-a", "one")
    assert (report.deployment, report.mode) == (DEPLOYMENT.id, Mode.TEST)
    assert recover_reporter(DOMAIN, report.signed) == SIGNER.address
    assert report.observed == {"BTC/USD": (0, 1, 2), "ETH/USD": (3,)}
    said = Statement(**{name: getattr(report, name) for name in Statement.__struct_fields__})
    assert report.signed.evidence_root == said.tree().root
    assert [quote.source for quote in report.quotes] == ["a", "b", "c", "b"]
    assert [(failure.source, failure.code) for failure in report.failures] == [("a", FailureCode.TIMEOUT)]
    assert [(name, set(observation.answers)) for name, observation in room.seen] == [("majors", {"BTC/USD"})]


async def test_asked_again_it_returns_the_very_same_report_and_asks_nobody() -> None:
    room = Room()
    desk = await room.desk()
    first = await desk.answer(job())
    asked = len(room.pool.asked)
    room.pool.answers[("a", "BTC/USD")] = "60000"
    assert await desk.answer(job()) == first
    assert len(room.pool.asked) == asked


async def test_another_instance_returns_the_very_same_report() -> None:
    room = Room()
    early, late = await room.desk("one"), await room.desk("two")
    first = await early.answer(job())
    room.pool.answers[("b", "BTC/USD")] = "70001.9"
    assert await late.answer(job()) == first
    assert await (await room.desk("three")).answer(job()) == first


async def test_another_attempt_at_the_same_moment_gets_the_same_signed_report() -> None:
    desk = await Room().desk()
    first, second = await desk.answer(job()), await desk.answer(job(attempt="other"))
    assert isinstance(first, Report)
    assert isinstance(second, Report)
    assert second.signed == first.signed
    assert (first.attempt, second.attempt) == ("attempt", "other")


async def test_a_moment_before_the_last_signed_is_refused() -> None:
    room = Room()
    desk = await room.desk()
    assert isinstance(await desk.answer(job(NOW + 20)), Report)
    refusal = await desk.answer(job(NOW + 10))
    assert isinstance(refusal, Refusal)
    assert refusal.code == "moment_passed"
    assert isinstance(await desk.answer(job(NOW + 30)), Report)


async def test_a_moment_before_one_that_another_instance_signed_is_refused() -> None:
    room = Room()
    early, late = await room.desk("one"), await room.desk("two")
    assert isinstance(await early.answer(job(NOW + 20)), Report)
    refusal = await late.answer(job(NOW + 10))
    assert isinstance(refusal, Refusal)
    assert refusal.code == "moment_passed"
    assert [key.moment for key in room.store.kept] == [NOW + 20]


async def test_a_refusal_says_who_and_why_and_what_was_seen() -> None:
    room = Room(chain=FakeChain(MAJORS, down=True))
    refusal = await (await room.desk()).answer(job())
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.reporter, refusal.moment) == ("chain_unavailable", SIGNER.address, NOW)
    assert "refuses the connection" in refusal.detail
    assert [quote.source for quote in refusal.quotes] == ["a", "b", "c", "b"]


async def test_faults_around_the_fetcher_are_refusals_with_their_code() -> None:
    assert await code(Room(), job(deployment="1:0x1:0x1")) == "wrong_deployment"
    assert await code(Room(), job(group="minors")) == "unknown_group"
    assert await code(Room(), job(NOW + 5000)) == "moment_too_far"
    assert await code(Room(), job(budget_ms=180)) == "budget_too_short"
    assert await code(Room(chain=FakeChain(MAJORS, signers=()))) == "not_registered"
    assert await code(Room(chain=FakeChain(MAJORS, decimals=6))) == "configuration_mismatch"
    assert await code(Room(chain=FakeChain(group("BTC/USD", name="minors")))) == "configuration_mismatch"
    assert await code(Room(chain=FakeChain(MAJORS, last_moment=NOW))) == "moment_passed"
    assert await code(Room(pool=FakePool({}))) == "no_prices"


async def test_a_report_that_cannot_be_remembered_does_not_leave() -> None:
    room = Room()
    desk = await room.desk()
    room.store.broken = True
    answer = await desk.answer(job())
    assert isinstance(answer, Refusal)
    assert (answer.code, len(answer.quotes)) == ("store_unavailable", 4)


async def test_a_bug_is_a_refusal() -> None:
    class Broken(FixedClock):
        def now_ms(self) -> int:
            raise ZeroDivisionError("a bug")

    assert await code(Room(clock=Broken(NOW))) == "internal"


@pytest.mark.parametrize("hanging", ["sources", "chain", "store"])
async def test_whatever_hangs_the_answer_is_there_before_the_budget_ends(hanging: str) -> None:
    room = Room()
    desk = await room.desk()
    if hanging == "sources":
        room.pool.answers = dict.fromkeys(room.pool.answers)
    room.chain.hangs = hanging == "chain"
    room.store.hangs = hanging == "store"
    loop = asyncio.get_running_loop()
    started = loop.time()
    answer = await desk.answer(job(budget_ms=300))
    assert loop.time() - started < 0.25  # due 150 ms before the end; the rest is for a busy machine
    assert isinstance(answer, Refusal)
    wanted = {"sources": "no_prices", "chain": "chain_unavailable", "store": "store_unavailable"}
    assert answer.code == wanted[hanging]


async def test_registration_is_refused_without_waiting_for_the_sources() -> None:
    room = Room(chain=FakeChain(MAJORS, signers=()))
    room.pool.answers = dict.fromkeys(room.pool.answers)
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert await code(room, job(budget_ms=2000)) == "not_registered"
    assert loop.time() - started < 0.2


async def test_a_refusal_by_the_chain_still_tells_of_everyone_who_was_asked() -> None:
    room = Room(chain=FakeChain(MAJORS, signers=()))
    room.pool.answers[("b", "BTC/USD")] = room.pool.answers[("b", "ETH/USD")] = None
    refusal = await (await room.desk()).answer(job(budget_ms=2000))
    assert isinstance(refusal, Refusal)
    assert refusal.code == "not_registered"
    told = [(each.source, each.pair) for each in refusal.quotes]
    told += [(each.source, each.pair) for each in refusal.failures]
    assert sorted(told) == sorted((each.source, each.pair) for each in room.pool.asked)
    assert {each.detail for each in refusal.failures if each.code == FailureCode.CANCELLED} == {
        "the job was refused first"
    }
    assert [each.source for each in refusal.failures if each.code == FailureCode.CANCELLED] == ["b", "b"]


async def test_a_job_from_ahead_of_the_clock_does_not_cost_the_honest_ones_their_moments() -> None:
    room = Room()
    desk = await room.desk()
    ahead = await desk.answer(job(NOW + 2000, attempt="rogue"))
    assert isinstance(ahead, Refusal)
    assert ahead.code == "moment_too_far"
    assert isinstance(await desk.answer(job()), Report)


async def test_a_flood_of_jobs_is_no_flood_of_requests() -> None:
    room = Room()
    desk = await room.desk()
    answers = [await desk.answer(job(NOW - 1000 + 10 * step)) for step in range(MAX_JOBS_PER_S)]
    assert all(isinstance(answer, Report) for answer in answers)
    asked = len(room.pool.asked)
    refusal = await desk.answer(job(NOW + 10))
    assert isinstance(refusal, Refusal)
    assert refusal.code == "too_many_jobs"
    assert await desk.answer(job(NOW - 1000)) == answers[0]  # signed already: no source is asked
    assert len(room.pool.asked) == asked
    await asyncio.sleep(1.05)
    assert isinstance(await desk.answer(job(NOW + 20)), Report)


async def test_no_budget_holds_a_job_longer_than_any_aggregator_waits() -> None:
    deadlines: list[float] = []

    class Noted(FakePool):
        async def fetch(
            self, source: str, pair: Pair, *, deadline: float, priority: Priority = Priority.JOB, anyway: bool = False
        ) -> Reading | SourceFailure:
            deadlines.append(deadline)
            return await super().fetch(source, pair, deadline=deadline, priority=priority, anyway=anyway)

    started = asyncio.get_running_loop().time()
    await (await Room(pool=Noted(answering().answers)).desk()).answer(job(budget_ms=3_600_000))
    assert MAX_BUDGET_MS == 30_000
    assert max(deadlines) - started == pytest.approx(29.77, abs=0.2)


async def test_a_cancelled_answer_leaves_nothing_running() -> None:
    room = Room()
    room.pool.answers = dict.fromkeys(room.pool.answers)
    desk = await room.desk()
    before = asyncio.all_tasks()
    task = asyncio.create_task(desk.answer(job()))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert asyncio.all_tasks() == before


async def test_many_jobs_at_once_never_sign_backwards() -> None:
    room = Room()
    desks = [await room.desk(str(index)) for index in range(3)]
    moments = [NOW + step for step in (50, 10, 30, 20, 60, 40, 60, 10)]
    answers = await asyncio.gather(*(desks[index % 3].answer(job(moment)) for index, moment in enumerate(moments)))
    signed = [answer.signed for answer in answers if isinstance(answer, Report)]
    assert {answer.code for answer in answers if isinstance(answer, Refusal)} <= {"moment_passed"}
    by_moment = {report.moment: report for report in signed}
    assert all(by_moment[report.moment] == report for report in signed)
    assert max(by_moment) == NOW + 60


STANDING = {Pair("BTC/USD"): 7_000_150_000_000, Pair("ETH/USD"): 400_000_000_000}
ALL_ANSWER = {**answering().answers, ("a", "ETH/USD"): "4001", ("b", "ETH/USD"): "4002"}


async def signed(room: Room) -> Report:
    report = await (await room.desk()).answer(job())
    assert isinstance(report, Report), report
    return report


async def test_a_price_that_is_the_standing_answer_is_called_unchanged() -> None:
    room = Room(pool=FakePool(ALL_ANSWER), chain=FakeChain(MAJORS, last_moment=NOW - 1000, standing=STANDING))
    report = await signed(room)
    assert (report.signed.prices, report.signed.unchanged) == ((0, 400_100_000_000), 0b01)
    assert report.signed.previous_moment == NOW - 1000
    assert report.answers == {"BTC/USD": Decimal("70001.50000000"), "ETH/USD": Decimal("4001.00000000")}
    assert recover_reporter(DOMAIN, report.signed) == SIGNER.address


async def test_a_report_may_have_no_price_at_all_where_all_is_as_it_was() -> None:
    room = Room(chain=FakeChain(MAJORS, last_moment=NOW - 1000, standing=STANDING))
    report = await signed(room)
    assert (report.signed.prices, report.signed.unchanged) == ((0, 0), 0b01)  # ETH/USD got too few quotes: none


@pytest.mark.parametrize("fault", ["another round", "down", "hangs"])
async def test_without_the_answers_of_the_very_round_it_follows_a_report_has_prices(fault: str) -> None:
    class Reading(FakeChain):
        async def read_group(self, group: str) -> GroupReading:
            if fault == "down":
                raise RpcUnavailableError("http://127.0.0.1:1 refuses the connection")
            if fault == "hangs":
                await asyncio.Event().wait()
            reading = await super().read_group(group)
            return replace(reading, moment=reading.moment + 10)

    report = await signed(Room(chain=Reading(MAJORS, last_moment=NOW - 1000, standing=STANDING)))
    assert (report.signed.prices, report.signed.unchanged) == ((7_000_150_000_000, 0), 0)


async def test_a_fetcher_whose_clock_is_wrong_by_its_sources_does_not_sign() -> None:
    room = Room(offsets={"a": 2_400.0, "b": -3.0, "c": 2_600.0})
    refusal = await (await room.desk()).answer(job())
    assert isinstance(refusal, Refusal)
    assert refusal.code == "clock_off"
    assert refusal.detail == "this clock is 2.4 s behind by the median of 3 sources, 2 at most; set it"
    assert len(refusal.quotes) == 4
    assert not room.store.kept
    room.offsets = {"a": 1_900.0, "b": -3.0, "c": 2_600.0}
    assert isinstance(await (await room.desk()).answer(job()), Report)


async def test_a_moment_that_looks_far_away_is_blamed_on_whoevers_clock_is_wrong() -> None:
    assert await code(Room(offsets={"a": 9e3, "b": 9e3, "c": 9e3}), job(NOW + 9000)) == "clock_off"
    assert await code(Room(offsets={"a": 9.0, "b": 9.0, "c": 9.0}), job(NOW + 9000)) == "moment_too_far"
    # too few sources have told the time: the job and the node's block must agree
    behind = Room(clock=FixedClock(NOW - 5000))
    assert await code(behind, job()) == "clock_off"
    assert await code(Room(), job(NOW + 9000)) == "moment_too_far"
    assert await code(Room(chain=FakeChain(MAJORS, down=True)), job(NOW + 9000)) == "moment_too_far"
    assert not behind.pool.asked


async def test_a_key_that_is_elsewhere_does_not_hold_the_event_loop() -> None:
    class Remote:
        address = SIGNER.address

        def sign(self, digest: bytes) -> str:
            time.sleep(0.05)  # a network's round trip
            return SIGNER.sign(digest)

    room, turns = Room(signer=Remote()), 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.005)

    ticking = asyncio.create_task(turn())
    report = await signed(room)
    ticking.cancel()
    assert turns >= 4
    assert recover_reporter(DOMAIN, report.signed) == SIGNER.address


async def test_a_quote_far_from_the_answer_that_a_job_has_read_is_refused_by_the_next() -> None:
    """The magnitude check: nobody samples here, so only the job itself can have learnt the standing answer."""
    room = Room(chain=FakeChain(MAJORS, standing={Pair("BTC/USD"): 7_000_000_000_000}, last_moment=NOW - 5_000))
    desk = await room.desk()
    assert isinstance(await desk.answer(job()), Report)
    # of two quotes one lies, and only the last answer tells which
    room.pool.answers |= {("b", "BTC/USD"): "75000", ("c", "BTC/USD"): FailureCode.TIMEOUT}
    room.clock.advance(100)
    await desk.answer(job(NOW + 100))
    found = {each.source: each.code for each in room.seen[-1][1].failures if each.pair == "BTC/USD"}
    assert found == {"b": FailureCode.JUMP, "c": FailureCode.TIMEOUT}
