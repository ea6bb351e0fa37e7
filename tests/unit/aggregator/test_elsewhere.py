"""One aggregator of several over one store: an open attempt of another serves, is waited for, or is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from aggregator.attempts import AttemptRecord, Cause, FailureReason, new_attempt_id
from aggregator.metrics import Metrics
from aggregator.peers import Peers
from aggregator.recorder import Recorder
from aggregator.schedule import Heartbeat
from aggregator.states import State
from contracts.errors import OutOfFundsError
from contracts.readings import Receipt
from core.clock import SystemClock
from core.logs import get_logger
from core.types import Mode
from tests.support.aggregator import DEPLOYMENT, FakeChain, MemoryStore, group, metrics
from tests.support.wait import until
from tests.unit.aggregator.test_engine import world

LOG = get_logger("aggregator", Mode.TEST)


def theirs(**changes: object) -> AttemptRecord:
    now = SystemClock().now_ms()
    plain = AttemptRecord(
        id=new_attempt_id(),
        deployment=DEPLOYMENT.id,
        mode=Mode.TEST,
        group="majors",
        cause=Cause.REQUEST,
        state=State.COLLECTING,
        started_ms=now,
        moment=now - now % 10,
        relayer="0xb0b",
        onto_round=0,
    )
    return msgspec.structs.replace(plain, **changes)


def accepted(one: AttemptRecord) -> AttemptRecord:
    now = SystemClock().now_ms()
    return msgspec.structs.replace(one, state=State.ACCEPTED, round=1, ended_ms=now + 50, transaction="0xaa")


async def test_those_who_wait_are_served_by_an_attempt_that_another_has_open() -> None:
    async with world() as w:
        open_ = theirs()
        w.store.rows[open_.id] = open_
        waiting = asyncio.gather(*(w.http.post("/v1/groups/majors/refresh") for _ in range(10)))
        await asyncio.sleep(0.1)
        w.store.rows[open_.id] = accepted(open_)
        answers = await waiting
        assert {(one.status_code, one.json()["id"], one.json()["round"]) for one in answers} == {(200, open_.id, 1)}
        assert w.chain.submitted == []
        assert all(reporter.jobs == [] for reporter in w.reporters)
        assert set(w.store.rows) == {open_.id}


async def test_one_that_fails_is_followed_by_an_attempt_of_ones_own() -> None:
    async with world() as w:
        open_ = theirs()
        w.store.rows[open_.id] = open_
        waiting = asyncio.create_task(w.attempt())
        await asyncio.sleep(0.1)
        w.store.rows[open_.id] = open_.failed(FailureReason.NO_QUORUM, "", SystemClock().now_ms())
        record = await waiting
        assert (record.state, record.round) == (State.ACCEPTED, 1)
        assert record.id != open_.id


async def test_one_whose_moment_is_too_old_for_the_request_is_waited_for_and_not_taken() -> None:
    async with world() as w:
        old = theirs(moment=SystemClock().now_ms() - 1_500)
        w.store.rows[old.id] = old
        waiting = asyncio.create_task(w.attempt())
        await asyncio.sleep(0.1)
        w.store.rows[old.id] = accepted(old)
        record = await waiting
        assert record.state is State.ACCEPTED
        assert record.id != old.id


async def test_who_has_only_just_asked_is_served_by_an_attempt_that_ends_before_he_can_claim() -> None:
    async with world() as w:
        desk = w.service.desks["majors"]
        arrived = SystemClock().now_ms() + 500  # so that it has only just come, however long the claim takes
        running = desk.request(arrived, Cause.REQUEST)
        w.store.rows["theirs"] = ended = msgspec.structs.replace(accepted(theirs(id="theirs")), ended_ms=arrived + 1)
        assert await desk.wait(running, 5) == ended
        assert w.chain.submitted == []


async def test_an_attempt_that_a_client_knows_and_another_serves_ends_in_the_record() -> None:
    async with world() as w:
        open_ = theirs()
        w.store.rows[open_.id] = open_
        told = (await w.http.post("/v1/groups/majors/refresh", params={"wait_ms": 0})).json()
        assert w.store.rows[told["id"]].state is State.QUEUED
        w.store.rows[open_.id] = accepted(open_)
        desk = w.service.desks["majors"]
        await until(lambda: desk.open is None)
        ended = (await w.http.get(f"/v1/attempts/{told['id']}")).json()
        assert (ended["state"], ended["code"]) == ("failed", "joined")
        assert open_.id in ended["detail"]


async def test_what_another_has_closed_is_not_sent() -> None:
    """It was stopped for so long that the others took it for dead: its record has ended, and so has it."""
    async with world() as w:

        def closed(record: AttemptRecord) -> None:
            if record.state is State.SUBMITTING:
                w.store.rows[record.id] = record.failed(FailureReason.RETIRED, "", 1)

        w.service.engines["majors"]._on_state = closed
        record = await w.attempt()
        assert (record.state, record.code) == (State.FAILED, "retired")
        assert w.chain.receipts == {}


async def test_a_leader_that_cannot_make_attempts_lets_another_lead() -> None:
    async with world() as w:
        stepped_down: list[str] = []
        engine, desk = w.service.engines["majors"], w.service.desks["majors"]
        beat = Heartbeat(engine, desk, SystemClock(), 300, lambda: 0.5, LOG, step_down=stepped_down.append)
        assert await beat.beat() == 0
        w.chain.answers.clear()
        for reporter in w.reporters:
            reporter.refuses = "no_prices"
        await beat.beat()
        assert stepped_down == []  # nobody else would have a quorum
        for reporter in w.reporters[:2]:  # one of whom is honest
            reporter.refuses = "moment_too_far"
        await beat.beat()
        assert stepped_down == ["majors"]
        w.reporters[0].refuses = "no_prices"
        await beat.beat()
        assert stepped_down == ["majors"]  # one alone may lie
        stepped_down.clear()
        w.bus.broken = True
        assert await beat.beat() <= 4_000
        assert stepped_down == ["majors"]
        w.bus.broken = False


async def test_a_leader_whose_key_has_run_dry_lets_another_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    async def dry(*_: object, **__: object) -> None:
        raise OutOfFundsError("the key has nothing left")

    async with world() as w:
        monkeypatch.setattr(w.chain, "place", dry)
        stepped_down: list[str] = []
        engine, desk = w.service.engines["majors"], w.service.desks["majors"]
        beat = Heartbeat(engine, desk, SystemClock(), 300, lambda: 0.5, LOG, step_down=stepped_down.append)
        await beat.beat()
        assert (desk.engine.known.round, stepped_down) == (0, ["majors"])  # type: ignore[union-attr]


class Closing:
    """What is asked of a chain and a store to close another's attempt."""

    def __init__(self, record: AttemptRecord, held: Callable[[str], Awaitable[bool]], longest_ms: int = 60_000) -> None:
        self.chain = FakeChain(group())
        self.store = MemoryStore({record.id: record})
        self.record = record
        own: Metrics = metrics()
        recorder = Recorder(self.store, DEPLOYMENT.id, own, LOG)
        self.peers = Peers(
            self.chain,
            recorder,
            held=held,
            word=self.store.changed,
            longest_ms=longest_ms,
            clock=SystemClock(),
            logger=LOG,
        )

    async def ended(self) -> AttemptRecord:
        found = await self.peers.ended(self.record)
        assert self.store.rows[self.record.id] == found
        return found


