"""The rules of silence: a reporter's states, aligned schedules, and how an error spreads over feeds."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import CyclicFeedsError
from core.reporting import (
    Condition,
    FeedRule,
    Leg,
    Policy,
    ReporterState,
    Schedule,
    Seen,
    Trouble,
    TroubleCode,
    condition,
    judge,
    order,
    standings,
)

MINUTE = Schedule()
NOON = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp() * 1000)
MAX_AGE_MS = 180_000
GONE = Trouble(who="gen", code=TroubleCode.UNREACHABLE, since_ms=NOON - 5_000)


def at(seen: Seen, now_ms: int) -> Condition:
    return condition("alpha", seen, MINUTE, MAX_AGE_MS, now_ms)


def test_a_minutes_slots_are_utc_minutes() -> None:
    assert MINUTE.slot(NOON + 59_999) == NOON
    assert MINUTE.next(NOON) == NOON + 60_000


@given(st.integers(1, 86_400_000), st.integers(0, 2**42))
def test_slots_are_aligned_and_hold_every_instant_once(period_ms: int, now_ms: int) -> None:
    schedule = Schedule(period_ms)
    slot = schedule.slot(now_ms)
    assert slot % period_ms == 0
    assert slot <= now_ms < schedule.next(now_ms) == slot + period_ms


@given(st.integers(4, 86_400_000), st.integers(0, 2**42))
def test_who_dies_has_stopped_within_two_periods_and_is_late_before(period_ms: int, died_ms: int) -> None:
    schedule = Schedule(period_ms)
    last = schedule.slot(died_ms)
    assert died_ms < schedule.late_at(last) <= schedule.stopped_at(last) <= died_ms + 2 * period_ms


PRODUCED = Seen(registered_ms=NOON - 90_000, slot_ms=NOON, received_ms=NOON + 200, data_ms=NOON)


@pytest.mark.parametrize(
    ("seen", "after_ms", "state", "since_ms"),
    [
        (Seen(registered_ms=NOON + 100), 89_999, ReporterState.LATE, NOON + 100),
        (Seen(registered_ms=NOON + 100), 60_000, ReporterState.WAITING, NOON + 100),
        (Seen(registered_ms=NOON + 100), 90_000, ReporterState.STOPPED, NOON + 100),
        (PRODUCED, 300, ReporterState.RUNNING, NOON + 200),
        (PRODUCED, 74_999, ReporterState.RUNNING, NOON + 200),
        (PRODUCED, 75_000, ReporterState.LATE, NOON + 200),
        (PRODUCED, 89_999, ReporterState.LATE, NOON + 200),
        (PRODUCED, 90_000, ReporterState.STOPPED, NOON + 200),
    ],
)
def test_silence_is_late_and_then_stopped(seen: Seen, after_ms: int, state: ReporterState, since_ms: int) -> None:
    found = at(seen, NOON + after_ms)
    assert (found.state, found.since_ms) == (state, since_ms)
    assert (found.trouble is not None) == (state is ReporterState.STOPPED)


def test_a_reporter_that_says_why_it_has_nothing_is_failing_since_then() -> None:
    found = at(Seen(registered_ms=NOON, slot_ms=NOON, received_ms=NOON + 200, trouble=GONE), NOON + 1_000)
    assert (found.state, found.since_ms, found.counts) == (ReporterState.FAILING, NOON - 5_000, False)
    assert found.trouble == GONE.through("alpha")
    assert found.trouble.via == ("alpha",)


def test_data_older_than_the_limit_is_trouble_although_its_reporter_runs() -> None:
    seen = Seen(registered_ms=NOON, slot_ms=NOON, received_ms=NOON + 200, data_ms=NOON - MAX_AGE_MS)
    assert at(seen, NOON).state is ReporterState.RUNNING
    found = at(seen, NOON + 1)
    assert (found.state, found.since_ms) == (ReporterState.OUTDATED, NOON - MAX_AGE_MS)
    assert found.trouble is not None
    assert found.trouble.code is TroubleCode.OUTDATED


def test_silence_weighs_more_than_the_last_word_and_leaving_more_than_silence() -> None:
    failed = Seen(registered_ms=NOON, slot_ms=NOON, received_ms=NOON + 200, trouble=GONE)
    assert at(failed, NOON + 100_000).state is ReporterState.STOPPED
    left = Seen(registered_ms=NOON, slot_ms=NOON, received_ms=NOON + 200, deregistered_ms=NOON + 300)
    found = at(left, NOON + 100_000)
    assert (found.state, found.trouble, found.counts) == (ReporterState.DEREGISTERED, None, False)


@given(
    registered=st.integers(0, 500),
    produced=st.lists(st.booleans(), max_size=12),
    now=st.integers(0, 1_500),
)
def test_a_reporters_life_agrees_with_its_definition(registered: int, produced: list[bool], now: int) -> None:
    """Against a second definition, by the whole history: it has stopped where no slot within the last period and a half
    has its production, counted from its registration on."""
    period = 100
    schedule = Schedule(period)
    first = schedule.next(registered)
    slots = [first + index * period for index, did in enumerate(produced) if did and first + index * period <= now]
    last = max(slots, default=None)
    seen = Seen(registered_ms=registered, slot_ms=last, received_ms=last, data_ms=last)
    state = condition("r", seen, schedule, 10_000, max(now, registered)).state
    silent_ms = max(now, registered) - (schedule.slot(registered) if last is None else last)
    assert (state is ReporterState.STOPPED) == (silent_ms >= 150)
    assert (state is ReporterState.LATE) == (125 <= silent_ms < 150)
    assert (state in (ReporterState.WAITING, ReporterState.RUNNING)) == (silent_ms < 125)


WELL, ILL, NEW = Leg("a", well=True), Leg("b", well=False, trouble=GONE), Leg("c", well=False)


@pytest.mark.parametrize(
    ("policy", "needed", "legs", "found"),
    [
        (Policy.STRICT, 1, [WELL], "ok"),
        (Policy.STRICT, 1, [WELL, NEW], "awaiting"),
        (Policy.STRICT, 1, [WELL, ILL], "error"),
        (Policy.STRICT, 2, [WELL, NEW], "awaiting"),
        (Policy.STRICT, 3, [WELL, NEW], "error"),
        (Policy.STRICT, 1, [NEW, ILL], "error"),
        (Policy.QUORUM, 1, [WELL, ILL], "ok"),
        (Policy.QUORUM, 1, [WELL, NEW], "ok"),
        (Policy.QUORUM, 2, [WELL, NEW], "awaiting"),
        (Policy.QUORUM, 2, [WELL, ILL], "error"),
        (Policy.QUORUM, 1, [], "error"),
    ],
)
def test_a_feeds_policy(policy: Policy, needed: int, legs: list[Leg], found: str) -> None:
    standing = judge("f", FeedRule(policy=policy, needed=needed), legs, since_ms=7)
    assert (standing.ok, standing.error) == (found == "ok", found == "error")
    assert (GONE in standing.troubles) == (ILL in legs)


def test_a_shortfall_without_a_culprit_names_the_feed_and_its_own_time() -> None:
    (trouble,) = judge("f", FeedRule(needed=2), [WELL], since_ms=7).troubles
    assert (trouble.who, trouble.code, trouble.since_ms) == ("f", TroubleCode.NO_QUORUM, 7)
    assert trouble.detail == "1 of 1 are well, 2 are needed"


def test_a_trouble_keeps_its_origin_and_its_way() -> None:
    rules = {"desk": FeedRule(feeds=("trader",)), "trader": FeedRule()}
    found = standings(rules, {"trader": [Leg("alpha", well=False, trouble=GONE.through("alpha"))]}, {})
    trouble = found["desk"].troubles[0]
    assert (trouble.who, trouble.since_ms, trouble.via) == ("gen", GONE.since_ms, ("trader", "alpha"))


@st.composite
def networks(draw: st.DrawFn) -> tuple[dict[str, FeedRule], dict[str, list[Leg]]]:
    """Any feeds, any legs, no circle: a feed follows earlier ones only."""
    rules: dict[str, FeedRule] = {}
    legs: dict[str, list[Leg]] = {}
    for index in range(draw(st.integers(1, 8))):
        name = f"f{index}"
        follows = draw(st.sets(st.sampled_from(sorted(rules)))) if rules else set()
        rules[name] = FeedRule(
            policy=draw(st.sampled_from(Policy)), needed=draw(st.integers(1, 3)), feeds=tuple(sorted(follows))
        )
        kinds = draw(st.lists(st.sampled_from(["well", "ill", "new"]), max_size=4))
        legs[name] = [
            Leg(f"{name}r{i}", kind == "well", GONE if kind == "ill" else None) for i, kind in enumerate(kinds)
        ]
    names = draw(st.permutations(sorted(rules)))
    return {name: rules[name] for name in names}, legs


@given(networks())
def test_a_feed_is_in_error_exactly_where_its_policy_says_so(
    network: tuple[dict[str, FeedRule], dict[str, list[Leg]]],
) -> None:
    """Against a second definition, which starts with every feed well, and marks those that are not until nothing
    changes."""
    rules, legs = network
    error = settled(
        lambda name, error: (
            sum(leg.trouble is None for leg in legs[name]) + sum(feed not in error for feed in rules[name].feeds)
            < rules[name].needed
            or (
                rules[name].policy is Policy.STRICT
                and (any(leg.trouble for leg in legs[name]) or any(feed in error for feed in rules[name].feeds))
            )
        ),
        rules,
    )
    silent = error | settled(
        lambda name, silent: (
            name in error
            or sum(leg.well for leg in legs[name]) + sum(feed not in silent for feed in rules[name].feeds)
            < rules[name].needed
            or (
                rules[name].policy is Policy.STRICT
                and not (all(leg.well for leg in legs[name]) and not silent & set(rules[name].feeds))
            )
        ),
        rules,
    )
    found = standings(rules, legs, {})
    assert {name for name, standing in found.items() if standing.error} == error
    assert {name for name, standing in found.items() if not standing.ok} == silent
    assert all(found[name].troubles for name in error), "an error always says who"


def settled(wrong: Callable[[str, set[str]], bool], rules: Mapping[str, FeedRule]) -> set[str]:
    """Mark feeds until nothing changes."""
    marked: set[str] = set()
    while (more := {name for name in rules if wrong(name, marked)}) != marked:
        marked = more
    return marked


@given(networks())
def test_feeds_come_after_those_they_follow(network: tuple[dict[str, FeedRule], dict[str, list[Leg]]]) -> None:
    rules, _ = network
    ordered = order({name: rule.feeds for name, rule in rules.items()})
    assert sorted(ordered) == sorted(rules)
    assert all(ordered.index(leg) < ordered.index(name) for name, rule in rules.items() for leg in rule.feeds)


@given(st.integers(1, 6))
def test_a_circle_is_refused_and_named(length: int) -> None:
    circle = {f"f{index}": (f"f{(index + 1) % length}",) for index in range(length)}
    with pytest.raises(CyclicFeedsError, match="f0"):
        order({**circle, "other": ("f0",)})
