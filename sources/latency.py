"""How long a source takes, as its last requests tell. Pure; all in seconds."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

KEPT = 64
"""Requests that the estimate rests on."""
ENOUGH = 10
"""With fewer than this there is no estimate."""
LEAST_HEDGE_S = 0.01
"""The loop's own jitter is no slowness of a source."""
MEDIANS = 3.0
"""A source that takes so many times its median is late, whatever its 95th percentile: of one that is slow once in ten
that percentile is the slow answer itself, and waiting for it would be no hedge at all."""


class Latency:
    """A rolling estimate over the last `KEPT` requests. One never answered took as long as it was waited for."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def took(self, seconds: float) -> None:
        """One request's time, to its complete body or to when it was given up."""
        if len(self._recent) == KEPT:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]
        self._recent.append(seconds)
        insort(self._sorted, seconds)

    def percentile(self, percent: int) -> float | None:
        """The nearest-rank percentile; None while there are too few."""
        if len(self._sorted) < ENOUGH:
            return None
        return self._sorted[-(-len(self._sorted) * percent // 100) - 1]

    @property
    def hedge_s(self) -> float | None:
        """After so long without an answer another source is asked beside this one; None: not known yet.

        Its own 95th percentile, but no more than `MEDIANS` medians, and no less than `LEAST_HEDGE_S`.
        """
        p50, p95 = self.percentile(50), self.percentile(95)
        if p50 is None or p95 is None:
            return None
        return max(LEAST_HEDGE_S, min(p95, MEDIANS * p50))
