"""When a source is not asked any more, and when it is again. Pure; times are seconds of one monotonic clock.

    ok ──(failures in a row, or too large a part of the last ones)──► quarantined ──(its time is up)──► probing
    ▲                                                                     ▲                                │
    └──────────────────(any request that went well)───────────────────────┼────────(it failed)─────────────┘

This is the circuit breaker of Nygard's "Release It!": a source in quarantine costs a round nothing, and one request at
a time, the probe, finds out whether it is back. The pause between probes doubles up to `longest_pause_s`; one who falls
ill again soon after begins where he stopped. With the probe's own timeout that is less than the 30 s within which a
source that has recovered must be back, whichever of its markets have (`sources.prober`).
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum

from msgspec import Struct


class State(StrEnum):
    """Closed set, shown to operators."""

    OK = "ok"
    PROBING = "probing"
    QUARANTINED = "quarantined"


class QuarantinePolicy(Struct, frozen=True, kw_only=True):
    """Times in seconds.

    failures: so many in a row; or `share` of the last `recent` (and no older than `recent_s`), if at least half as many
    are known. pause_s, longest_pause_s: before the first probe, and before any. settled_s: after so long without a
    quarantine the first pause is the short one again.
    """

    failures: int = 5
    share: float = 0.5
    recent: int = 20
    recent_s: float = 300.0
    pause_s: float = 2.0
    longest_pause_s: float = 15.0
    settled_s: float = 60.0


class Quarantine:
    """One source's. Failures are those that speak of the source: what counts is for the caller to say."""

    def __init__(self, policy: QuarantinePolicy) -> None:
        self._policy = policy
        self.state = State.OK
        self.entered = 0
        self._row = 0
        self._recent: deque[tuple[float, bool]] = deque(maxlen=policy.recent)
        self._pause_s = policy.pause_s
        self._since = 0.0
        self._probe_at = 0.0

    @property
    def probe_at(self) -> float | None:
        """When the next probe is due; None: none is, or one is under way."""
        return self._probe_at if self.state is State.QUARANTINED else None

    @property
    def failures_in_a_row(self) -> int:
        return self._row

    def error_rate(self, now: float) -> float | None:
        """The part of the last requests that failed; None where none are known."""
        known = self._known(now)
        return sum(not well for well in known) / len(known) if known else None

    def succeeded(self, now: float) -> bool:
        """A request went well. Whether that ended a quarantine."""
        back = self.state is not State.OK
        if back:
            self.state, self._since = State.OK, now
            self._recent.clear()
        self._row = 0
        self._recent.append((now, True))
        return back

    def failed(self, now: float) -> bool:
        """A request failed. Whether that began a quarantine. In quarantine only probes count."""
        if self.state is not State.OK:
            return False
        self._row += 1
        self._recent.append((now, False))
        if self._row < self._policy.failures and not self._too_many(now):
            return False
        if now - self._since > self._policy.settled_s:
            self._pause_s = self._policy.pause_s
        self.entered += 1
        self._pause(now)
        return True

    def probing(self) -> None:
        """A probe is sent."""
        if self.state is State.QUARANTINED:
            self.state = State.PROBING

    def probe_failed(self, now: float) -> None:
        if self.state is State.PROBING:
            self._pause(now)

    def put_off(self, until: float) -> None:
        """No probe before `until`: it could not be sent, or the source asked for a rest."""
        if self.state is not State.OK:
            self.state, self._probe_at = State.QUARANTINED, until

    def _pause(self, now: float) -> None:
        self.state, self._probe_at = State.QUARANTINED, now + self._pause_s
        self._pause_s = min(self._policy.longest_pause_s, self._pause_s * 2)

    def _too_many(self, now: float) -> bool:
        known = self._known(now)
        failed = sum(not well for well in known)
        return len(known) * 2 >= self._policy.recent and failed >= self._policy.share * len(known)

    def _known(self, now: float) -> list[bool]:
        return [well for at, well in self._recent if now - at <= self._policy.recent_s]
