"""An attempt from job to answer, over the in-process bus, reporters and a chain at the edge: each way it can end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from aggregator.attempts import MAX_RECORD_BYTES, AttemptRecord, Cause, Verdict
from aggregator.errors import StoppingError
from aggregator.running import joins
from aggregator.schedule import Heartbeat
from aggregator.service import AggregatorService
from aggregator.states import State
from broker.bus import Topic
from broker.errors import BrokerUnavailableError
from broker.memory import MemoryBus
from broker.messages import Hint, Message, Refusal, Report
from contracts.readings import GroupReading
from contracts.report import recover_reporter
from core import codec
from core.clock import SystemClock
from core.logs import get_logger
from core.ops import Ops
from core.settings import AggregatorSettings
from core.types import Mode, Quote, SignedReport
from tests.support.aggregator import (
    BTC,
    DEPLOYMENT,
    DOMAIN,
    ETH,
    SIGNERS,
    STRANGER,
    FakeChain,
    MemoryStore,
    Reporter,
    group,
    hint_signature,
    refusal,
    report,
)
from tests.support.wait import until

GROUP = group(heartbeat_ms=60_000)
PRICES = {BTC: "60000", ETH: "3000"}
TOKEN = {"authorization": "Bearer word"}


class BrokenBus(MemoryBus):
    """A bus that can lose its broker."""

    broken = False

    async def publish(self, topic: Topic, message: Message, *, ttl_ms: int | None = None) -> None:
        if self.broken:
            raise BrokerUnavailableError("no broker")
        await super().publish(topic, message, ttl_ms=ttl_ms)


@dataclass
class World:
    """An aggregator with everything around it."""

    chain: FakeChain
    store: MemoryStore
    bus: BrokenBus
    reporters: list[Reporter]
    service: AggregatorService
    http: httpx.AsyncClient
    ops: Ops
    records: list[AttemptRecord] = field(default_factory=list)

    async def attempt(self, cause: Cause = Cause.REQUEST) -> AttemptRecord:
        desk = self.service.desks["majors"]
        running = desk.request(SystemClock().now_ms(), cause)
        return await desk.wait(running, 30)


@asynccontextmanager
async def world(
    change: Callable[[Sequence[Reporter]], None] = lambda _: None,
    *,
    store: MemoryStore | None = None,
    of: object = GROUP,
    **settings: object,
) -> AsyncIterator[World]:
    chain = FakeChain(GROUP)
    bus = BrokenBus()
    await bus.start()
    reporters = [Reporter(f"fetcher-{i}", SIGNERS[i], chain, PRICES) for i in range(4)]
    change(reporters)
    store = store or MemoryStore()
    ops = Ops("aggregator", Mode.TEST)
    plain = {"deadline_ms": 1_000, "grace_ms": 30, "heartbeats": False, "min_interval_ms": 0}
    service = AggregatorService(
        settings=AggregatorSettings(**{**plain, **settings}),  # type: ignore[arg-type]
        name="aggregator",
        instance="1",
        groups=[of],  # type: ignore[list-item]
        bus=bus,
        chain=chain,
        submit_key="77" * 32,
        store=store,
        token="word",
        clock=SystemClock(),
        mode=Mode.TEST,
        ops=ops,
        logger=get_logger("aggregator", Mode.TEST),
    )
    for reporter in reporters:
        await reporter.listen(bus, GROUP)
    task = asyncio.create_task(service.run())
    try:
        if not store.fails:
            await until(lambda: ops.ready)
        async with client(service.app) as http:
            yield World(chain, store, bus, reporters, service, http, ops)
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await bus.close()


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://aggregator", headers=TOKEN)


async def test_an_accepted_attempt_has_its_round_its_answers_and_its_whole_evidence() -> None:
    async with world() as w:
        record = await w.attempt()
        assert (record.state, record.code, record.round, record.cause) == (State.ACCEPTED, None, 1, Cause.REQUEST)
        assert {pair: answer.price for pair, answer in record.answers.items()} == {
            BTC: Decimal("60000.00000000"),
            ETH: Decimal("3000.00000000"),
        }
        assert [one.verdict for one in record.reports] == [Verdict.INCLUDED] * 4
        assert {one.signer for one in record.reports} == {signer.address.lower() for signer in SIGNERS[:4]}
        assert record.transaction is not None
        assert (record.gas_used, record.previous_moment) == (210_000, 0)
        assert set(record.timings_ms) == {
            "claim", "collect", "confirm", "note", "publish", "read_back", "simulate", "state", "submit", "total",
            "validate",
        }  # fmt: skip
        await until(lambda: w.store.rows[record.id] == record)


async def test_rounds_follow_one_another_at_rising_moments() -> None:
    async with world() as w:
        records = [await w.attempt() for _ in range(3)]
        assert [record.round for record in records] == [1, 2, 3]
        assert records[0].moment < records[1].moment < records[2].moment
        assert [record.previous_moment for record in records] == [0, records[0].moment, records[1].moment]
        assert all(record.moment % GROUP.grid_ms == 0 for record in records)


async def test_one_dead_fetcher_costs_a_grace_and_one_liar_costs_nothing() -> None:
    def change(reporters: Sequence[Reporter]) -> None:
        reporters[0].silent = True
        reporters[1].prices = {BTC: "1000000", ETH: "1"}

    async with world(change) as w:
        record = await w.attempt()
        assert record.state is State.ACCEPTED
        assert record.answers[BTC].price == Decimal(60_000)
        assert record.answers[ETH].price == Decimal(3_000)
        assert record.timings_ms["total"] < 1_000
        assert record.silent == (SIGNERS[0].address.lower(),)
        liar = next(one for one in record.reports if one.fetcher == "fetcher-1")
        assert liar.warnings == {BTC: "outlier", ETH: "outlier"}


async def test_below_quorum_nothing_is_submitted_and_the_refusals_are_recorded() -> None:
    def change(reporters: Sequence[Reporter]) -> None:
        reporters[0].silent = True
        reporters[1].refuses = "no_prices"

    async with world(change) as w:
        record = await w.attempt()
        assert (record.state, record.code) == (State.FAILED, "no_quorum")
        assert record.detail == "2 valid reports, 3 are needed (refused: no_prices)"
        assert record.silent == (SIGNERS[0].address.lower(),)  # and not SIGNERS[1], who refused
        assert [(one.fetcher, one.code) for one in record.refusals] == [("fetcher-1", "no_prices")]
        assert w.chain.submitted == []
        assert record.timings_ms["total"] >= 1_000


async def test_a_feed_that_too_few_report_is_left_alone() -> None:
    def change(reporters: Sequence[Reporter]) -> None:
        for reporter in reporters[:2]:
            reporter.prices = {BTC: "60000"}

    async with world(change) as w:
        record = await w.attempt()
        assert record.state is State.ACCEPTED
        assert record.feeds_without_answer == {ETH: "2 contributors, 3 are needed"}
        assert set(record.answers) == {BTC}


async def test_equivocation_is_rejected_recorded_and_harmless() -> None:
    def twice(first: Report) -> list[Report]:
        of = first.signed
        other = report(
            SIGNERS[0], (1, 1), GROUP, moment=of.moment, previous_moment=of.previous_moment, attempt=first.attempt
        )
        return [first, other, first]

    def change(reporters: Sequence[Reporter]) -> None:
        reporters[0].twist = twice
        reporters[3].delay_s = 0.01

    async with world(change) as w:
        record = await w.attempt()
        assert record.state is State.ACCEPTED
        mine = [one for one in record.reports if one.signer == SIGNERS[0].address.lower()]
        assert [(one.verdict, one.code) for one in mine] == [(Verdict.REJECTED, "equivocation")] * 2
        [proof] = (await w.http.get("/v1/equivocations", headers=TOKEN)).json()
        assert (proof["signer"], proof["attempt"], proof["round"]) == (mine[0].signer, record.id, 1)
        both = [codec.convert(proof[which], SignedReport) for which in ("first", "second")]
        assert both == [one.signed for one in mine]
        assert {recover_reporter(DOMAIN, one) for one in both} == {SIGNERS[0].address}
        counted = {"group": "majors", "reporter": mine[0].signer or ""}
        assert w.ops.registry.get_sample_value("fairmark_aggregator_equivocations_total", counted) == 1


async def test_a_report_that_comes_late_is_appended_to_the_record() -> None:
    def change(reporters: Sequence[Reporter]) -> None:
        reporters[3].delay_s = 0.15

    async with world(change) as w:
        record = await w.attempt()
        assert (record.state, len(record.reports)) == (State.ACCEPTED, 3)
        await until(lambda: len(w.store.rows[record.id].reports) == 4)
        assert record.silent == (SIGNERS[3].address.lower(),)
        assert w.store.rows[record.id].silent == ()
        late = w.store.rows[record.id].reports[3]
        assert (late.verdict, late.code, late.fetcher) == (Verdict.LEFT_OUT, "late", "fetcher-3")


async def test_strangers_leave_no_trace_but_their_reports_and_none_when_they_are_late() -> None:
    def forge(first: Report) -> list[Report]:
        of = first.signed
        forged = report(
            STRANGER, (1, 1), GROUP, moment=of.moment, previous_moment=of.previous_moment, attempt=first.attempt
        )
        return [forged, first]

    async with world(lambda reporters: setattr(reporters[0], "twist", forge)) as w:
        record = await w.attempt()
        assert record.state is State.ACCEPTED
        strange = [one for one in record.reports if one.code == "not_a_member"]
        assert [(one.verdict, one.answers) for one in strange] == [(Verdict.REJECTED, {})]
        await w.bus.publish(Topic.REPORTS, report(STRANGER, (2, 2), GROUP, attempt=record.id))
        await asyncio.sleep(0.02)
        assert await w.service.recorder.get(record.id) == record


async def test_old_reports_sent_again_with_other_evidence_do_not_get_into_a_later_record() -> None:
    sent: list[Report] = []

    async def overhear(message: Message) -> None:
        assert isinstance(message, Report)
        sent.append(message)

    def change(reporters: Sequence[Reporter]) -> None:
        reporters[3].silent = True

    async with world(change) as w:
        await w.bus.subscribe(Topic.REPORTS, "overhearing", overhear)
        await w.attempt()
        old = list(sent)
        assert len(old) == 3
        record = await w.attempt()
        forged = Quote(pair=BTC, source="forged", price=Decimal(1), received_ms=1)
        for one in old:
            await w.bus.publish(Topic.REPORTS, msgspec.structs.replace(one, attempt=record.id, quotes=(forged,)))
        missing = report(
            SIGNERS[3],
            (1, 1),
            GROUP,
            moment=record.moment,
            group_hash="0x" + "77" * 32,  # of another version of the group
            attempt=record.id,
        )
        await w.bus.publish(Topic.REPORTS, missing)
        text = ""
        for _ in range(100):
            text = (await w.http.get("/metrics")).text
            if 'strays_total{what="stranger"} 4.0' in text:
                break
            await asyncio.sleep(0.01)
        assert 'fairmark_aggregator_strays_total{what="stranger"} 4.0' in text
        kept = await w.service.recorder.get(record.id)
        assert kept is not None
        assert [one.signed.moment for one in kept.reports] == [record.moment] * 3
        assert all(one.quotes == () for one in kept.reports)


async def test_an_old_report_among_the_new_is_recorded_without_its_evidence() -> None:
    def again(first: Report) -> list[Report]:
        of = first.signed
        old = report(SIGNERS[0], (1, 1), GROUP, moment=of.moment - 10, attempt=first.attempt)
        forged = Quote(pair=BTC, source="forged", price=Decimal(1), received_ms=1)
        return [msgspec.structs.replace(old, quotes=(forged,)), first]

    async with world(lambda reporters: setattr(reporters[0], "twist", again)) as w:
        record = await w.attempt()
        replayed = [one for one in record.reports if one.code == "wrong_moment"]
        assert [(one.answers, one.quotes) for one in replayed] == [({}, ())]


async def test_a_flood_of_large_refusals_leaves_a_record_of_bounded_size() -> None:
    def flood(first: Report) -> list[Report | Refusal]:
        quotes = (Quote(pair=BTC, source="s" * 950_000, price=Decimal(1), received_ms=1),)
        names = [signer.address for signer in SIGNERS[:4]] * 8
        return [
            *(
                msgspec.structs.replace(refusal(name, first.attempt, f"x-{number}"), quotes=quotes)
                for number, name in enumerate(names)
            ),
            first,
        ]

    async with world(lambda reporters: setattr(reporters[0], "twist", flood), deadline_ms=2_000) as w:
        record = await w.attempt()
        assert record.state is State.ACCEPTED
        assert len(record.refusals) == 32
        assert len(codec.encode(record)) <= MAX_RECORD_BYTES


async def test_a_node_that_shows_an_older_round_is_not_taken_for_a_reading_back() -> None:
    async with world() as w:
        await w.attempt()
        before = await w.chain.read_group("majors")

        async def behind(_group: str) -> GroupReading:
            return before

        w.chain.read_group = behind  # type: ignore[method-assign]
        record = await w.attempt()
        assert (record.state, record.round) == (State.ACCEPTED, 2)
        assert record.detail == "accepted, but not read back: the node still shows round 1"


async def test_stopping_ends_a_queued_attempt_too() -> None:
    async with world(lambda reporters: [setattr(r, "delay_s", 0.2) for r in reporters]) as w:  # type: ignore[func-returns-value]
        desk = w.service.desks["majors"]
        now = SystemClock().now_ms()
        first = desk.request(now, Cause.REQUEST)
        await until(lambda: first.record.moment)
        queued = desk.request(now + 5_000, Cause.REQUEST)
        assert queued is not first
    assert (first.record.state, queued.record.state, queued.record.code) == (State.ACCEPTED, State.FAILED, "stopped")
    assert w.store.rows[queued.id].code == "stopped"
    with pytest.raises(StoppingError):
        desk.request(now, Cause.REQUEST)


async def test_the_heartbeat_backs_off_while_it_fails_and_recovers() -> None:
    async with world() as w:  # the service's own heart is still: this one beats when it is told
        engine, desk = w.service.engines["majors"], w.service.desks["majors"]
        beat = Heartbeat(engine, desk, SystemClock(), 1_000, random.random, get_logger("aggregator", Mode.TEST))
        assert await beat.beat() == 0
        assert w.chain.round == 1
        assert 0 < await beat.beat() <= 5_000
        w.chain.answers.clear()
        for reporter in w.reporters:
            reporter.refuses = "no_prices"
        waits = [await beat.beat() for _ in range(3)]
        assert 500 <= waits[0] <= 1_000 <= waits[1] <= 2_000
        assert 1_000 <= waits[2] <= 2_000
        for reporter in w.reporters:
            reporter.refuses = None
        assert await beat.beat() == 0
        assert 0 < await beat.beat() <= 5_000


async def test_reporters_that_saw_another_round_are_believed_after_another_look() -> None:
    async with world() as w:
        await w.attempt()
        moved = iter([w.chain.last_moment + 3, *[w.chain.last_moment + 3] * 50])
        stale = w.chain.last_moment
        looks = 0

        def on_state() -> None:
            nonlocal looks
            looks += 1
            w.chain.last_moment = stale if looks == 1 else next(moved)  # our node is behind at first

        w.chain.on_state = on_state
        record = await w.attempt()
        assert record.state is State.ACCEPTED
        assert record.previous_moment == stale + 3


@pytest.mark.parametrize(
    ("trouble", "code", "detail"),
    [
        (lambda w: setattr(w.chain, "down", True), "chain_unavailable", "refuses the connection"),
        (lambda w: setattr(w.chain, "paused", True), "halted", "paused"),
        (lambda w: setattr(w.chain, "refuses", "StaleMoment"), "round_refused", "StaleMoment"),
        (lambda w: setattr(w.chain, "reverts", True), "submission_failed", "reverted"),
        (lambda w: setattr(w.bus, "broken", True), "broker_unavailable", "no broker"),
        (lambda w: setattr(w.store, "fails", True), "store_unavailable", "the disk is gone"),
        (lambda w: setattr(w.chain, "build_submission", None), "internal", "not callable"),
    ],
)
async def test_every_failure_has_its_code_and_its_record(
    trouble: Callable[[World], None], code: str, detail: str
) -> None:
    async with world() as w:
        trouble(w)
        record = await w.attempt()
        assert (record.state, record.code) == (State.FAILED, code)
        assert detail in record.detail
        assert record.ended_ms is not None
        shown = await w.http.get(f"/v1/attempts/{record.id}")
        assert (shown.status_code, shown.json()["code"]) == (200, code)
        w.store.fails = False
        await until(lambda: w.store.rows.get(record.id) is not None and w.store.rows[record.id].code == code)


async def test_nobody_listening_is_unroutable() -> None:
    async with world(lambda reporters: reporters.clear()) as w:  # type: ignore[attr-defined]
        assert (await w.attempt()).code == "unroutable"


async def test_a_group_configured_otherwise_than_on_chain_fails_before_any_job() -> None:
    async with world(of=group(BTC)) as w:
        record = await w.attempt()
        assert record.code == "configuration_mismatch"
        assert all(reporter.jobs == [] for reporter in w.reporters)


async def test_a_moment_that_another_aggregator_has_is_left_to_it() -> None:
    async with world() as w:
        now = SystemClock().now_ms()
        first = w.service.engines["majors"].prepare(Cause.REQUEST).record
        for moment in range(now - now % 10, now + 20_000, 10):
            theirs = msgspec.structs.replace(first, id=f"{moment}", state=State.FAILED, moment=moment, relayer="0xb0b")
            w.store.rows[theirs.id] = theirs
        record = await w.attempt()
        assert (record.code, record.moment) == ("already_claimed", 0)


async def test_five_hundred_requests_at_once_make_one_attempt() -> None:
    async with world(lambda reporters: setattr(reporters[0], "delay_s", 0.05)) as w:
        answers = await asyncio.gather(*(w.http.post("/v1/groups/majors/refresh") for _ in range(500)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert answers[0].json()["state"] == "accepted"
        assert len(w.chain.submitted) == 1


async def test_requests_too_late_for_the_open_attempt_share_the_next_one() -> None:
    async with world(lambda reporters: [r.free.clear() for r in reporters], deadline_ms=10_000) as w:  # type: ignore[func-returns-value]
        first = asyncio.create_task(w.attempt())
        await asyncio.sleep(1.05)
        second, third = asyncio.create_task(w.attempt()), asyncio.create_task(w.attempt())
        await asyncio.sleep(0.01)
        for reporter in w.reporters:
            reporter.free.set()
        records = await asyncio.gather(first, second, third)
        assert records[1].id == records[2].id != records[0].id
        assert [record.round for record in records] == [1, 2, 2]


async def test_requests_within_the_interval_share_the_attempt_at_its_end() -> None:
    async with world(min_interval_ms=200) as w:
        loop = asyncio.get_running_loop()
        started = loop.time()
        first = await w.attempt()
        assert loop.time() - started < 0.15
        desk, now = w.service.desks["majors"], SystemClock().now_ms()
        running = [desk.request(now + 1, Cause.REQUEST) for _ in range(3)]
        assert len({one.id for one in running} - {first.id}) == 1
        assert desk.open is None
        shown = await w.http.get(f"/v1/attempts/{running[0].id}")
        assert shown.json()["state"] == "queued"
        record = await desk.wait(running[0], 5)
        assert loop.time() - started >= 0.2
        assert (record.round, record.started_ms - first.started_ms >= 199) == (2, True)
        text = (await w.http.get("/metrics")).text
        assert 'fairmark_aggregator_requests_total{group="majors",how="queued"} 3.0' in text


async def test_one_client_in_a_loop_makes_no_more_rounds_than_the_interval_allows() -> None:
    async with world(min_interval_ms=100) as w:
        loop = asyncio.get_running_loop()
        ends = loop.time() + 0.55
        while loop.time() < ends:
            await w.attempt()
        assert 3 <= len(w.chain.submitted) <= 7


async def test_a_request_that_does_not_wait_for_the_interval_gets_the_queued_attempt() -> None:
    async with world(min_interval_ms=60_000) as w:
        await w.attempt()
        answer = await w.http.post("/v1/groups/majors/refresh", params={"wait_ms": 20})
        assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert w.store.rows[answer.json()["id"]].code == "stopped"


@pytest.mark.parametrize("cause", [Cause.HEARTBEAT, Cause.DEVIATION, Cause.START])
async def test_what_starts_by_itself_does_not_wait_and_takes_the_waiting_requests_with_it(cause: Cause) -> None:
    async with world(min_interval_ms=60_000) as w:
        await w.attempt()
        asked = asyncio.create_task(w.attempt())
        await asyncio.sleep(0.02)
        async with asyncio.timeout(2):
            record = await w.attempt(cause)
            assert (await asked).id == record.id
        assert record.round == 2


async def test_an_attempt_queued_behind_an_open_one_keeps_the_interval_too() -> None:
    async with world(lambda rs: [setattr(r, "delay_s", 0.05) for r in rs], min_interval_ms=250) as w:  # type: ignore[func-returns-value]
        desk = w.service.desks["majors"]
        first = desk.request(SystemClock().now_ms(), Cause.REQUEST)
        await until(lambda: first.record.moment)
        queued = desk.request(first.record.moment + 2_000, Cause.REQUEST)
        await desk.wait(first, 5)
        record = await desk.wait(queued, 5)
        assert record.started_ms - first.record.started_ms >= 249


async def test_a_request_that_was_long_on_its_way_is_served_by_the_attempt_that_was_open_when_it_arrived() -> None:
    async with world() as w:
        record = await w.attempt()
        assert record.ended_ms is not None
        assert joins(record, record.ended_ms - 1)
        assert not joins(record, record.ended_ms)
        assert not joins(record, record.moment + 1_001)
        same = await w.http.post("/v1/groups/majors/refresh", params={"arrived_ms": record.moment})
        assert same.json()["id"] == record.id
        await asyncio.sleep(0.005)
        new = await w.http.post("/v1/groups/majors/refresh")
        assert new.json()["id"] != record.id


async def test_a_request_that_cannot_wait_gets_the_attempts_id() -> None:
    async with world(lambda reporters: [setattr(r, "delay_s", 0.1) for r in reporters]) as w:  # type: ignore[func-returns-value]
        answer = await w.http.post("/v1/groups/majors/refresh", params={"wait_ms": 20})
        assert answer.status_code == 202
        attempt = answer.json()["id"]
        open_record = await w.http.get(f"/v1/attempts/{attempt}")
        assert open_record.json()["state"] == "collecting"
        await until(lambda: w.chain.round == 1)
        await until(lambda: attempt in w.store.rows and w.store.rows[attempt].state is State.ACCEPTED)
        by_round = await w.http.get("/v1/groups/majors/rounds/1")
        assert by_round.json()["id"] == attempt
        assert by_round.json()["answers"]["BTC/USD"]["price"] == "60000.00000000"
        assert (await w.http.get("/v1/groups/majors/attempts")).json()[0]["id"] == attempt
        groups = (await w.http.get("/v1/groups")).json()
        assert (groups[0]["group"], groups[0]["round"], groups[0]["reporters"]) == ("majors", 1, 4)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1/groups/minors/refresh", 404, "unknown_group"),
        ("POST", "/v1/groups/NO/refresh", 422, "invalid_request"),
        ("POST", "/v1/groups/majors/refresh?wait_ms=x", 422, "invalid_request"),
        ("GET", "/v1/attempts/" + "0" * 32, 404, "unknown_attempt"),
        ("GET", "/v1/attempts/1", 422, "invalid_request"),
        ("GET", "/v1/groups/majors/rounds/7", 404, "unknown_round"),
        ("GET", "/v1/groups/majors/rounds/0", 422, "invalid_request"),
        ("GET", "/v1/nothing", 404, "not_found"),
    ],
)
async def test_every_error_is_a_problem_document(method: str, path: str, status: int, code: str) -> None:
    async with world() as w:
        answer = await w.http.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["content-type"] == "application/problem+json"
        anonymous = await w.http.request(method, path, headers={"authorization": "Bearer guess"})
        assert anonymous.status_code == (404 if code == "not_found" else 401)


async def test_without_an_answer_the_heartbeat_starts_the_first_round_and_then_rests() -> None:
    async with world(heartbeats=True) as w:
        await until(lambda: w.chain.round == 1)
        await until(lambda: len(w.store.rows) == 1 and next(iter(w.store.rows.values())).ended_ms is not None)
        assert next(iter(w.store.rows.values())).cause is Cause.START
        await asyncio.sleep(0.1)
        assert w.chain.round == 1


async def test_hints_of_f_plus_one_members_start_an_attempt() -> None:
    async with world(heartbeats=True) as w:
        await until(lambda: w.chain.round == 1)
        desk = w.service.desks["majors"]
        await until(lambda: desk.open is None and desk.engine.known.last_moment == w.chain.last_moment)
        last, price = w.chain.last_moment, 6_100_000_000_000
        await asyncio.sleep(0.02)
        now = SystemClock().now_ms()
        for index in (0, 0, 1):
            await w.bus.publish(
                Topic.HINTS,
                Hint(
                    id=f"hint-{index}",
                    deployment=DEPLOYMENT.id,
                    mode=Mode.TEST,
                    group="majors",
                    pair=BTC,
                    price=price,
                    moment=now,
                    previous_moment=last,
                    reporter=SIGNERS[index].address,
                    signature=hint_signature(SIGNERS[index], BTC, price, now, last),
                ),
            )
        await until(lambda: w.chain.round == 2)
        await until(lambda: any(row.cause is Cause.DEVIATION for row in w.store.rows.values()))


async def test_the_service_waits_for_a_store_that_is_not_there_yet() -> None:
    store = MemoryStore(fails=True)
    async with world(store=store) as w:
        await until(lambda: "the disk is gone" in w.ops.not_ready_because)
        assert (await w.http.get("/ready")).status_code == 503
        refused = await w.http.post("/v1/groups/majors/refresh")  # what was sent before may hold the key's nonce
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        assert "the disk is gone" in refused.json()["detail"]
        store.fails = False
        await until(lambda: w.ops.ready)
        assert (await w.attempt()).state is State.ACCEPTED


async def test_stopping_lets_the_open_attempt_end_and_saves_it() -> None:
    store = MemoryStore()
    async with world(lambda reporters: setattr(reporters[0], "delay_s", 0.1), store=store) as w:
        desk = w.service.desks["majors"]
        running = desk.request(SystemClock().now_ms(), Cause.REQUEST)
        await until(lambda: running.record.state is State.COLLECTING)
    assert store.rows[running.id].state is State.ACCEPTED
    assert not store.opened


async def test_health_names_each_dependency() -> None:
    async with world() as w:
        body = (await w.http.get("/health")).json()
        assert (body["status"], set(body["dependencies"])) == ("up", {"balance", "broker", "chain", "rounds", "store"})
        assert body["dependencies"]["rounds"]["detail"] == "majors: no attempt yet"
        await w.attempt()
        body = (await w.http.get("/health")).json()
        assert body["dependencies"]["rounds"]["detail"] == "majors: round 1, 4 reports"
        w.store.fails = True
        body = (await w.http.get("/health")).json()
        assert (body["status"], body["dependencies"]["store"]["status"]) == ("down", "down")


async def test_a_group_whose_last_attempt_failed_degrades_the_health_until_one_brings_a_round() -> None:
    async with world() as w:
        w.chain.refuses = "StaleMoment"
        await w.attempt()
        health = await w.http.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        rounds = health.json()["dependencies"]["rounds"]
        assert (rounds["status"], rounds["required"]) == ("down", False)
        assert rounds["detail"].startswith("rounds_failing: majors: the last attempt failed: round_refused")
        w.chain.refuses = None
        await w.attempt()
        assert (await w.http.get("/health")).json()["status"] == "up"


async def test_an_accepted_attempt_is_logged_as_information_and_a_failed_one_as_a_warning() -> None:
    def fail(reporters: Sequence[Reporter]) -> None:
        reporters[0].refuses = reporters[1].refuses = "no_prices"

    for change, state, level in ((lambda _: None, "accepted", "info"), (fail, "failed", "warning")):
        with capture_logs() as lines:
            async with world(change) as w:
                record = await w.attempt()
        told = [(line["attempt"], line["state"], line["log_level"]) for line in lines if line["event"] == "attempt"]
        assert told == [(record.id, state, level)]


async def test_the_documentation_needs_no_internet() -> None:
    async with world() as w:
        page = await w.http.get("/docs")
        assert (page.status_code, "https://" in page.text) == (200, False), page.text
        assert (await w.http.get("/static-offline-docs/swagger-ui.css")).status_code == 200


async def test_metrics_tell_what_happened() -> None:
    async with world() as w:
        await w.attempt()
        text = (await w.http.get("/metrics")).text
        assert 'fairmark_aggregator_attempts_total{cause="request",group="majors",outcome="accepted"} 1.0' in text
        assert 'fairmark_aggregator_reports_total{code="",group="majors",verdict="included"} 4.0' in text
        assert 'fairmark_aggregator_answer_age_seconds{feed="BTC/USD"}' in text
