"""What every store of attempts keeps: one file of tests for SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

import aggregator.store as store_module
from aggregator.attempts import AttemptRecord, Cause, FailureReason, ReportRecord, Verdict, new_attempt_id
from aggregator.states import State
from aggregator.store import AttemptStore, SqlAttemptStore
from core import codec
from core.errors import StoreUnavailableError
from core.types import Mode, SignedReport
from tests.support.databases import own_database

HERE, ELSEWHERE = "31337:0xaa:0x01", "31337:0xaa:0x02"
ANN, BOB = "0x" + "a1" * 20, "0x" + "b2" * 20
OLD_TABLE = (
    "CREATE TABLE fairmark_attempts (id VARCHAR(64) PRIMARY KEY, deployment VARCHAR(128) NOT NULL, "
    "group_name VARCHAR(64) NOT NULL, moment BIGINT, started_ms BIGINT NOT NULL, state VARCHAR(16) NOT NULL, "
    "code VARCHAR(32), round BIGINT, record TEXT NOT NULL{raw}, "
    "CONSTRAINT fairmark_attempts_claim UNIQUE (deployment, group_name, moment))"
)


def record(moment: int, **changes: object) -> AttemptRecord:
    plain = AttemptRecord(
        id=new_attempt_id(),
        deployment=HERE,
        mode=Mode.TEST,
        group="majors",
        cause=Cause.REQUEST,
        state=State.CLAIMED,
        started_ms=moment,
        moment=moment,
    )
    return msgspec.structs.replace(plain, **changes)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs_postgres)])
async def url(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str, require_services: None
) -> AsyncIterator[str]:
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'deep' / 'attempts.sqlite'}"
        return
    async with own_database(postgres_url) as url:
        yield url


@pytest.fixture
async def store(url: str) -> AsyncIterator[AttemptStore]:
    made = SqlAttemptStore(url, keep=5)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def other(url: str, store: AttemptStore) -> AsyncIterator[AttemptStore]:
    """Another process's, on the same database."""
    made = SqlAttemptStore(url, keep=5)
    await made.open()
    yield made
    await made.close()


def ended(one: AttemptRecord, state: State = State.FAILED, **changes: object) -> AttemptRecord:
    return msgspec.structs.replace(one, state=state, ended_ms=one.started_ms + 5, **changes)


async def test_a_moment_is_claimed_once(store: AttemptStore) -> None:
    first = record(100)
    assert await store.claim(first) is None
    await store.save(ended(first))
    assert await store.claim(record(100)) == ended(first)
    assert await store.claim(record(110)) is None
    assert await store.claim(record(100, group="others")) is None
    assert await store.claim(record(100, deployment=ELSEWHERE)) is None


async def test_a_group_has_one_open_attempt_whoever_runs_it(store: AttemptStore, other: AttemptStore) -> None:
    first = record(100, relayer=ANN)
    assert await store.claim(first) is None
    assert await other.claim(record(200, relayer=BOB)) == first
    assert await other.claim(record(200, relayer=BOB, group="others")) is None
    assert await store.note(msgspec.structs.replace(first, state=State.SUBMITTING), "0x02") is True
    assert await other.claim(record(210, relayer=BOB)) is not None
    await store.save(ended(first, State.ACCEPTED, round=1))
    assert await other.claim(record(220, relayer=BOB)) is None


async def test_its_own_last_attempt_is_never_in_the_way_of_the_next(store: AttemptStore) -> None:
    """It has ended, and its record waits to be saved; or a crash left it, and it is taken up later."""
    first, second = record(100, relayer=ANN), record(200, relayer=ANN)
    assert await store.claim(first) is None
    assert await store.claim(second) is None
    await store.save(ended(first))
    assert await store.get(HERE, first.id) == ended(first)
    assert (await store.claim(record(300, relayer=BOB))) == second


async def test_an_ended_attempt_is_not_opened_again(store: AttemptStore, other: AttemptStore) -> None:
    first = record(100, relayer=ANN)
    await store.claim(first)
    closed = ended(first, code="retired")
    assert await other.retire(closed) is True
    assert await other.retire(ended(first, code="stopped")) is False
    assert await store.note(msgspec.structs.replace(first, state=State.SUBMITTING), "0x02") is False
    assert await store.get(HERE, first.id) == closed
    assert await store.raw(first.id) is None
    assert await other.claim(record(200, relayer=BOB)) is None


