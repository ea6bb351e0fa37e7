"""Is this fetcher's clock right? A reporter that does not know the time does not know what it saw when.

The rule: the median of what the sources' answers say, where at least `MIN_SOURCES` of them said it lately; it alone
decides, whatever the aggregator and the chain say. Where fewer did, the clock is behind if the job's moment and the
node's latest block both lie more than the tolerance ahead of it. That it is ahead cannot be told from those two: a job
may have lain in a queue, and a quiet chain's block is old; such a job is refused for its moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median

from core.logs import Logger
from fetchers.errors import ClockOffError
from fetchers.metrics import FetcherMetrics

TOLERANCE_MS = 2_000
MIN_SOURCES = 3
"""One of them may be wrong."""


def clock_error_ms(
    offsets: Mapping[str, float], moment_ahead_ms: int | None = None, block_ahead_ms: int | None = None
) -> float | None:
    """How far true time is ahead of our clock, in milliseconds; None where nobody can tell.

    offsets: by source, how far its clock is ahead of ours. moment_ahead_ms, block_ahead_ms: the same of a job's moment
    and of the latest block.
    """
    if len(offsets) >= MIN_SOURCES:
        return median(offsets.values())
    if moment_ahead_ms is None or block_ahead_ms is None:
        return None
    least = min(moment_ahead_ms, block_ahead_ms)
    return float(least) if least > TOLERANCE_MS else None


class ClockWatch:
    """Keeps an eye on this host's clock: a gauge, a line in the log when it goes wrong or right, `/health`."""

    def __init__(self, offsets: Callable[[], Mapping[str, float]], metrics: FetcherMetrics, logger: Logger) -> None:
        """offsets: what the sources say now; `sources.SourcePool.clock_offsets`."""
        self._offsets = offsets
        self._metrics = metrics
        self._log = logger
        self._was_off = False

    @property
    def known(self) -> bool:
        """Whether enough sources told the time lately."""
        return len(self._offsets()) >= MIN_SOURCES

    def wrong(self, moment_ahead_ms: int | None = None, block_ahead_ms: int | None = None) -> str | None:
        """What is wrong with the clock, or None. Arguments as for `clock_error_ms`."""
        offsets = self._offsets()
        error_ms = clock_error_ms(offsets, moment_ahead_ms, block_ahead_ms)
        if error_ms is not None:
            self._metrics.clock_offset.set(error_ms)
        if error_ms is None or abs(error_ms) <= TOLERANCE_MS:
            if self._was_off and error_ms is not None:
                self._log.info("clock_right", ahead_ms=round(-error_ms))
                self._was_off = False
            return None
        by = f"by the median of {len(offsets)} sources" if len(offsets) >= MIN_SOURCES else "by job and block"
        how = "behind" if error_ms > 0 else "ahead"
        detail = f"this clock is {abs(error_ms) / 1000:.1f} s {how} {by}, {TOLERANCE_MS / 1000:g} at most; set it"
        if not self._was_off:
            self._log.error("clock_off", detail=detail)
            self._was_off = True
        return detail

    async def health(self) -> str:
        """Raises `ClockOffError`."""
        if (detail := self.wrong()) is not None:
            raise ClockOffError(detail)
        offsets = self._offsets()
        if len(offsets) < MIN_SOURCES:
            return f"not known: {len(offsets)} sources told the time lately, {MIN_SOURCES} are needed"
        return f"{median(offsets.values()):+.0f} ms to the median of {len(offsets)} sources"