async def gone(_address: str) -> bool:
    return False


async def alive(_address: str) -> bool:
    return True


async def test_an_attempt_of_a_process_that_is_gone_is_closed() -> None:
    found = await Closing(theirs(), gone).ended()
    assert (found.state, found.code) == (State.FAILED, "retired")


async def test_one_that_lasts_longer_than_any_can_is_closed_though_its_process_lives() -> None:
    began = SystemClock().now_ms() - 61_000
    late = theirs(started_ms=began, moment=began)
    found = await Closing(late, alive).ended()
    assert (found.state, found.code) == (State.FAILED, "retired")


async def test_one_of_a_living_process_is_waited_for() -> None:
    closing = Closing(theirs(), alive)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await closing.ended()
    assert closing.store.rows[closing.record.id].state is State.COLLECTING


async def test_one_that_waited_long_for_its_claim_is_not_closed_for_that() -> None:
    closing = Closing(theirs(started_ms=SystemClock().now_ms() - 61_000), alive)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await closing.ended()
    assert closing.store.rows[closing.record.id].state is State.COLLECTING


async def test_one_whose_transaction_is_in_a_block_is_finished() -> None:
    sent = theirs(state=State.SUBMITTING, transactions=("0xaa",), transaction="0xaa", onto_round=6)
    closing = Closing(sent, gone)
    closing.chain.receipts["0xaa"] = Receipt("0xaa", 9, "0xdd", 5, True)
    found = await closing.ended()
    assert (found.state, found.round, found.block, found.code) == (State.ACCEPTED, 7, 9, None)


