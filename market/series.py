"""The ticks of one exchange and symbol, by the second.

Each second knows its totals, so that a question costs the seconds of its period and a search in the one that the period
cuts, never a walk over ticks.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from decimal import Decimal
from itertools import accumulate

from market.ticks import POWERS, Batch, unscaled
from market.totals import Totals

SECOND_MS = 1_000
_CACHED_SPANS = 64
_CACHED_CUTS = 16


class Second:
    """One second's ticks in the order of their arrival, 16 bytes each, and their totals.

    `times` is None once its ticks were let go: then the totals are all that is left.
    """

    __slots__ = ("_cut", "prices", "times", "totals")

    def __init__(self, digits: int) -> None:
        self.times: array[int] | None = array("q")
        self.prices: array[int] | list[int] = array("q")
        self.totals = Totals(digits)
        self._cut: tuple[list[int], list[int], list[int], list[int]] | None = None

    def add(self, times: Sequence[int], prices: Sequence[int], digits: int) -> None:
        totals = self.totals
        if self.times is not None:
            if digits > totals.digits:
                self._hold([price * POWERS[digits - totals.digits] for price in self.prices])
            elif digits < totals.digits:
                prices, digits = [price * POWERS[totals.digits - digits] for price in prices], totals.digits
            self.times.extend(array("q", times))
            try:
                self.prices.extend(array("q", prices) if isinstance(self.prices, array) else prices)
            except OverflowError:  # more than 64 bits: many digits of a large price
                self.prices = [*self.prices, *prices]
            self._cut = None
        totals.add(prices, digits)

    def _hold(self, prices: list[int]) -> None:
        try:
            self.prices = array("q", prices)
        except OverflowError:
            self.prices = prices

    def after(self, since_ms: int) -> Totals:
        """The totals of the ticks later than `since_ms`; its ticks must be there."""
        assert self.times is not None  # noqa: S101 - the caller looked
        if self._cut is None:
            order = sorted(range(len(self.times)), key=self.times.__getitem__)
            backwards = [self.prices[at] for at in reversed(order)]
            self._cut = (
                [self.times[at] for at in order],
                list(accumulate(backwards)),
                list(accumulate(backwards, min)),
                list(accumulate(backwards, max)),
            )
        times, sums, lows, highs = self._cut
        found = Totals(self.totals.digits)
        if count := len(times) - bisect_right(times, since_ms):
            found.merge_raw(count, sums[count - 1], lows[count - 1], highs[count - 1], self.totals.digits)
        return found

    def uncut(self) -> None:
        """Let go of what `after` keeps for the next question: four times the ticks' own memory."""
        self._cut = None

    def let_go(self) -> int:
        """Keep the totals only; how many ticks went."""
        gone = 0 if self.times is None else len(self.times)
        self.times, self.prices, self._cut = None, array("q"), None
        return gone


class Series:
    """The window of one exchange and symbol."""

    __slots__ = ("_cuts", "_spans", "digits", "held", "last_number", "last_price", "last_time_ms", "seconds")

    def __init__(self) -> None:
        self.seconds: dict[int, Second] = {}
        self.held = 0
        """Ticks that are there, without those that were let go."""
        self.digits = 0
        self.last_time_ms = -1
        self.last_number = -1
        self.last_price = Decimal(0)
        self._spans: dict[tuple[int, int], Totals] = {}
        self._cuts: dict[int, Second] = {}  # the seconds that were cut last, the latest at the end

    def add(self, batch: Batch) -> None:
        times, prices, digits = batch.times, batch.prices, batch.digits
        self.digits = max(self.digits, digits)
        first, last = min(times), max(times)
        if first // SECOND_MS == last // SECOND_MS:
            self._add(last // SECOND_MS, times, prices, digits)
        else:
            by_second: dict[int, tuple[list[int], list[int]]] = {}
            for time_ms, price in zip(times, prices, strict=True):
                own = by_second.get(time_ms // SECOND_MS)
                if own is None:
                    own = by_second[time_ms // SECOND_MS] = ([], [])
                own[0].append(time_ms)
                own[1].append(price)
            for second, (some_times, some_prices) in by_second.items():
                self._add(second, some_times, some_prices, digits)
        if last >= self.last_time_ms:
            at = len(times) - 1
            while times[at] != last:
                at -= 1
            self.last_time_ms, self.last_number = last, batch.number + at
            self.last_price = unscaled(prices[at], digits)

    def _add(self, number: int, times: Sequence[int], prices: Sequence[int], digits: int) -> None:
        second = self.seconds.get(number)
        if second is None:
            second = self.seconds[number] = Second(self.digits)
        second.add(times, prices, digits)
        if second.times is not None:
            self.held += len(times)
        if self._spans:
            self._spans.clear()

    def totals(self, since_ms: int, now_ms: int) -> tuple[Totals, int]:
        """What is known of `(since_ms, now_ms]`, and where it begins in truth. `now_ms` is not before the last tick."""
        begins_ms = since_ms
        cut_at = (since_ms + 1) // SECOND_MS
        found = Totals(self.digits)
        whole_from = cut_at
        if (since_ms + 1) % SECOND_MS:
            whole_from += 1
            if (cut := self.seconds.get(cut_at)) is not None:
                if cut.times is not None:
                    found.merge(cut.after(since_ms))
                    self._keep_cut(cut_at, cut)
                else:
                    begins_ms = whole_from * SECOND_MS - 1
        found.merge(self._whole(whole_from, now_ms // SECOND_MS))
        return found, begins_ms

    def _keep_cut(self, number: int, second: Second) -> None:
        self._cuts.pop(number, None)
        self._cuts[number] = second
        if len(self._cuts) > _CACHED_CUTS:
            self._cuts.pop(next(iter(self._cuts))).uncut()

    def _whole(self, first: int, last: int) -> Totals:
        """Of all seconds in `first … last`. The same is asked again and again within a second: it is kept."""
        kept = self._spans.get((first, last))
        if kept is None:
            kept = Totals(self.digits)
            seconds = self.seconds
            if last - first < len(seconds):
                for number in range(first, last + 1):
                    if (second := seconds.get(number)) is not None:
                        kept.merge(second.totals)
            else:
                for number, second in seconds.items():
                    if first <= number <= last:
                        kept.merge(second.totals)
            if len(self._spans) >= _CACHED_SPANS:
                self._spans.clear()
            self._spans[first, last] = kept
        return kept

    def trim(self, oldest_ms: int) -> None:
        """Forget the seconds that ended at `oldest_ms` or before."""
        gone = [number for number in self.seconds if (number + 1) * SECOND_MS <= oldest_ms]
        for number in gone:
            second = self.seconds.pop(number)
            self._cuts.pop(number, None)
            self.held -= 0 if second.times is None else len(second.times)
        if gone:
            self._spans.clear()
