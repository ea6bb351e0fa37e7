"""One job, one answer: in time, the same when asked again, and never an exception."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count

import pytest

from broker import Job, Refusal, Report
from contracts.report import recover_reporter
from core.clock import FixedClock
from core.currency import DOLLARS, ConversionGraph
from core.types import FailureCode, Group, Mode, Pair, SourceFailure
from fetchers.candidates import make_plans
from fetchers.fetch import Fetcher, Observation
from fetchers.jobs import MAX_BUDGET_MS, MAX_JOBS_PER_S, JobDesk
from fetchers.reader import PoolReader
from sources import Reading
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
            signer=SIGNER,
            store=self.store,
            clock=self.clock,
            logger=QUIET,
            new_id=self.new_id,
            saw=lambda name, observation: self.seen.append((name, observation)),
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
        async def fetch(self, source: str, pair: Pair, *, deadline: float) -> Reading | SourceFailure:
            deadlines.append(deadline)
            return await super().fetch(source, pair, deadline=deadline)

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
