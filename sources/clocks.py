"""What time the sources say it is: the `Date` of their answers (RFC 9110, 6.6.1) against this host's clock."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from core.clock import Clock

FRESH_MS = 120_000
"""What a source said longer ago counts no more: clocks drift, and get set."""
NOTE_EVERY_MS = 1_000
"""A source that answers more often is not listened to each time."""
HALF_SECOND_MS = 500
"""A Date has whole seconds, cut off: on average it lies half of one behind the time that it was written at."""


class SourceClocks:
    """The latest offset that each source's answers show. `offsets` forgets what is old."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[int, float]] = {}  # by source: when, and the offset

    def note(self, source: str, headers: Mapping[str, str], sent_ms: int) -> None:
        """Learn from an answer whose headers have just come. sent_ms: our clock when it was asked for.

        An answer without a Date that can be read says nothing; neither does one from a cache (a positive Age).
        """
        now = self._clock.now_ms()
        if source in self._seen and 0 <= now - self._seen[source][0] < NOTE_EVERY_MS:
            return
        date = headers.get("date")
        if date is None or headers.get("age", "0").strip() != "0":
            return
        try:
            told_ms = parsedate_to_datetime(date).timestamp() * 1000 + HALF_SECOND_MS
        except (ValueError, TypeError, IndexError, OverflowError):
            return
        self._seen[source] = (now, told_ms - (sent_ms + now) / 2)

    def offsets(self) -> dict[str, float]:
        """By source, milliseconds by which its clock is ahead of ours; within about half a second and half the trip."""
        now = self._clock.now_ms()
        return {source: offset for source, (at, offset) in self._seen.items() if abs(now - at) <= FRESH_MS}
