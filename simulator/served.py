"""What was served, so that a test can work out by itself what the answer must be."""

from __future__ import annotations

from collections import deque
from decimal import Decimal

from msgspec import Struct

from core.types import Pair

CAPACITY = 20_000


class Served(Struct, frozen=True):
    """One answer given. The numbers are those in its body (None: it shows none, or it is not known).

    at_ms: our clock when it was given. time_ms: the time in the body. outcome: ok, replayed, unknown, or the fault.
    """

    at_ms: int
    venue: str
    pair: Pair | None
    outcome: str
    last: Decimal | None
    bid: Decimal | None
    ask: Decimal | None
    time_ms: int | None


class ServedLog:
    """The last `capacity` answers, oldest first."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._entries: deque[Served] = deque(maxlen=capacity)
        self.dropped = 0
        """How many older answers are no longer kept."""

    def add(self, entry: Served) -> None:
        if len(self._entries) == self._entries.maxlen:
            self.dropped += 1
        self._entries.append(entry)

    def since(self, ms: int) -> list[Served]:
        """The answers given at `ms` or later."""
        return [entry for entry in self._entries if entry.at_ms >= ms]