async def test_one_whose_transaction_waits_in_a_pool_is_waited_for_until_no_attempt_would_last_so_long() -> None:
    sent = theirs(state=State.SUBMITTING, transactions=("0xaa",), onto_round=6)
    closing = Closing(sent, gone, longest_ms=300)
    found = await closing.ended()
    assert (found.state, found.code) == (State.FAILED, "not_confirmed")
    assert SystemClock().now_ms() - sent.started_ms > 300


async def test_what_its_process_sends_before_it_dies_is_not_lost_to_who_looked_earlier() -> None:
    open_ = theirs(onto_round=6)

    async def sends_and_dies(_address: str) -> bool:
        noted = msgspec.structs.replace(open_, state=State.SUBMITTING, transactions=("0xaa",), transaction="0xaa")
        if not closing.store.rows[open_.id].state.final:
            await closing.store.note(noted, "0x02aa")
        return False

    closing = Closing(open_, sends_and_dies)
    closing.chain.receipts["0xaa"] = Receipt("0xaa", 9, "0xdd", 5, True)
    found = await closing.ended()
    assert (found.state, found.round, found.transactions) == (State.ACCEPTED, 7, ("0xaa",))


async def test_what_waited_or_was_open_where_nobody_lives_any_more_is_ended_by_whoever_does() -> None:
    long_ago = SystemClock().now_ms() - 61_000
    waiting = theirs(state=State.QUEUED, started_ms=long_ago, moment=0)
    closing = Closing(waiting, gone)
    left = theirs(id="open", group="others", started_ms=long_ago, moment=long_ago)
    mined = theirs(id="sent", started_ms=long_ago, moment=long_ago, state=State.SUBMITTING, transactions=("0xaa",))
    young = theirs(id="young", state=State.QUEUED, moment=0)
    closing.store.rows |= {one.id: one for one in (left, mined, young)}
    closing.chain.receipts["0xaa"] = Receipt("0xaa", 9, "0xdd", 5, True)
    await closing.peers.sweep()
    assert all(not one.state.final for one in closing.store.rows.values())  # its lock may only just be gone
    await closing.peers.sweep()
    found = {one.id: (one.state, one.code, one.round) for one in closing.store.rows.values()}
    assert found == {
        waiting.id: (State.FAILED, "retired", None),
        "open": (State.FAILED, "retired", None),
        "sent": (State.ACCEPTED, None, 1),
        "young": (State.QUEUED, None, None),
    }


async def test_nothing_of_a_living_aggregator_is_swept_away_nor_of_one_that_lost_its_lock_for_a_moment() -> None:
    held = iter([True, False, True, False, True])

    async def flickers(_address: str) -> bool:
        return next(held)

    waiting = theirs(state=State.QUEUED, started_ms=SystemClock().now_ms() - 61_000, moment=0)
    closing = Closing(waiting, flickers)
    for _ in range(5):
        await closing.peers.sweep()
    assert closing.store.rows[waiting.id] == waiting
