"""One source as operators see it."""

from __future__ import annotations

from msgspec import Struct

from sources.limits import RateLimit
from sources.quarantine import State
from sources.vitals import Vitals


class SourceStatus(Struct, frozen=True, kw_only=True):
    """One source as operators see it. Times in milliseconds; None: not known yet.

    health: 1 while all goes well, towards 0 with each failure. error_rate: of the last requests. hedge_ms: after so
    long another source is asked beside it. left, of: weight that may be sent at once, and in a whole window. rest_s:
    how long the source asked to be left alone. stream: how its stream stands; empty: it has none.
    """

    source: str
    state: State
    health: float
    p50_ms: float | None = None
    p95_ms: float | None = None
    hedge_ms: float | None = None
    error_rate: float | None = None
    quarantines: int = 0
    next_probe_s: float | None = None
    last_failure: str = ""
    last_failure_ms: int | None = None
    left: int = 0
    of: int = 0
    window_s: float = 0.0
    waiting: int = 0
    rest_s: float = 0.0
    stream: str = ""


def status_of(source: str, vitals: Vitals | None, limit: RateLimit | None, now: float, now_ms: int) -> SourceStatus:
    """now: the event loop's time; now_ms: the same moment by the clock. Without vitals: one that is never asked."""
    if vitals is None or limit is None:
        return SourceStatus(source=source, state=State.OK, health=1.0)
    quarantine, latency, window = vitals.quarantine, vitals.latency, limit.window
    failed_at, probe_at = vitals.last_failure_at, quarantine.probe_at
    rate = quarantine.error_rate(now)
    return SourceStatus(
        source=source,
        state=quarantine.state,
        health=round(vitals.health, 3),
        p50_ms=_ms(latency.percentile(50)),
        p95_ms=_ms(latency.percentile(95)),
        hedge_ms=_ms(latency.hedge_s),
        error_rate=None if rate is None else round(rate, 3),
        quarantines=quarantine.entered,
        next_probe_s=None if probe_at is None else round(max(0.0, probe_at - now), 1),
        last_failure=vitals.last_failure,
        last_failure_ms=None if failed_at is None else now_ms - round((now - failed_at) * 1000),
        left=limit.left(now),
        of=window.declared,
        window_s=window.window_s,
        waiting=limit.waiting,
        rest_s=round(limit.resting(now)[0], 1),
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