async def test_a_transaction_that_is_noted_outlives_the_word_of_who_has_not_seen_it(
    store: AttemptStore, other: AttemptStore
) -> None:
    read = record(100, relayer=ANN)
    await store.claim(read)
    noted = msgspec.structs.replace(read, state=State.SUBMITTING, transactions=("0xaa",))
    assert await store.note(noted, "0x02aa") is True
    assert await other.retire(ended(read, code="retired")) is False
    replaced = msgspec.structs.replace(noted, transactions=("0xbb", "0xaa"))
    assert await store.note(replaced, "0x02bb") is True
    assert await other.retire(ended(noted, code="not_confirmed")) is False
    assert await store.get(HERE, read.id) == replaced
    assert await store.raw(read.id) == "0x02bb"
    assert await other.retire(ended(replaced, code="not_confirmed")) is True


async def test_an_announced_attempt_is_kept_and_is_itself_no_hindrance(
    store: AttemptStore, other: AttemptStore
) -> None:
    waiting = record(0, state=State.QUEUED, started_ms=50, relayer=ANN)
    await store.announce(waiting)
    await store.announce(waiting)
    assert await store.get(HERE, waiting.id) == waiting
    claimed = msgspec.structs.replace(waiting, state=State.CLAIMED, moment=100)
    in_the_way = record(90, relayer=BOB)
    assert await other.claim(in_the_way) is None
    assert await store.claim(claimed) == in_the_way
    assert await store.get(HERE, waiting.id) == waiting
    await other.save(ended(in_the_way))
    assert await store.claim(claimed) is None
    assert await store.get(HERE, waiting.id) == claimed
    await store.announce(waiting)
    assert await store.get(HERE, waiting.id) == claimed


async def test_who_asked_before_anothers_round_was_accepted_is_served_by_it(
    store: AttemptStore, other: AttemptStore
) -> None:
    now = 1_710_328_245_000
    theirs = record(now, relayer=BOB, started_ms=now)
    await other.claim(theirs)
    round_ = msgspec.structs.replace(theirs, state=State.ACCEPTED, round=1, ended_ms=now + 300)
    await other.save(round_)

    def mine(n: int, **changes: object) -> AttemptRecord:
        return record(now + n, started_ms=now + n, relayer=ANN, **changes)

    assert await store.claim(mine(400), now + 200) == round_
    assert await store.claim(mine(400, group="others"), now + 200) is None
    for n, arrived in enumerate((now + 300, now + 1_200, None), 401):  # it came after the end, or the moment is too old
        assert await store.claim(mine(n), arrived) is None
    assert (
        await other.claim(record(now + 500, relayer=BOB, started_ms=now + 500), now + 200) is not None
    )  # ANN's is open


async def test_of_many_that_claim_at_once_one_gets_it(store: AttemptStore, other: AttemptStore) -> None:
    for group, moments in (("same", [100] * 20), ("others", range(200, 220))):
        asked = [record(moment, relayer=(ANN, BOB)[n % 2], group=group) for n, moment in enumerate(moments)]
        got = await asyncio.gather(*((store, other)[n % 2].claim(one) for n, one in enumerate(asked)))
        winners = {asked[n].relayer for n, found in enumerate(got) if found is None}
        assert len(winners) == 1  # the same process may come again: its former attempt is its own affair
        others = [found for found in got if found is not None]
        assert others
        assert {found.relayer for found in others} == winners


async def test_services_may_start_at_once_on_a_fresh_sqlite_file(tmp_path: Path) -> None:
    for attempt in range(20):
        stores = [SqlAttemptStore(f"sqlite+aiosqlite:///{tmp_path / str(attempt)}/attempts.sqlite") for _ in range(3)]
        try:
            await asyncio.gather(*(each.open() for each in stores))
        finally:
            for each in stores:
                await each.close()


async def test_a_record_comes_back_as_it_was_saved(store: AttemptStore) -> None:
    claimed = record(100)
    await store.claim(claimed)
    assert await store.get(HERE, claimed.id) == claimed
    ended = claimed.failed(FailureReason.NO_QUORUM, 'odd \x00 text \u2028 "', 900)
    await store.save(ended)
    found = await store.get(HERE, claimed.id)
    assert found is not None
    assert codec.encode(found) == codec.encode(ended)


async def test_an_attempt_that_failed_before_its_claim_is_saved_all_the_same(store: AttemptStore) -> None:
    first, second = (record(0, started_ms=t, state=State.FAILED, code="chain_unavailable") for t in (1, 2))
    await store.save(first)
    await store.save(second)
    assert await store.get(HERE, first.id) == first
    assert await store.get(HERE, second.id) == second


async def test_the_bytes_of_a_transaction_are_kept_until_it_is_settled_and_never_in_the_record(
    store: AttemptStore,
) -> None:
    sending = record(100, state=State.SUBMITTING)
    await store.claim(sending)
    assert await store.raw(sending.id) is None
    await store.note(sending, "0x02aa")
    await store.note(msgspec.structs.replace(sending, detail="pushed"), "0x02bb")
    accepted = msgspec.structs.replace(sending, state=State.ACCEPTED, round=7)
    await store.save(accepted)
    assert await store.raw(sending.id) == "0x02bb"
    found = await store.get(HERE, sending.id)
    assert found is not None
    assert b"0x02bb" not in codec.encode(found)
    await store.save(msgspec.structs.replace(accepted, settled=True))
    assert await store.raw(sending.id) is None
    assert await store.raw("nobody") is None


