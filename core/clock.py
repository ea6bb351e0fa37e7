"""Time comes in as an argument. Milliseconds since the Unix epoch for moments, seconds for durations to wait."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's wall clock, shifted by `offset_ms` (zero but in replays of recorded days)."""

    def __init__(self, offset_ms: int = 0) -> None:
        self.offset_ms = offset_ms

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.offset_ms


class FixedClock:
    """A clock that moves only when told to: for tests."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def advance(self, ms: int) -> None:
        self._now_ms += ms


def rfc3339(ms: int) -> str:
    """`1710328245391` as `2024-03-13T11:10:45.391Z`."""
    return f"{datetime.fromtimestamp(ms // 1000, tz=UTC).isoformat()[:19]}.{ms % 1000:03d}Z"
