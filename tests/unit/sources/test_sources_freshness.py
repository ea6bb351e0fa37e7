"""The third clock: since when a price has not changed, and what that makes of a quote."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.types import FailureCode, Feed, Pair, Quote, SourceFailure
from fetchers.reader import judged
from sources import ChangeTracker, Reading, Ticker
from sources.freshness import MAX_GAP_MS, is_fresh

NOW = 1_710_328_245_000
PAIR = Pair("BTC/USDC")
MINUTE = 60_000
FEED = Feed(pair=PAIR, min_price=Decimal(1000))


def tick(last: str, volume: str | None = None, bid: str | None = None, ask: str | None = None) -> Ticker:
    def number(text: str | None) -> Decimal | None:
        return None if text is None else Decimal(text)

    return Ticker(last=Decimal(last), volume=number(volume), bid=number(bid), ask=number(ask))


def outcome(tracker: ChangeTracker, ticker: Ticker, at_ms: int, feed: Feed = FEED) -> str:
    """What a reading received at `at_ms`, with a source time just as fresh, comes to."""
    ticker = Ticker(last=ticker.last, bid=ticker.bid, ask=ticker.ask, volume=ticker.volume, time_ms=at_ms - 100)
    changed_ms = tracker.saw("venue", feed.pair, ticker, at_ms)
    reading = Reading(
        source="venue", pair=feed.pair, ticker=ticker, received_ms=at_ms, elapsed_ms=1, changed_ms=changed_ms
    )
    found = judged(reading, feed, at_ms)
    return "quote" if isinstance(found, Quote) else str(found.code)


def test_a_candle_a_minute_for_three_weeks_without_a_trade_is_frozen_after_the_first_hour() -> None:
    """As recorded: BTC/USDC candles with the time of the minute and a price that nobody traded at."""
    tracker = ChangeTracker()
    seen = [outcome(tracker, tick("70001.5"), NOW + minute * MINUTE) for minute in range(21 * 24 * 60)]
    assert seen[: 60 + 1] == ["quote"] * 61
    assert set(seen[61:]) == {"frozen"}
    assert outcome(tracker, tick("70001.6"), NOW + 21 * 24 * 60 * MINUTE) == "quote"  # the first trade


def test_the_same_candle_with_its_volume_of_zero_is_refused_at_once() -> None:
    assert outcome(ChangeTracker(), tick("70001.5", volume="0.000"), NOW) == "not_traded"


def test_a_pegged_pair_that_trades_at_one_price_for_a_day_is_not_frozen() -> None:
    tracker = ChangeTracker()
    feed = Feed(pair=Pair("USDC/USDT"))
    for minute in range(24 * 60):
        traded = minute // 30  # somebody trades every half hour, always at the same price
        assert outcome(tracker, tick("1.0000", volume=str(1000 + traded)), NOW + minute * MINUTE, feed) == "quote"


def test_volume_that_only_falls_as_old_trades_leave_the_day_is_no_sign_of_life() -> None:
    tracker = ChangeTracker()
    seen = [outcome(tracker, tick("70001.5", volume=str(9_000 - m)), NOW + m * MINUTE) for m in range(90)]
    assert seen[61:] == ["frozen"] * 29


def test_a_book_that_moves_around_a_quiet_last_trade_is_alive() -> None:
    tracker = ChangeTracker()
    for minute in range(180):
        book = tick("70001", bid=str(70000 - minute % 7), ask=str(70002 + minute % 5))
        assert outcome(tracker, book, NOW + minute * MINUTE) == "quote"


def test_after_a_restart_unknown_is_not_frozen() -> None:
    tracker = ChangeTracker()
    for minute in range(120):
        outcome(tracker, tick("70001.5"), NOW + minute * MINUTE)
    later = NOW + 120 * MINUTE
    assert outcome(tracker, tick("70001.5"), later) == "frozen"
    assert outcome(ChangeTracker(), tick("70001.5"), later) == "quote"
    unwatched = Reading(source="venue", pair=PAIR, ticker=tick("70001.5"), received_ms=later, elapsed_ms=1)
    assert isinstance(judged(unwatched, FEED, later), Quote)


def test_where_nobody_looked_for_long_the_watch_begins_anew() -> None:
    tracker = ChangeTracker()
    assert tracker.saw("venue", PAIR, tick("1"), NOW) == NOW
    assert tracker.saw("venue", PAIR, tick("1"), NOW + MAX_GAP_MS) == NOW
    late = NOW + 2 * MAX_GAP_MS + 1
    assert tracker.saw("venue", PAIR, tick("1"), late) == late


def test_a_streams_short_message_and_a_rest_body_are_no_change_to_each_other() -> None:
    tracker = ChangeTracker()
    forms = [tick("5", bid="4", ask="6", volume="10"), tick("5"), tick("5", bid="4", ask="6"), tick("5", volume="10")]
    for step in range(20):
        assert tracker.saw("venue", PAIR, forms[step % 4], NOW + step * 1000) == NOW
    assert tracker.saw("venue", PAIR, tick("5", bid="4.5", ask="6"), NOW + 20_000) == NOW + 20_000


def test_a_streams_volume_above_a_bodys_is_no_trade_and_one_above_its_own_is() -> None:
    """The two windows of 24 hours fall in steps of their own: looked at in turn, a dead market's would rise."""
    tracker = ChangeTracker()
    for step in range(20):
        streamed = step % 2 == 0
        volume = str((100 if streamed else 101) - step)
        assert tracker.saw("venue", PAIR, tick("5", volume=volume), NOW + step * 1000, streamed=streamed) == NOW
    assert tracker.saw("venue", PAIR, tick("5", volume="82.5"), NOW + 20_000, streamed=True) == NOW + 20_000
    assert tracker.saw("venue", PAIR, tick("5", volume="82.5"), NOW + 21_000) == NOW + 21_000


