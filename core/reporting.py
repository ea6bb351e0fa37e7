"""When a reporter is silent, and what follows from it: pure rules, shared by all who depend on reporters.

A reporter registers, then produces once in each period of its schedule. A feed has legs: reporters, and other feeds.
Its policy says what one leg's trouble does to it:

strict   any leg in trouble puts the feed in error
quorum   the feed goes on while enough legs are well

A feed in error publishes nothing, and is itself a leg in trouble for the feeds that follow it. So an error spreads
until somebody acts: the reporter comes back, or leaves, or is taken off by an operator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter

from msgspec import Struct
from msgspec.structs import replace

from core.errors import CyclicFeedsError


class Policy(StrEnum):
    """What a leg's trouble does to a feed."""

    QUORUM = "quorum"
    STRICT = "strict"


class ReporterState(StrEnum):
    """How a registered reporter does."""

    WAITING = "waiting"  # registered, and its first production is not overdue
    RUNNING = "running"
    LATE = "late"  # a production is overdue, not yet for long
    STOPPED = "stopped"
    FAILING = "failing"  # says itself that it has nothing to report, and why
    OUTDATED = "outdated"  # produces, but its data's own time is older than the limit
    DEREGISTERED = "deregistered"  # counts no more


class TroubleCode(StrEnum):
    """Why a leg cannot be counted on. A closed set: records, metrics and answers use these and no others."""

    STOPPED = "reporter_stopped"
    OUTDATED = "data_outdated"
    UNREACHABLE = "signal_unreachable"
    INVALID = "signal_invalid"
    NO_PRICE = "no_price"
    NO_QUORUM = "no_quorum"


class Trouble(Struct, frozen=True, kw_only=True):
    """Why something has no value now. who: where it began; via: through whom it came here, the nearest first."""

    who: str
    code: TroubleCode
    since_ms: int
    detail: str = ""
    via: tuple[str, ...] = ()

    def through(self, name: str) -> Trouble:
        return replace(self, via=(name, *self.via))


class Schedule(Struct, frozen=True):
    """Periods aligned to the Unix epoch, and so, for a divisor of a day, to UTC's. A slot is the start of a period."""

    period_ms: int = 60_000

    def __post_init__(self) -> None:
        if self.period_ms < 1:
            raise ValueError(f"a period of {self.period_ms} ms is none")

    def slot(self, now_ms: int) -> int:
        """The slot at or just before `now_ms`."""
        return now_ms - now_ms % self.period_ms

    def next(self, now_ms: int) -> int:
        """The first slot after `now_ms`."""
        return self.slot(now_ms) + self.period_ms

    def late_at(self, slot_ms: int) -> int:
        """When who produced last for `slot_ms` is late: a quarter of a period after the next slot."""
        return slot_ms + self.period_ms + self.period_ms // 4

    def stopped_at(self, slot_ms: int) -> int:
        """When who produced last for `slot_ms` has stopped: half a period after the next slot. However it fell, that is
        at most a period and a half after it died."""
        return slot_ms + self.period_ms + self.period_ms // 2


class Seen(Struct, frozen=True, kw_only=True):
    """What is known of a reporter. slot_ms, data_ms, trouble: of its last production since it was registered, None
    before the first; received_ms: when that came. data_ms: the time of the oldest datum that it was made of."""

    registered_ms: int
    deregistered_ms: int | None = None
    slot_ms: int | None = None
    received_ms: int | None = None
    data_ms: int | None = None
    trouble: Trouble | None = None


class Condition(Struct, frozen=True):
    """A reporter's state at a time, since when, and the trouble that it is to who depends on it."""

    state: ReporterState
    since_ms: int
    trouble: Trouble | None = None

    @property
    def counts(self) -> bool:
        """Whether it is a leg that is well. Late is: its last word still holds."""
        return self.state in (ReporterState.RUNNING, ReporterState.LATE)


def condition(name: str, seen: Seen, schedule: Schedule, max_age_ms: int, now_ms: int) -> Condition:
    """How a reporter does. max_age_ms: limit of its data's own age.

    Silence weighs more than what it said last: a reporter that failed and then stopped has stopped.
    """
    if seen.deregistered_ms is not None:
        return Condition(ReporterState.DEREGISTERED, seen.deregistered_ms)
    last = schedule.slot(seen.registered_ms) if seen.slot_ms is None else seen.slot_ms
    heard_ms = seen.registered_ms if seen.received_ms is None else seen.received_ms
    if now_ms >= schedule.stopped_at(last):
        said = "produced nothing since it was registered" if seen.slot_ms is None else "stopped producing"
        trouble = Trouble(who=name, code=TroubleCode.STOPPED, since_ms=heard_ms, detail=said)
        return Condition(ReporterState.STOPPED, heard_ms, trouble)
    if (ill := _said(name, seen, max_age_ms, now_ms)) is not None:
        return ill
    if now_ms >= schedule.late_at(last):
        return Condition(ReporterState.LATE, heard_ms)
    if seen.slot_ms is None:
        return Condition(ReporterState.WAITING, seen.registered_ms)
    return Condition(ReporterState.RUNNING, heard_ms)


