"""When attempts start by themselves."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from aggregator.schedule import (
    CONFIRM_MS,
    HINT_PAUSE_MS,
    HINT_WINDOW_MS,
    HintOutcome,
    Hints,
    due_at,
    margin_ms,
    retry_ms,
)
from core.types import Pair
from tests.support.aggregator import BTC, ETH, NOW, SIGNERS, expected, group

GROUP = group(heartbeat_ms=60_000)
KNOWN = expected(GROUP, SIGNERS[:4]).known
LAST = KNOWN.last_moment
A, B, C = (signer.address.lower() for signer in SIGNERS[:3])


def test_an_attempt_is_due_before_the_first_feeds_heartbeat() -> None:
    assert due_at(GROUP, {BTC: NOW, ETH: NOW - 5_000}, 2_000) == NOW - 5_000 + 60_000 - 2_000


def test_a_feed_without_an_answer_is_due_now() -> None:
    assert due_at(GROUP, {BTC: NOW}, 2_000) == 0
    assert due_at(GROUP, {}, 2_000) == 0


@given(st.integers(min_value=1, max_value=10**7), st.integers(min_value=0, max_value=10**7))
def test_the_margin_leaves_three_quarters_of_the_heartbeat(heartbeat: int, attempt: int) -> None:
    assert 0 <= margin_ms(heartbeat, attempt) <= heartbeat / 4


@given(st.integers(min_value=1, max_value=10_000), st.floats(min_value=0, max_value=0.999))
def test_retries_double_up_to_the_longest_with_up_to_half_taken_away(failures: int, chance: float) -> None:
    full = min(1_000 * 2 ** min(failures - 1, 20), 15_000)
    assert full / 2 - 1 <= retry_ms(failures, 15_000, chance) <= full


def add(
    hints: Hints, signer: str, *, pair: Pair = BTC, at: int = NOW, now: int = NOW, previous: int = LAST
) -> HintOutcome:
    return hints.add(signer, pair, at, previous, KNOWN, now)


def test_f_plus_one_members_hints_about_one_feed_start_an_attempt() -> None:
    hints = Hints()
    assert add(hints, A) is HintOutcome.KEPT
    assert add(hints, B) is HintOutcome.FIRED


def test_one_member_alone_starts_nothing_however_often_it_hints() -> None:
    hints = Hints()
    assert [add(hints, A, at=NOW + i) for i in range(5)] == [HintOutcome.KEPT] * 5


def test_hints_about_different_feeds_do_not_add_up() -> None:
    hints = Hints()
    assert add(hints, A, pair=BTC) is HintOutcome.KEPT
    assert add(hints, B, pair=ETH) is HintOutcome.KEPT


def test_strangers_and_hints_about_another_round_or_time_count_for_nothing() -> None:
    hints = Hints()
    assert add(hints, A) is HintOutcome.KEPT
    assert add(hints, "0x" + "99" * 20) is HintOutcome.STRANGER
    assert add(hints, B, previous=LAST - 1) is HintOutcome.STALE
    assert add(hints, B, at=NOW - HINT_WINDOW_MS - 1) is HintOutcome.STALE
    assert add(hints, B, at=NOW + HINT_WINDOW_MS + 1) is HintOutcome.STALE


def test_hints_must_come_together() -> None:
    hints = Hints()
    add(hints, A)
    after = NOW + HINT_WINDOW_MS + 1
    assert add(hints, B, at=after, now=after) is HintOutcome.KEPT


def test_a_new_round_forgets_the_hints_about_the_one_before() -> None:
    hints = Hints()
    add(hints, A)
    newer = replace(KNOWN, last_moment=NOW - 100)
    assert hints.add(B, BTC, NOW, NOW - 100, newer, NOW) is HintOutcome.KEPT


def test_attempts_that_hints_start_keep_their_distance() -> None:
    hints = Hints()
    add(hints, A)
    assert add(hints, B) is HintOutcome.FIRED
    soon, later = NOW + HINT_PAUSE_MS // 2, NOW + HINT_PAUSE_MS
    add(hints, A, at=soon, now=soon)
    assert add(hints, B, at=soon, now=soon) is HintOutcome.PAUSED
    assert add(hints, C, at=later, now=later) is HintOutcome.FIRED


def both(hints: Hints, now: int, *, last: int, observed: int, pair: Pair = BTC) -> HintOutcome:
    """Two members hint about `pair`, whose answer is of `observed`, after a round of `last`."""
    ages = tuple(observed if feed.pair == pair else last for feed in KNOWN.feeds)
    known = replace(KNOWN, last_moment=last, observed_ms=ages)
    first, second = (hints.add(signer, pair, now, last, known, now) for signer in (A, B))
    return HintOutcome.FIRED if first is HintOutcome.FIRED else second


def test_hints_about_an_answer_that_waits_to_be_confirmed_start_nothing_until_it_can_be() -> None:
    hints, held = Hints(), NOW + 500
    assert both(hints, NOW, last=LAST, observed=LAST) is HintOutcome.FIRED
    # its round was taken and left the answer as it was; so did a heartbeat's
    assert both(hints, held + 1_500, last=held, observed=LAST) is HintOutcome.WAITS
    assert both(hints, held + 20_000, last=held + 15_000, observed=LAST) is HintOutcome.WAITS
    assert both(hints, held + 20_001, last=held + 15_000, observed=held + 15_000, pair=ETH) is HintOutcome.FIRED
    assert both(hints, held + CONFIRM_MS - 1, last=held + 15_000, observed=LAST) is HintOutcome.WAITS
    assert both(hints, held + CONFIRM_MS, last=held + 15_000, observed=LAST) is HintOutcome.FIRED


def test_once_it_is_confirmed_hints_count_again_and_another_candidate_waits_as_long() -> None:
    hints, held = Hints(), NOW + 500
    assert both(hints, held + 1_500, last=held, observed=LAST) is HintOutcome.WAITS
    confirmed = held + CONFIRM_MS
    assert both(hints, confirmed + 2_000, last=confirmed, observed=confirmed) is HintOutcome.FIRED
    again = confirmed + 2_500
    assert both(hints, again + 2_000, last=again, observed=confirmed) is HintOutcome.WAITS
    assert both(hints, again + CONFIRM_MS, last=again, observed=confirmed) is HintOutcome.FIRED
    replaced = again + CONFIRM_MS + 500
    assert both(hints, replaced + 2_000, last=replaced, observed=confirmed) is HintOutcome.WAITS


def test_an_attempt_that_failed_is_no_round_that_left_the_answer() -> None:
    hints = Hints()
    assert both(hints, NOW, last=LAST, observed=LAST) is HintOutcome.FIRED
    assert both(hints, NOW + HINT_PAUSE_MS, last=LAST, observed=LAST) is HintOutcome.FIRED