@pytest.mark.parametrize("lacks", ["raw", ""])
async def test_a_table_made_before_there_were_revisions_is_taken_over_with_what_it_has(url: str, lacks: str) -> None:
    claimed = record(100)
    raw = "" if lacks == "raw" else ", raw TEXT"
    engine = create_async_engine(url)
    if url.startswith("sqlite"):
        Path(make_url(url).database or "").parent.mkdir(parents=True)
    async with engine.begin() as connection:
        await connection.execute(sa.text(OLD_TABLE.format(raw=raw)))
        insert = sa.text(
            "INSERT INTO fairmark_attempts (id, deployment, group_name, moment, started_ms, state, record)"
            " VALUES (:id, :deployment, 'majors', 100, 100, 'claimed', :record)"
        )
        values = {"id": claimed.id, "deployment": HERE, "record": codec.encode(claimed).decode()}
        await connection.execute(insert, values)
    await engine.dispose()
    stores = [SqlAttemptStore(url) for _ in range(3)]
    try:
        await asyncio.gather(*(each.open() for each in stores))
        assert await stores[2].get(HERE, claimed.id) == claimed
        assert await stores[0].note(claimed, "0x02aa") is True
        assert await stores[1].raw(claimed.id) == "0x02aa"
    finally:
        for each in stores:
            await each.close()


