"""The book of minutes, by the rule of late ticks; candles out of its rows; the spool that keeps them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from core.types import Mode
from market.candles import candles
from market.errors import SpoolError
from market.minutes import MINUTE_MS, MinuteBook, MinuteRow, together
from market.spool import Spool
from market.ticks import Batch, scaled

START = 1_700_000_040_000


def batch(*ticks: tuple[int, str], exchange: str = "one", volume: str | None = None) -> Batch:
    found = scaled([Decimal(price) for _, price in ticks])
    assert found is not None
    return Batch(
        exchange=exchange,
        symbol="X",
        times=[START + after for after, _ in ticks],
        prices=found[0],
        digits=found[1],
        number=0,
        volume=None if volume is None else Decimal(volume),
    )


@pytest.fixture
def book() -> MinuteBook:
    return MinuteBook(Mode.TEST, retention_ms=300_000, grace_ms=2_000)


def test_a_minute_is_written_once_when_it_has_ended_and_its_grace_is_over(book: MinuteBook) -> None:
    book.add([batch((10, "3"), (59_999, "1.25"), (30_000, "7"), volume="2.5")])
    assert book.due(START + MINUTE_MS + 1_999) == []
    (row,) = book.due(START + MINUTE_MS + 2_000)
    assert row == MinuteRow(
        mode=Mode.TEST,
        symbol="X",
        exchange="one",
        minute_ms=START,
        average=Decimal("3.75"),
        low=Decimal("1.25"),
        high=Decimal(7),
        count=3,
        total=Decimal("11.25"),
        open=Decimal(3),
        close=Decimal("1.25"),
        open_ms=START + 10,
        close_ms=START + 59_999,
        volume=Decimal("2.5"),
    )
    assert book.due(START + 2 * MINUTE_MS) == []


def test_a_late_tick_changes_its_minute_which_is_written_again(book: MinuteBook) -> None:
    book.add([batch((1_000, "5"))])
    book.due(START + 2 * MINUTE_MS)
    book.add([batch((500, "9"))])
    (row,) = book.due(START + 2 * MINUTE_MS)
    assert (row.count, row.open, row.close, row.high) == (2, Decimal(9), Decimal(5), Decimal(9))


def test_a_batch_over_the_turn_of_the_minute_goes_to_both(book: MinuteBook) -> None:
    book.add([batch((59_999, "1"), (60_000, "2"), (60_001, "4"))])
    assert [(row.minute_ms - START, row.count, row.total) for row in book.flush()] == [
        (0, 1, Decimal(1)),
        (MINUTE_MS, 2, Decimal(6)),
    ]


def test_of_equal_times_the_first_to_come_opens_and_the_last_closes(book: MinuteBook) -> None:
    book.add([batch((5, "1"), (5, "2")), batch((5, "3"))])
    (row,) = book.flush()
    assert (row.open, row.close) == (Decimal(1), Decimal(3))


def test_an_earlier_runs_minute_is_gone_on_with(book: MinuteBook) -> None:
    book.add([batch((10, "1.5"), (20, "2"))])
    rows = book.flush()
    again = MinuteBook(Mode.TEST, retention_ms=300_000, grace_ms=2_000)
    again.restore(rows)
    assert again.flush() == []
    again.add([batch((30, "4"))])
    (row,) = again.flush()
    assert (row.count, row.total, row.open, row.close) == (3, Decimal("7.5"), Decimal("1.5"), Decimal(4))
    again.restore(rows)  # a run that could not look first adds what it finds later
    (joined,) = again.flush()
    assert (joined.count, joined.total, joined.close) == (5, Decimal(11), Decimal(4))
    assert together(row, rows[0]) == together(rows[0], row) == joined


def test_what_nothing_can_change_any_more_is_forgotten_once_it_was_written(book: MinuteBook) -> None:
    book.add([batch((10, "1"))])
    book.trim(START + 10 * MINUTE_MS)
    assert len(book.rows("X", None, 0, START + MINUTE_MS)) == 1
    book.flush()
    book.trim(START + 10 * MINUTE_MS)
    assert book.rows("X", None, 0, START + MINUTE_MS) == []


def test_candles_weigh_minutes_by_their_counts_and_open_with_the_first_of_all_exchanges(book: MinuteBook) -> None:
    book.add([batch((900, "1"), (60_000, "5"), (60_100, "6"))])
    book.add([batch((100, "2"), (61_000, "3"), exchange="two", volume="7")])
    (candle,) = candles(book.flush(), 2 * MINUTE_MS)
    assert candle.start_ms == START
    assert (candle.open, candle.close, candle.low, candle.high) == (Decimal(2), Decimal(3), Decimal(1), Decimal(6))
    assert (candle.count, candle.average, candle.volume) == (5, Decimal("3.4"), Decimal(7))
    assert candle.exchanges == ["one", "two"]


def rows_of(count: int, **changes: int) -> list[MinuteRow]:
    book = MinuteBook(Mode.TEST, retention_ms=10**12, grace_ms=0)
    book.add([batch((minute * MINUTE_MS, "1.10")) for minute in range(count)])
    return book.flush()


def test_the_spool_survives_a_restart_and_gives_the_oldest_first(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "spool.jsonl"
    rows = rows_of(5)
    spool = Spool(path, max_rows=100)
    spool.put(rows[3:])
    spool.put(rows[:3])
    again = Spool(path, max_rows=100)
    again.load()
    assert again.first(3) == rows[:3]
    again.done(again.first(3))
    assert again.first(10) == rows[3:]
    again.done(rows[3:])  # equal is not the same: what was put again meanwhile stays
    assert len(again) == 2
    again.done(again.first(10))
    assert (len(again), path.exists()) == (0, False)


def test_of_one_minute_the_row_that_counts_most_is_kept(tmp_path: Path) -> None:
    (row,) = rows_of(1)
    book = MinuteBook(Mode.TEST, retention_ms=10**12, grace_ms=0)
    book.restore([row])
    book.add([batch((7, "3"))])
    (more,) = book.flush()
    spool = Spool(tmp_path / "spool.jsonl", max_rows=100)
    spool.put([more])
    spool.put([row])
    assert spool.first(10) == [more]


def test_beyond_its_bound_the_oldest_minutes_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = rows_of(10)
    spool = Spool(tmp_path / "spool.jsonl", max_rows=4)
    spool.put(rows)
    assert (spool.first(10), spool.dropped) == (rows[6:], 6)


def test_a_line_that_a_crash_cut_is_skipped_and_nothing_is_written_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "spool.jsonl"
    rows = rows_of(3)
    spool = Spool(path, max_rows=100)
    spool.put(rows[:2])
    path.write_bytes(path.read_bytes()[:-20])
    again = Spool(path, max_rows=100)
    again.load()
    assert (again.first(10), again.torn) == (rows[:1], 1)
    again.put(rows[2:])
    third = Spool(path, max_rows=100)
    third.load()
    assert (third.first(10), third.torn) == ([rows[0], rows[2]], 0)


def test_a_spool_that_cannot_be_written_keeps_the_rows_in_memory_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    spool = Spool(tmp_path / "file" / "spool.jsonl", max_rows=100)
    rows = rows_of(2)
    with pytest.raises(SpoolError):
        spool.put(rows)
    assert spool.first(10) == rows
