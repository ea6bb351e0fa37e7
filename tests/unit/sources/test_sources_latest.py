"""What streams showed, read as of a moment: never what came later, never over a line that is down."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from core.types import Pair
from sources import Reading, Ticker
from sources.latest import HISTORY, KEEP_MS, TOLERANCE_MS, Latest, Line, Track

BTC, ETH = Pair("BTC/USD"), Pair("ETH/USD")


def reading(received_ms: int, last: int = 1) -> Reading:
    return Reading(source="x", pair=BTC, ticker=Ticker(last=Decimal(last)), received_ms=received_ms, elapsed_ms=0)


def shown(*received_ms: int) -> tuple[Latest, Track]:
    line = Line()
    line.up = True
    latest = Latest()
    track = latest.track("x", BTC, line)
    for number, at in enumerate(received_ms):
        track.readings.append(reading(at, number + 1))
    return latest, track


def last_as_of(latest: Latest, moment_ms: int) -> int | None:
    found = latest.as_of("x", BTC, moment_ms)
    return None if found is None else int(found.ticker.last)


def test_the_newest_at_or_before_the_moment_counts_with_a_little_tolerance() -> None:
    latest, _ = shown(1_000, 2_000, 3_000)
    assert last_as_of(latest, 3_500) == 3
    assert last_as_of(latest, 2_500) == 2
    assert last_as_of(latest, 2_000) == 2
    assert last_as_of(latest, 2_000 - TOLERANCE_MS) == 2
    assert last_as_of(latest, 2_000 - TOLERANCE_MS - 1) == 1
    assert last_as_of(latest, 1_000 - TOLERANCE_MS - 1) is None


def test_nothing_is_shown_over_a_line_that_is_down_and_all_of_it_once_it_is_up() -> None:
    latest, track = shown(1_000)
    track.line.up = False
    assert last_as_of(latest, 2_000) is None
    track.line.up = True
    assert last_as_of(latest, 2_000) == 1


def test_sources_and_pairs_are_kept_apart() -> None:
    latest, _ = shown(1_000)
    assert latest.as_of("x", ETH, 2_000) is None
    assert latest.as_of("y", BTC, 2_000) is None


def test_a_new_track_takes_the_olds_place_and_the_olds_end_does_not_take_it_away() -> None:
    latest, old = shown(1_000)
    line = Line()
    line.up = True
    new = latest.track("x", BTC, line)
    new.readings.append(reading(1_500, 9))
    latest.drop("x", BTC, old)
    assert last_as_of(latest, 2_000) == 9
    latest.drop("x", BTC, new)
    assert last_as_of(latest, 2_000) is None


def test_no_more_than_the_history_is_kept_and_what_fell_out_is_not_guessed() -> None:
    latest, track = shown(*range(1_000, 1_000 + 10 * HISTORY, 5))
    assert len(track.readings) == HISTORY
    oldest = track.readings[0].received_ms
    assert last_as_of(latest, oldest) is not None
    assert last_as_of(latest, oldest - TOLERANCE_MS - 1) is None


def test_what_is_too_old_for_any_moment_is_forgotten_and_the_newest_stays_however_old() -> None:
    latest, track = shown(1_000, 2_000, 3_000, 4_000)
    latest.prune(2_500 + KEEP_MS)
    assert [each.received_ms for each in track.readings] == [2_000, 3_000, 4_000]
    latest.prune(1_000_000)
    assert [each.received_ms for each in track.readings] == [4_000]
    assert last_as_of(latest, 1_000_000) == 4


times = st.lists(st.integers(0, 10_000), min_size=1, max_size=60).map(sorted)


@given(times, st.integers(-100, 11_000))
def test_it_is_what_a_look_through_all_of_them_finds(received: list[int], moment_ms: int) -> None:
    latest, _ = shown(*received)
    before = [number + 1 for number, at in enumerate(received) if at <= moment_ms + TOLERANCE_MS]
    assert last_as_of(latest, moment_ms) == (before[-1] if before else None)


@given(times, st.lists(st.integers(0, 12_000), max_size=5), st.integers(0, KEEP_MS))
def test_whatever_was_pruned_before_no_moment_within_its_reach_is_read_otherwise(
    received: list[int], pruned_at: list[int], back_ms: int
) -> None:
    latest, track = shown(*received)
    whole, _ = shown(*received)
    now_ms = 12_000
    for at in sorted(pruned_at):
        latest.prune(at)
    latest.prune(now_ms)
    assert last_as_of(latest, now_ms - back_ms) == last_as_of(whole, now_ms - back_ms)
    assert all(each.received_ms > now_ms - KEEP_MS for each in list(track.readings)[1:])


@given(times, st.integers(0, 10_000), st.integers(0, 2_000))
def test_a_later_moment_never_shows_an_earlier_reading(received: list[int], moment_ms: int, later_ms: int) -> None:
    latest, _ = shown(*received)
    first, second = last_as_of(latest, moment_ms), last_as_of(latest, moment_ms + later_ms)
    assert first is None or (second is not None and second >= first)
