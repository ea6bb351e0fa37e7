"""How much an exchange lets us ask: weights within a sliding window. Pure; times are seconds of one monotonic clock.

No interval of the window's length, wherever it begins, sees more weight than is allowed: exchanges count in windows of
their own, whose beginning we do not know. Sent weight is kept by slices of the window and counts until the last of its
slice has left it, so that memory is bounded and the error is on the safe side (a twentieth of the window).

The allowance gives way to the exchange's word (429, 418): it falls to half of what was sent, or of what it was, and
grows back to what is declared over `RECOVER_S`.
"""

from __future__ import annotations

import math
from collections import deque

SLICES = 20
RECOVER_S = 120.0
LEAST_SHARE = 8
"""However often an exchange refuses, this part of the declared weight stays: Retry-After says what it asks beyond."""


class Window:
    """What was sent, and what may be. weight: allowed in any `window_s` seconds, by the exchange's documentation."""

    def __init__(self, weight: int, window_s: float) -> None:
        if weight < 1 or window_s <= 0:
            raise ValueError(f"a limit of {weight} in {window_s} s lets nothing through")
        self.declared = weight
        self.window_s = window_s
        self._slice_s = window_s / SLICES
        self._sent: deque[tuple[int, int]] = deque()  # slice's number, weight
        self._used = 0
        self._cut_to = float(weight)
        self._cut_at = -math.inf

    def used(self, now: float) -> int:
        """Weight that still counts."""
        while self._sent and self._leaves(self._sent[0][0]) <= now:
            self._used -= self._sent.popleft()[1]
        return self._used

    def allowed(self, now: float) -> int:
        """Weight that one window may hold now."""
        grown = min(1.0, (now - self._cut_at) / RECOVER_S)
        return math.floor(self._cut_to + (self.declared - self._cut_to) * grown)

    def left(self, now: float) -> int:
        """Weight that may be sent at once."""
        return max(0, self.allowed(now) - self.used(now))

    def take(self, weight: int, now: float, share: float = 1.0) -> bool:
        """Whether `weight` may be sent now; it is counted then. share: of the allowance, for those who leave some of it
        to others. A single request always fits into an empty window."""
        if self.used(now) + weight > self._bound(weight, now, share):
            return False
        number = math.floor(now / self._slice_s)
        if self._sent and self._sent[-1][0] >= number:
            number, before = self._sent.pop()
            self._sent.append((number, before + weight))
        else:
            self._sent.append((number, weight))
        self._used += weight
        return True

    def when(self, weight: int, now: float, share: float = 1.0, ahead: int = 0) -> float:
        """The earliest time, from `now` on, at which `weight` may be sent if only `ahead` is sent before it.

        Where that takes more than one window, it is an estimate.
        """
        bound = self._bound(weight, now, share)
        over, leaves = self.used(now) + ahead + weight - bound, now
        for number, sent in self._sent:
            if over <= 0:
                break
            over -= sent
            leaves = max(now, self._leaves(number))
        return leaves + self.window_s * max(0, math.ceil(over / bound))

    def refused(self, sent_at: float, now: float) -> None:
        """The exchange refused a request of `sent_at` as one too many. Of those under way together, one counts."""
        if sent_at < self._cut_at:
            return
        least = self.declared / LEAST_SHARE
        self._cut_to = max(least, min(float(self.allowed(now)), float(self.used(now))) / 2)
        self._cut_at = now

    def _bound(self, weight: int, now: float, share: float) -> int:
        return max(min(weight, self.declared), math.floor(self.allowed(now) * share))

    def _leaves(self, number: int) -> float:
        return (number + 1) * self._slice_s + self.window_s
