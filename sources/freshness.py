"""The third clock: since when a price has not changed. Pure, bounded, fed with every reading there is.

A source's time and our receipt can both be fresh over a price that nobody trades at: one exchange published a candle
every minute for three weeks without a single trade. What cannot be kept fresh without a market is change itself.

What counts as a change, by this rule:

- another last price, or another bid or ask: somebody traded or quoted;
- more volume than before: somebody traded at the very same price, as happens for hours on a pegged pair. Less volume is
  no sign of life: it falls by itself while old trades leave a window of 24 hours. So a stream's volume is compared with
  the stream's alone, and a body's with a body's: the two windows fall in steps of their own, and who looked at one
  after the other would see a dead market's volume rise.

Only what two readings both show is compared, so that a stream's short message and a REST body do not look like change
to each other. Nothing is concluded from before a watch began: after a restart, or where nobody looked for longer than
`MAX_GAP_MS`, the watch begins anew, and what is unknown is not frozen.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from decimal import Decimal

from core.types import Feed, Pair
from sources.parse import Ticker

MAX_GAP_MS = 300_000
"""Between two looks at a price longer apart than this, it may have moved away and come back."""
CAPACITY = 10_000
"""Markets watched at once; of more, those not seen for the longest are forgotten."""


@dataclass(slots=True)
class _Watch:
    last: Decimal
    bid: Decimal | None
    ask: Decimal | None
    since_ms: int
    seen_ms: int
    volume: Decimal | None = None
    streamed_volume: Decimal | None = None

    def shows_another(self, ticker: Ticker) -> bool:
        """Another price, or another book."""
        return ticker.last != self.last or _differs(ticker.bid, self.bid) or _differs(ticker.ask, self.ask)

    def note_volume(self, volume: Decimal | None, streamed: bool) -> bool:
        """Whether it rose."""
        if volume is None:
            return False
        if streamed:
            before, self.streamed_volume = self.streamed_volume, volume
        else:
            before, self.volume = self.volume, volume
        return before is not None and volume > before


class ChangeTracker:
    """When each source's price of each pair last changed, as far as it was watched. Use it from one thread."""

    def __init__(self, capacity: int = CAPACITY, max_gap_ms: int = MAX_GAP_MS) -> None:
        self._capacity = capacity
        self._max_gap_ms = max_gap_ms
        self._watches: OrderedDict[tuple[str, str], _Watch] = OrderedDict()

    def __len__(self) -> int:
        return len(self._watches)

    def saw(self, source: str, pair: Pair, ticker: Ticker, received_ms: int, *, streamed: bool = False) -> int:
        """Note a reading; since when (our clock, ms) its price has been seen unchanged: `received_ms` if it is new.

        streamed: a stream showed it. A reading that comes late, after one received later, changes nothing.
        """
        key = (source, pair)
        watch = self._watches.get(key)
        if watch is None or received_ms - watch.seen_ms > self._max_gap_ms:
            self._watches[key] = watch = _Watch(ticker.last, ticker.bid, ticker.ask, received_ms, received_ms)
            watch.note_volume(ticker.volume, streamed)
            self._watches.move_to_end(key)
            if len(self._watches) > self._capacity:
                self._watches.popitem(last=False)
            return received_ms
        another = watch.shows_another(ticker)
        if received_ms < watch.seen_ms:
            return received_ms if another else min(watch.since_ms, received_ms)
        if watch.note_volume(ticker.volume, streamed) or another:
            watch.since_ms = received_ms
        watch.last = ticker.last
        watch.bid = watch.bid if ticker.bid is None else ticker.bid
        watch.ask = watch.ask if ticker.ask is None else ticker.ask
        watch.seen_ms = received_ms
        self._watches.move_to_end(key)
        return watch.since_ms


def is_fresh(feed: Feed, moment_ms: int, *, as_of_ms: int, received_ms: int, changed_ms: int | None) -> bool:
    """Whether all three clocks call a quote fresh at `moment_ms`. An unknown change (None) is not held against it."""
    return (
        moment_ms - as_of_ms <= feed.fresh_quote_age_ms
        and moment_ms - received_ms <= feed.fresh_receipt_age_ms
        and (changed_ms is None or moment_ms - changed_ms <= feed.fresh_unchanged_ms)
    )


def _differs(new: Decimal | None, old: Decimal | None) -> bool:
    return new is not None and old is not None and new != old
