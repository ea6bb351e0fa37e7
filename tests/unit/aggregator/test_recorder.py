"""No attempt is lost between its end and the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from aggregator.attempts import AttemptRecord, Cause, ReportRecord, Verdict, new_attempt_id
from aggregator.recorder import MAX_UNSAVED, RECENT, Recorder
from aggregator.states import State
from core.errors import StoreUnavailableError
from core.logs import get_logger
from core.types import Mode
from tests.support.aggregator import SIGNERS, MemoryStore, group, metrics, report
from tests.support.wait import until


def ended(started_ms: int = 1, **changes: object) -> AttemptRecord:
    record = AttemptRecord(
        id=new_attempt_id(),
        deployment="d",
        mode=Mode.TEST,
        group="majors",
        cause=Cause.REQUEST,
        state=State.ACCEPTED,
        started_ms=started_ms,
        moment=started_ms,
        ended_ms=started_ms + 5,
    )
    return msgspec.structs.replace(record, **changes)


def late(number: int) -> ReportRecord:
    one = report(SIGNERS[number], (1, 1), group())
    return ReportRecord(
        verdict=Verdict.LEFT_OUT,
        code="late",
        detail="",
        signer=one.signed.reporter.lower(),
        fetcher=one.fetcher,
        instance="1",
        arrived_ms=900,
        elapsed_ms=1,
        signed=one.signed,
        answers={},
        quotes=(),
        failures=(),
    )


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def recorder(store: MemoryStore) -> AsyncIterator[Recorder]:
    made = Recorder(store, "d", metrics(), get_logger("aggregator", Mode.TEST))
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_is_kept_can_be_read_before_it_is_saved(recorder: Recorder, store: MemoryStore) -> None:
    store.fails = True
    one = ended(round=3)
    recorder.keep(one)
    assert await recorder.get(one.id) == one
    assert await recorder.by_round("majors", 3) == one


async def test_records_wait_for_a_store_that_fails_and_are_saved_when_it_returns(
    recorder: Recorder, store: MemoryStore
) -> None:
    store.fails = True
    records = [ended(moment) for moment in range(1, 6)]
    for one in records:
        recorder.keep(one)
    await asyncio.sleep(0.02)
    with pytest.raises(StoreUnavailableError):
        await recorder.check()
    store.fails = False
    await recorder.flush(3)
    assert store.rows == {one.id: one for one in records}
    assert await recorder.check() == "memory"


async def test_a_late_report_is_saved_with_its_record_once(recorder: Recorder, store: MemoryStore) -> None:
    one = ended()
    recorder.keep(one)
    for number in (0, 1, 1):
        recorder.late(one.id, late(number))
    recorder.late("unknown", late(2))
    await until(lambda: len(store.rows[one.id].reports) == 2 if one.id in store.rows else False)
    assert [r.signed.reporter for r in store.rows[one.id].reports] == [SIGNERS[0].address, SIGNERS[1].address]


class SlowStore(MemoryStore):
    """A store whose saves begin at once, and end when they are let."""

    def __init__(self) -> None:
        super().__init__()
        self.saving = asyncio.Event()
        self.let = asyncio.Event()

    async def save(self, record: AttemptRecord) -> None:
        self.saving.set()
        await self.let.wait()
        await super().save(record)


@pytest.fixture
def slow() -> SlowStore:
    return SlowStore()


@pytest.fixture
async def slow_recorder(slow: SlowStore) -> AsyncIterator[Recorder]:
    made = Recorder(slow, "d", metrics(), get_logger("aggregator", Mode.TEST))
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_report_that_comes_while_its_record_is_being_saved_is_saved_too(
    slow_recorder: Recorder, slow: SlowStore
) -> None:
    one = ended()
    slow_recorder.keep(one)
    await slow.saving.wait()
    slow_recorder.late(one.id, late(0))
    slow.let.set()
    await slow_recorder.flush(3)
    assert [r.signed.reporter for r in slow.rows[one.id].reports] == [SIGNERS[0].address]


async def test_flush_waits_for_the_save_under_way_and_for_all_behind_it(
    slow_recorder: Recorder, slow: SlowStore
) -> None:
    records = [ended(moment) for moment in (1, 2, 3)]
    for one in records:
        slow_recorder.keep(one)
    await slow.saving.wait()
    flushing = asyncio.create_task(slow_recorder.flush(3))
    await asyncio.sleep(0.02)
    assert not flushing.done()
    slow.let.set()
    await flushing
    assert slow.rows == {one.id: one for one in records}


async def test_flush_ends_when_its_time_is_over_and_names_what_is_lost(
    slow_recorder: Recorder, slow: SlowStore, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    one = ended()
    slow_recorder.keep(one)
    async with asyncio.timeout(1):
        await slow_recorder.flush(0.02)
    assert slow.rows == {}
    said = "".join(capsys.readouterr()) + caplog.text  # wherever logs go by now
    assert "attempts_lost" in said
    assert one.id in said


async def test_old_records_are_read_from_the_store(recorder: Recorder, store: MemoryStore) -> None:
    records = [ended(moment, round=moment) for moment in range(1, RECENT + 3)]
    for one in records:
        recorder.keep(one)
    await recorder.flush(3)
    assert recorder.at_hand(records[0].id) is None
    assert await recorder.get(records[0].id) == records[0]
    assert await recorder.by_round("majors", 1) == records[0]
    assert [one.round for one in await recorder.latest("majors", 2)] == [RECENT + 2, RECENT + 1]


async def test_nothing_is_claimed_while_too_much_waits_to_be_saved(recorder: Recorder, store: MemoryStore) -> None:
    store.fails = True
    for moment in range(MAX_UNSAVED):
        recorder.keep(ended(moment))
    await asyncio.sleep(0)
    store.fails = False
    with pytest.raises(StoreUnavailableError, match="wait to be saved"):
        await recorder.claim(ended(1, state=State.CLAIMED))