def test_a_late_reading_with_more_volume_is_from_before_old_trades_left_the_day() -> None:
    tracker = ChangeTracker()
    for step in range(20):
        tracker.saw("venue", PAIR, tick("5", volume=str(100 - step)), NOW + step * 1000, streamed=True)
    assert tracker.saw("venue", PAIR, tick("5", volume="95"), NOW + 5_000, streamed=True) == NOW
    assert tracker.saw("venue", PAIR, tick("5", volume="80"), NOW + 20_000, streamed=True) == NOW


def test_a_late_reading_changes_nothing() -> None:
    tracker = ChangeTracker()
    tracker.saw("venue", PAIR, tick("5"), NOW)
    tracker.saw("venue", PAIR, tick("6"), NOW + 1000)
    assert tracker.saw("venue", PAIR, tick("5"), NOW + 500) == NOW + 500
    assert tracker.saw("venue", PAIR, tick("6"), NOW + 2000) == NOW + 1000


def test_no_more_markets_are_watched_than_there_is_room_for() -> None:
    tracker = ChangeTracker(capacity=100)
    for number in range(1_000):
        tracker.saw(f"venue {number}", PAIR, tick("5"), NOW + number)
    assert len(tracker) == 100
    assert tracker.saw("venue 999", PAIR, tick("5"), NOW + 5_000) == NOW + 999  # the latest are kept
    assert tracker.saw("venue 0", PAIR, tick("5"), NOW + 5_001) == NOW + 5_001


@given(st.lists(st.tuples(st.integers(1, MAX_GAP_MS), st.sampled_from(["1", "2", "3"])), min_size=1, max_size=40))
def test_unchanged_is_the_length_of_the_run_of_equal_prices(steps: list[tuple[int, str]]) -> None:
    tracker, at_ms, since, last = ChangeTracker(), NOW, NOW, ""
    for gap_ms, price in steps:
        at_ms += gap_ms
        since = since if price == last else at_ms
        last = price
        assert tracker.saw("venue", PAIR, tick(price), at_ms) == since


@pytest.mark.parametrize(
    ("as_of", "received", "changed", "fresh"),
    [
        (15_000, 10_000, 600_000, True),
        (15_001, 0, 0, False),
        (0, 10_001, 0, False),
        (0, 0, 600_001, False),
        (0, 0, None, True),
        (-500, -500, 0, True),  # received just after the moment
    ],
)
def test_a_quote_is_fresh_by_all_three_clocks_or_not_at_all(
    as_of: int, received: int, changed: int | None, fresh: bool
) -> None:
    since = None if changed is None else NOW - changed
    assert is_fresh(FEED, NOW, as_of_ms=NOW - as_of, received_ms=NOW - received, changed_ms=since) is fresh


@pytest.mark.parametrize(
    ("time_ms", "received_ms", "code"),
    [
        (NOW - 60_000, NOW, None),
        (NOW - 60_001, NOW, FailureCode.EXPIRED),
        (NOW - 20_000, NOW - 20_000, None),
        (NOW - 20_001, NOW - 20_001, FailureCode.EXPIRED),  # what a silent stream said last
        (NOW + 5_001, NOW, FailureCode.FUTURE),
        (NOW + 5_000, NOW, None),
    ],
)
def test_source_time_and_receipt_have_limits_of_their_own(
    time_ms: int, received_ms: int, code: FailureCode | None
) -> None:
    feed = Feed(pair=PAIR, min_price=Decimal(1000), max_receipt_age_ms=20_000)
    ticker = Ticker(last=Decimal(70_000), time_ms=time_ms)
    found = judged(Reading(source="venue", pair=PAIR, ticker=ticker, received_ms=received_ms, elapsed_ms=1), feed, NOW)
    assert (found.code if isinstance(found, SourceFailure) else None) is code