def _said(name: str, seen: Seen, max_age_ms: int, now_ms: int) -> Condition | None:
    """What is wrong with a reporter's last production, or None."""
    if seen.trouble is not None:
        return Condition(ReporterState.FAILING, seen.trouble.since_ms, seen.trouble.through(name))
    if seen.data_ms is None or now_ms - seen.data_ms <= max_age_ms:
        return None
    said = f"its data is {now_ms - seen.data_ms} ms old, more than {max_age_ms}"
    trouble = Trouble(who=name, code=TroubleCode.OUTDATED, since_ms=seen.data_ms, detail=said)
    return Condition(ReporterState.OUTDATED, seen.data_ms, trouble)


class Leg(Struct, frozen=True):
    """One thing a feed depends on. Neither well nor in trouble: it has yet to say its first word."""

    name: str
    well: bool
    trouble: Trouble | None = None


class FeedRule(Struct, frozen=True, kw_only=True):
    """policy; needed: legs that must be well, under either policy; feeds: the other feeds among the legs."""

    policy: Policy = Policy.STRICT
    needed: int = 1
    feeds: tuple[str, ...] = ()


class Standing(Struct, frozen=True, kw_only=True):
    """Whether a feed may publish (`ok`), or is in error, or neither: then it awaits somebody's first word.

    counted: the legs that are well. awaited: those yet to say their first word. troubles: the legs', the oldest first,
    and the feed's own shortfall; under `quorum` a feed may be well and have some.
    """

    ok: bool
    error: bool
    counted: tuple[str, ...]
    awaited: tuple[str, ...]
    troubles: tuple[Trouble, ...]

    def as_leg(self, name: str) -> Leg:
        """The feed, as those see it that follow it."""
        return Leg(name, self.ok, self.troubles[0].through(name) if self.error else None)


def judge(name: str, rule: FeedRule, legs: Sequence[Leg], since_ms: int) -> Standing:
    """Apply a feed's policy to its legs. since_ms: what a shortfall is dated by where no leg is in trouble.

    Under `strict` a leg that has yet to say its first word holds the feed back, which is no error: it says it within
    its first period and a half, or has stopped.
    """
    strict = rule.policy is Policy.STRICT
    counted = tuple(leg.name for leg in legs if leg.well)
    awaited = tuple(leg.name for leg in legs if not leg.well and leg.trouble is None)
    troubles = sorted((leg.trouble for leg in legs if leg.trouble is not None), key=lambda one: one.since_ms)
    short = len(counted) + len(awaited) < rule.needed
    error = short or (strict and bool(troubles))
    if short:
        began = troubles[-1].since_ms if troubles else since_ms
        said = f"{len(counted)} of {len(legs)} are well, {rule.needed} are needed"
        troubles.append(Trouble(who=name, code=TroubleCode.NO_QUORUM, since_ms=began, detail=said))
    ok = not error and len(counted) >= rule.needed and not (strict and awaited)
    return Standing(ok=ok, error=error, counted=counted, awaited=awaited, troubles=tuple(troubles))


def order(feeds: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The feeds, each after those that it follows. Raises `CyclicFeedsError` naming the circle."""
    try:
        return tuple(TopologicalSorter(feeds).static_order())
    except CycleError as error:
        raise CyclicFeedsError(f"feeds depend on one another in a circle: {' -> '.join(error.args[1])}") from None


def standings(
    rules: Mapping[str, FeedRule], reporters: Mapping[str, Sequence[Leg]], since_ms: Mapping[str, int]
) -> dict[str, Standing]:
    """Every feed's standing. reporters: each feed's own legs; since_ms: as for `judge`. Every feed that a rule names
    has a rule. Raises `CyclicFeedsError`."""
    found: dict[str, Standing] = {}
    for name in order({name: rule.feeds for name, rule in rules.items()}):
        rule = rules[name]
        legs = [*reporters.get(name, ()), *(found[feed].as_leg(feed) for feed in rule.feeds)]
        found[name] = judge(name, rule, legs, since_ms.get(name, 0))
    return found