async def test_the_revisions_make_the_table_that_the_code_uses(url: str, store: AttemptStore) -> None:
    def differences(connection: sa.Connection) -> list[object]:
        ours = {"fairmark_attempts", "fairmark_equivocations"}

        def of_ours(name: str | None, kind: str, _parents: object) -> bool:
            return kind != "table" or name in ours

        opts = {"include_name": of_ours, "compare_type": True}
        context = MigrationContext.configure(connection, opts=opts)
        found = compare_metadata(context, store_module.TABLE.metadata)
        return [one for one in found if one[0] not in ("remove_index", "remove_constraint")]

    engine = create_async_engine(url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_a_database_that_a_newer_fairmark_has_changed_is_left_alone(url: str, store: AttemptStore) -> None:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(sa.text("UPDATE aggregator_alembic_version SET version_num = '9999'"))
    await engine.dispose()
    with pytest.raises(StoreUnavailableError, match=r"9999.*run the version that wrote it"):
        await SqlAttemptStore(url).open()


async def test_records_are_of_one_deployment_only(store: AttemptStore) -> None:
    one = record(100, state=State.ACCEPTED, round=7)
    await store.save(one)
    assert await store.get(ELSEWHERE, one.id) is None
    assert await store.by_round(ELSEWHERE, "majors", 7) is None
    assert await store.latest(ELSEWHERE, "majors") == []


async def test_a_round_is_found_by_its_number(store: AttemptStore) -> None:
    one, two = (record(100 * n, state=State.ACCEPTED, round=n) for n in (1, 2))
    await store.save(one)
    await store.save(two)
    assert await store.by_round(HERE, "majors", 2) == two
    assert await store.by_round(HERE, "majors", 3) is None
    assert await store.by_round(HERE, "others", 2) is None


async def test_the_latest_come_first(store: AttemptStore) -> None:
    records = [ended(record(moment)) for moment in (100, 300, 200)]
    for one in records:
        await store.save(one)
    assert await store.latest(HERE, "majors", 2) == [records[1], records[2]]


async def test_what_nobody_has_seen_to_the_end_is_found_among_all_others(store: AttemptStore) -> None:
    waiting = record(0, state=State.QUEUED, started_ms=50, relayer=BOB)
    await store.announce(waiting)
    await store.save(ended(record(60, relayer=ANN)))
    await store.save(ended(record(70, relayer=ANN), State.ACCEPTED, round=1))
    running = record(100, relayer=ANN, state=State.SUBMITTING, transactions=("0xaa",))
    await store.claim(running)
    await store.note(running, "0x02aa")
    assert await store.unended(HERE) == [waiting, running]
    assert await store.unended(ELSEWHERE) == []
    assert await store.unsettled(HERE, ANN) == [running]
    assert await store.unsettled(HERE, BOB) == []
    accepted = ended(running, State.ACCEPTED, round=2)
    await store.save(accepted)
    later = record(200, relayer=ANN, state=State.SUBMITTING, transactions=("0xbb",))
    await store.claim(later)
    await store.note(later, "0x02bb")
    failed = ended(later, code="submission_failed")
    await store.save(failed)
    assert await store.unended(HERE) == [waiting]
    assert await store.unsettled(HERE, ANN) == [accepted, failed]
    for one in (accepted, failed):
        await store.save(msgspec.structs.replace(one, settled=True))
    assert await store.unsettled(HERE, ANN) == []


async def test_old_attempts_are_pruned_and_the_newest_kept(
    store: AttemptStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PRUNE_EVERY", 1)
    other = ended(record(1, deployment=ELSEWHERE))
    await store.save(other)
    records = [ended(record(moment)) for moment in range(100, 112)]
    for one in records:
        await store.save(one)
    assert await store.latest(HERE, "majors", 50) == records[:-6:-1]
    assert await store.get(ELSEWHERE, other.id) == other


async def test_it_can_be_opened_twice_and_keeps_what_it_has(url: str, store: AttemptStore) -> None:
    one = record(100)
    await store.claim(one)
    await store.open()
    again = SqlAttemptStore(url)
    await again.open()
    assert await again.get(HERE, one.id) == one
    assert await again.ping() in ("sqlite", "postgresql")
    await again.close()


async def test_a_store_that_is_not_open_says_so(url: str) -> None:
    with pytest.raises(StoreUnavailableError):
        await SqlAttemptStore(url).claim(record(1))


async def test_a_claim_takes_about_a_millisecond(store: AttemptStore) -> None:
    await store.claim(record(1))
    times = []
    for moment in range(10, 40):
        one = record(moment)
        started = time.perf_counter()
        await store.claim(one)
        times.append(time.perf_counter() - started)
        await store.save(ended(one))
    assert sorted(times)[len(times) // 2] < 0.1  # a slow machine's bound; about 0.001 where nothing else runs


@pytest.mark.parametrize(
    "bad",
    [
        "sqlite+aiosqlite:////proc/nowhere/x.sqlite",
        "postgresql+asyncpg://nobody@127.0.0.1:1/test",
        pytest.param("postgresql+asyncpg://postgres@127.0.0.1:5432/no_such_db", marks=pytest.mark.needs_postgres),
    ],
)
async def test_a_store_that_cannot_be_reached_says_where_without_a_password(bad: str) -> None:
    with pytest.raises(StoreUnavailableError, match=r"cannot be used|did not answer") as raised:
        await SqlAttemptStore(bad.replace("nobody@", "nobody:hidden@")).open()
    assert "hidden" not in str(raised.value)


def contradicting(moment: int) -> AttemptRecord:
    """Ann signed two reports for one moment, Bob one; the second of hers came late."""
    prices = {"first": (1,), "second": (2,)}
    hers = [_report(ANN, moment, prices["first"]), _report(ANN, moment, prices["second"], code="equivocation")]
    return ended(record(moment, reports=(hers[0], _report(BOB, moment, (1,)), hers[1])))


def _report(signer: str, moment: int, prices: tuple[int, ...], code: str | None = None) -> ReportRecord:
    signed = SignedReport(
        group="majors",
        group_hash="0x" + "c3" * 32,
        previous_moment=0,
        moment=moment,
        prices=prices,
        reporter=signer,
        signature="0x" + "11" * 64,
    )
    return ReportRecord(
        verdict=Verdict.INCLUDED if code is None else Verdict.LEFT_OUT,
        code=code,
        detail="",
        signer=signer,
        fetcher="f",
        instance="1",
        arrived_ms=1,
        elapsed_ms=1,
        signed=signed,
        answers={},
        quotes=(),
        failures=(),
    )


async def test_a_proof_of_equivocation_outlives_its_attempt(
    store: AttemptStore, other: AttemptStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PRUNE_EVERY", 1)
    guilty = contradicting(10)
    await store.save(guilty)
    await store.save(msgspec.structs.replace(guilty, settled=True))  # once more: one proof
    await store.save(contradicting(30))
    for moment in range(100, 110):
        await store.save(ended(record(moment)))
    assert await store.get(HERE, guilty.id) is None
    latest, first = await other.equivocations(HERE)
    assert (latest.moment, first.moment, first.signer, first.attempt) == (30, 10, ANN, guilty.id)
    assert (first.first, first.second) == (guilty.reports[0].signed, guilty.reports[2].signed)
    assert [one.moment for one in await other.equivocations(HERE, limit=1)] == [30]
    assert await other.equivocations(ELSEWHERE) == []


async def test_a_report_that_differs_in_nothing_that_is_signed_proves_nothing(store: AttemptStore) -> None:
    plain = contradicting(10)
    same = msgspec.structs.replace(plain.reports[0].signed, reporter=BOB)
    again = msgspec.structs.replace(plain.reports[2], signed=same)
    await store.save(msgspec.structs.replace(plain, reports=(plain.reports[0], again)))
    assert await store.equivocations(HERE) == []
