"""Attempts that start by themselves: on heartbeat, and when enough reporters hint that a price has moved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from enum import StrEnum

from aggregator.attempts import Cause, FailureReason
from aggregator.edges import Known
from aggregator.engine import Engine
from aggregator.joining import Desk
from aggregator.running import clock_off
from aggregator.states import State
from contracts.errors import ContractError
from core.clock import Clock
from core.errors import FairmarkError
from core.logs import Logger
from core.types import Group, Pair

LOOK_EVERY_MS = 5_000
"""The chain is read this often at least: another aggregator's rounds postpone the heartbeat."""
FOLLOW_S = 0.2
"""Between looks at whether it is for this process to start attempts."""
START_RETRY_MS = 2_000
"""Longest wait between tries while a feed has no answer at all."""
RECOVERY_MS = 4_000
"""Longest wait between tries while a server is away: soon after its return, prices are fresh again."""
_OUTSIDE = frozenset(
    {FailureReason.BROKER_UNAVAILABLE, FailureReason.CHAIN_UNAVAILABLE, FailureReason.STORE_UNAVAILABLE}
)
_OWN = frozenset({FailureReason.BROKER_UNAVAILABLE, FailureReason.CHAIN_UNAVAILABLE, FailureReason.SUBMISSION_FAILED})
"""What another instance may have, though this one has not (a broker, a node, a key with funds): then it is for that one
to start attempts. So it is where this one's clock is wrong."""
HINT_WINDOW_MS = 10_000
HINT_PAUSE_MS = 1_000
"""Shortest time between two attempts that hints start in one group."""


