"""What the streams showed last, and a little of what was before: so that a price can be read as of a moment."""

from __future__ import annotations

from collections import deque

from core.types import Pair
from sources.http import Reading

KEEP_MS = 5_000
"""Readings are kept for so long. A job's moment lies two seconds back at most, and a busy loop may come to it late."""
HISTORY = 512
"""Readings kept of each market at most: none shows 100 books a second for long."""
TOLERANCE_MS = 50
"""A reading received so long after the moment still counts as of the moment: clocks and grids are no finer."""


class Line:
    """One connection, as those who read from it know it. up: it is open, subscribed, and not silent for too long."""

    __slots__ = ("up",)

    def __init__(self) -> None:
        self.up = False


class Track:
    """One source's readings of one pair, in the order they came in. Used on one event loop."""

    __slots__ = ("line", "readings")

    def __init__(self, line: Line) -> None:
        self.line = line
        self.readings: deque[Reading] = deque(maxlen=HISTORY)

    def as_of(self, limit_ms: int) -> Reading | None:
        """The newest that was received at `limit_ms` or before; None: there is none any more."""
        for reading in reversed(self.readings):
            if reading.received_ms <= limit_ms:
                return reading
        return None

    def prune(self, limit_ms: int) -> None:
        """Forget what `as_of` does not need for `limit_ms` or later."""
        readings = self.readings
        while len(readings) > 1 and readings[1].received_ms <= limit_ms:
            readings.popleft()


class Latest:
    """The streamed readings of every source and pair."""

    def __init__(self) -> None:
        self._tracks: dict[tuple[str, str], Track] = {}

    def track(self, source: str, pair: Pair, line: Line) -> Track:
        """Where the stream of `source` writes what it reads of `pair` over `line`; it takes an older one's place."""
        track = self._tracks[source, pair] = Track(line)
        return track

    def drop(self, source: str, pair: Pair, track: Track) -> None:
        """Forget `track`, where it still is the one."""
        if self._tracks.get((source, pair)) is track:
            del self._tracks[source, pair]

    def prune(self, now_ms: int) -> None:
        """Forget, of every track, what no moment within `KEEP_MS` of `now_ms` needs."""
        for track in self._tracks.values():
            track.prune(now_ms - KEEP_MS)

    def as_of(self, source: str, pair: Pair, moment_ms: int) -> Reading | None:
        """What `source` showed for `pair` at `moment_ms`, by our clock at receipt.

        None where it never did, where that is forgotten, and where its connection is down: what it showed last may
        have changed since, and nobody would have told us.
        """
        track = self._tracks.get((source, pair))
        if track is None or not track.line.up:
            return None
        return track.as_of(moment_ms + TOLERANCE_MS)
