"""How well one source is: how long it takes, how often it fails, whether it is asked at all.

Only what speaks of the source is taken note of here: that a request was answered, or why not. What the rules make of
an answer (too old, no trade, too far from the others) speaks of the market and never gets here; an answer without a
ticker counts only where no other market vouches for the source (`sources.markets`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from core.types import FailureCode, Pair
from sources.latency import Latency
from sources.markets import NO_TICKER, Markets
from sources.quarantine import Quarantine, QuarantinePolicy, State

NEWS = 0.2
"""How much of the health score one request decides."""
FAIR_S = 0.25
"""A source whose latency is not known yet has had a fair chance after this."""
MOST_FAIR_S = 0.5
"""So has any other that usually takes less: a job leaves its sources little more, and one that hangs must be found at
fault by jobs alone, though its own timeouts soon are its 95th percentile."""


class Vitals:
    """One source's, kept by its client. Times are the event loop's, in seconds."""

    def __init__(self, policy: QuarantinePolicy, pairs: Iterable[Pair] = ()) -> None:
        self.latency = Latency()
        self.quarantine = Quarantine(policy)
        self.markets = Markets(pairs, policy.recent_s)
        self.health = 1.0
        self.last_failure = ""
        self.last_failure_at: float | None = None
        self._under_way: dict[int, float] = {}
        self._numbers = 0
        self._unanswered = False

    def began(self, now: float) -> int:
        """A request is sent; the number under which it ends."""
        self._numbers += 1
        self._under_way[self._numbers] = now
        return self._numbers

    def ended(self, number: int, seconds: float, *, answered: bool | None) -> None:
        """A request is over, after `seconds`. answered: whether in time; None where it was called off, or failed in
        another way: that says nothing of how long the source takes."""
        del self._under_way[number]
        if answered is not None:
            self._unanswered = not answered
            self.latency.took(seconds)

    def fair_s(self) -> float:
        """After so long a source that has not answered is at fault, and not the budget that it was given."""
        p50, p95 = self.latency.percentile(50), self.latency.percentile(95)
        if p50 is None or p95 is None:
            return FAIR_S
        return max(0.1, min(2 * p95, max(MOST_FAIR_S, p50)))

    def hedge_s(self, now: float) -> float | None:
        """How long to wait for this source before another is asked beside it; None: not known yet.

        Nothing at all while it does not answer: its last request ran out of time, or one under way is late.
        """
        usual = self.latency.hedge_s
        if self._unanswered:
            return 0.0
        oldest = next(iter(self._under_way.values()), now)
        return 0.0 if usual is not None and now - oldest > usual else usual

    def well(self, now: float, pairs: Collection[Pair] = ()) -> bool:
        """One request for `pairs` was answered as it should be. Whether that ended the source's quarantine."""
        for pair in pairs:
            self.markets.well(pair, now)
        self.health += (1 - self.health) * NEWS
        return self.quarantine.succeeded(now)

    def ill(self, code: FailureCode, detail: str, now: float, pairs: Collection[Pair] = ()) -> bool:
        """One request for `pairs` failed; none: it was refused whatever they were. Whether that began the source's
        quarantine. A market's fault does not count against a source that another market vouches for."""
        self.markets.failed(pairs)
        if code in NO_TICKER:
            if self.quarantine.state is not State.OK:
                self.markets.put_last(pairs)
            elif self.markets.vouched(pairs, now):
                return False
        self.health -= self.health * NEWS
        self.last_failure, self.last_failure_at = f"{code}: {detail}"[:200], now
        return self.quarantine.failed(now)