def margin_ms(heartbeat_ms: int, attempt_ms: int) -> int:
    """How long before the heartbeat an attempt starts, so that its answer is there in time; a quarter at most."""
    return min(attempt_ms, heartbeat_ms // 4)


def due_at(group: Group, observed_ms: Mapping[Pair, int], attempt_ms: int) -> int:
    """When the group's next attempt is due, in milliseconds since the epoch; 0 when a feed has no answer yet.

    observed_ms: the moment of each feed's standing answer. attempt_ms: how long an attempt may take.
    """
    return min(
        observed_ms[feed.pair] + feed.heartbeat_ms - margin_ms(feed.heartbeat_ms, attempt_ms)
        if observed_ms.get(feed.pair)
        else 0
        for feed in group.feeds
    )


def retry_ms(failures: int, longest_ms: int, chance: float) -> int:
    """The wait after so many failures in a row: 1 s, 2 s, 4 s … up to `longest_ms`, of which `chance` (0 to 1) takes up
    to a half away, so that several aggregators do not try in step."""
    full = min(1_000 * 2 ** min(failures - 1, 20), longest_ms)
    return int(full * (1 - chance / 2))


CONFIRM_MS = 30_000
"""The contract's: a candidate is confirmed by a median so much later, and by none before."""


class HintOutcome(StrEnum):
    """What became of a hint."""

    KEPT = "kept"  # not enough of them yet
    FIRED = "fired"
    STRANGER = "stranger"  # not signed by a member
    STALE = "stale"  # about another round than the last, or not about now
    PAUSED = "paused"  # the last attempt that hints started is too near
    WAITS = "waits"  # rounds leave the feed's answer as it is: it is beyond a limit, and cannot be confirmed yet


class Hints:
    """The members' hints about one group. f + 1 members with one opinion about a feed: one of them at least is honest.

    At most one hint a member and feed is kept. While an answer waits to be confirmed, hints about its feed start
    nothing: such a round would cost gas and change nothing. Refreshes and heartbeats go on.
    """

    def __init__(self) -> None:
        self._kept: dict[Pair, dict[str, int]] = {}
        self._about = 0
        self._fired_ms = -HINT_PAUSE_MS
        self._left: dict[Pair, tuple[int, int]] = {}  # the answer's moment, and of the first round that left it

    def add(self, signer: str, pair: Pair, moment: int, previous_moment: int, known: Known, now_ms: int) -> HintOutcome:
        """signer: recovered, lower-case. `FIRED` says: start an attempt now."""
        if signer not in known.signers:
            return HintOutcome.STRANGER
        if previous_moment != known.last_moment or abs(now_ms - moment) > HINT_WINDOW_MS:
            return HintOutcome.STALE
        if self._about != previous_moment:
            self._kept.clear()
            self._about = previous_moment
        kept = self._kept.setdefault(pair, {})
        kept[signer] = max(moment, kept.get(signer, 0))
        if sum(1 for at in kept.values() if now_ms - at <= HINT_WINDOW_MS) <= known.f:
            return HintOutcome.KEPT
        if now_ms - self._fired_ms < HINT_PAUSE_MS:
            return HintOutcome.PAUSED
        if now_ms - self._left_since(pair, known) < CONFIRM_MS:
            return HintOutcome.WAITS
        self._left.pop(pair, None)  # should this round leave it too, another candidate waits from then on
        self._kept.clear()
        self._fired_ms = now_ms
        return HintOutcome.FIRED

    def _left_since(self, pair: Pair, known: Known) -> int:
        """The moment of the first round that left the feed's standing answer as it is; 0: the last one did not."""
        observed = next((at for feed, at in zip(known.feeds, known.observed_ms, strict=False) if feed.pair == pair), 0)
        if not observed or observed >= known.last_moment:
            self._left.pop(pair, None)
            return 0
        answer, since = self._left.get(pair, (0, 0))
        if answer != observed:
            since = known.last_moment
            self._left[pair] = (observed, since)
        return since


class Heartbeat:
    """Keeps one group fresh: an attempt whenever a feed's answer comes near its heartbeat, or is missing."""

    def __init__(
        self,
        engine: Engine,
        desk: Desk,
        clock: Clock,
        attempt_ms: int,
        chance: Callable[[], float],
        logger: Logger,
        leads: Callable[[str], bool] = lambda _: True,
        step_down: Callable[[str], None] = lambda _: None,
    ) -> None:
        """attempt_ms: how long an attempt may take. chance: a random number in [0, 1). leads: whether it is for this
        process to start a group's attempts. step_down: lets another process do so."""
        self._engine = engine
        self._desk = desk
        self._clock = clock
        self._attempt_ms = attempt_ms
        self._chance = chance
        self._leads = leads
        self._step_down = step_down
        self._log = logger.bind(group=engine.group.name)
        self._failures = 0
        self._beat_ms = min(feed.heartbeat_ms for feed in engine.group.feeds)

    async def run(self) -> None:
        """For ever. No failure ends it."""
        while True:
            if not self._leads(self._engine.group.name):
                self._failures = 0
                await asyncio.sleep(FOLLOW_S)
                continue
            try:
                wait_ms = await self.beat()
            except FairmarkError as error:
                if isinstance(error, ContractError):
                    self._step_down(self._engine.group.name)
                wait_ms = self._failed(min(RECOVERY_MS, self._beat_ms // 4))
                self._log.warning("heartbeat_failed", retry_ms=wait_ms, code=error.code, error=str(error))
            except Exception:  # noqa: BLE001 - a bug must not stop the heart; it is logged with its cause
                wait_ms = self._failed(self._beat_ms // 4)
                self._log.exception("heartbeat_error", retry_ms=wait_ms)
            await asyncio.sleep(wait_ms / 1000)

    async def beat(self) -> int:
        """Look once, and make an attempt if one is due. Returns the milliseconds until the next look.

        Raises `ContractError` when the chain cannot be read, `AggregatorError` when no attempt can be asked for.
        """
        due = await self._due()
        now = self._clock.now_ms()
        if now < due:
            self._failures = 0
            return min(due - now, LOOK_EVERY_MS)
        running = self._desk.request(now, Cause.HEARTBEAT if due else Cause.START)
        record = await self._desk.wait(running, 60)
        if record.state is State.ACCEPTED and self._clock.now_ms() < await self._due():
            self._failures = 0
            return 0
        # an accepted round may still leave the feed alone that was due: trying at once again would not help it
        known = self._engine.known
        if record.code in _OWN or (known is not None and clock_off(record, known.f)):
            self._step_down(self._engine.group.name)
        longest_ms = RECOVERY_MS if record.code in _OUTSIDE else self._beat_ms // 4 if due else START_RETRY_MS
        return self._failed(min(longest_ms, self._beat_ms // 4))

    async def _due(self) -> int:
        reading = await self._engine.read()
        observed = {pair: answer.observed_ms for pair, answer in reading.answers.items()}
        return due_at(self._engine.group, observed, self._attempt_ms)

    def _failed(self, longest_ms: int) -> int:
        self._failures += 1
        return max(retry_ms(self._failures, longest_ms, self._chance()), 10)
