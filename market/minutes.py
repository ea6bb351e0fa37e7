"""Minutes: one row for each minute, exchange and symbol, made while the ticks come.

The rule of late ticks. A tick belongs to the minute of its own time (`market.ticks.settled`). A minute is written first
`grace_ms` after it ended. A tick that comes after that, and is not older than the window, changes its minute, and the
row is written again in place of the old one. What is older still is refused and counted as late.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec
from msgspec import Struct

from core.types import Mode
from market.ticks import EXACT, Batch, unscaled
from market.totals import Totals, average_of

MINUTE_MS = 60_000


class MinuteRow(Struct, frozen=True, kw_only=True):
    """A minute of one exchange and symbol in one mode. minute_ms: where it begins. total: the exact sum of its prices.

    open, close: the prices of its first and its last tick, which stood at open_ms and close_ms. volume: None where the
    source tells no sizes. alone: whoever made it could not see whether the database has ticks of an earlier run of it.
    """

    mode: Mode
    symbol: str
    exchange: str
    minute_ms: int
    average: Decimal
    low: Decimal
    high: Decimal
    count: int
    total: Decimal
    open: Decimal
    close: Decimal
    open_ms: int
    close_ms: int
    volume: Decimal | None = None
    alone: bool = False

    @property
    def key(self) -> tuple[str, str, str, int]:
        return (str(self.mode), self.symbol, self.exchange, self.minute_ms)


def together(one: MinuteRow, other: MinuteRow) -> MinuteRow:
    """One row of the ticks of two runs in the same minute."""
    total, count = EXACT.add(one.total, other.total), one.count + other.count
    first = one if one.open_ms <= other.open_ms else other
    last = one if one.close_ms > other.close_ms else other
    volumes = [row.volume for row in (one, other) if row.volume is not None]
    return msgspec.structs.replace(
        one,
        average=average_of(total, count),
        low=min(one.low, other.low),
        high=max(one.high, other.high),
        count=count,
        total=total,
        open=first.open,
        open_ms=first.open_ms,
        close=last.close,
        close_ms=last.close_ms,
        volume=EXACT.add(*volumes) if len(volumes) == 2 else next(iter(volumes), None),
        alone=False,
    )


class _Minute:
    __slots__ = ("close", "close_ms", "dirty", "open", "open_ms", "totals", "volume")

    def __init__(self) -> None:
        self.totals = Totals()
        self.open = self.close = Decimal(0)
        self.open_ms = self.close_ms = -1
        self.volume: Decimal | None = None
        self.dirty = False

    def add(self, times: Sequence[int], prices: Sequence[int], digits: int, volume: Decimal | None) -> None:
        first, last = min(times), max(times)
        if self.open_ms < 0 or first < self.open_ms:
            at = 0
            while times[at] != first:
                at += 1
            self.open, self.open_ms = unscaled(prices[at], digits), first
        if last >= self.close_ms:
            at = len(times) - 1
            while times[at] != last:
                at -= 1
            self.close, self.close_ms = unscaled(prices[at], digits), last
        self.totals.add(prices, digits)
        if volume is not None:
            self.volume = EXACT.add(volume, self.volume or Decimal(0))
        self.dirty = True


class MinuteBook:
    """The minutes of one mode that may still change, and those that wait to be written."""

    def __init__(self, mode: Mode, *, retention_ms: int, grace_ms: int) -> None:
        self.mode = mode
        self._retention_ms = retention_ms
        self._grace_ms = grace_ms
        self._minutes: dict[tuple[str, str], dict[int, _Minute]] = {}  # by exchange and symbol

    def add(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            own = self._minutes.get((batch.exchange, batch.symbol))
            if own is None:
                own = self._minutes[batch.exchange, batch.symbol] = {}
            first, last = min(batch.times) // MINUTE_MS, max(batch.times) // MINUTE_MS
            if first == last:
                self._minute(own, last).add(batch.times, batch.prices, batch.digits, batch.volume)
                continue
            by_minute: dict[int, tuple[list[int], list[int]]] = {}
            for time_ms, price in zip(batch.times, batch.prices, strict=True):
                times, prices = by_minute.setdefault(time_ms // MINUTE_MS, ([], []))
                times.append(time_ms)
                prices.append(price)
            for number, (times, prices) in by_minute.items():
                # a batch that crosses minutes is a source's with one size at most: see `market.ingest.streams`
                self._minute(own, number).add(times, prices, batch.digits, batch.volume if number == last else None)

    @staticmethod
    def _minute(own: dict[int, _Minute], number: int) -> _Minute:
        found = own.get(number)
        if found is None:
            found = own[number] = _Minute()
        return found

    def due(self, now_ms: int) -> list[MinuteRow]:
        """The rows to write now: of minutes that have ended, and were not written as they are."""
        return self._take(now_ms - self._grace_ms)

    def flush(self) -> list[MinuteRow]:
        """The rows of all minutes that were not written as they are, the current one among them."""
        return self._take(None)

    def _take(self, ended_by_ms: int | None) -> list[MinuteRow]:
        rows = []
        for (exchange, symbol), own in self._minutes.items():
            for number, minute in sorted(own.items()):
                if minute.dirty and (ended_by_ms is None or (number + 1) * MINUTE_MS <= ended_by_ms):
                    minute.dirty = False
                    rows.append(self._row(exchange, symbol, number, minute))
        return rows

    def trim(self, now_ms: int) -> None:
        """Forget the minutes that nothing can change any more, and that were written."""
        oldest = (now_ms - self._retention_ms) // MINUTE_MS
        for own in self._minutes.values():
            for number in [number for number, minute in own.items() if number < oldest and not minute.dirty]:
                del own[number]

    def rows(self, symbol: str, exchange: str | None, from_ms: int, to_ms: int) -> list[MinuteRow]:
        """The minutes in `[from_ms, to_ms)` as they stand, by time."""
        found = [
            self._row(name, symbol, number, minute)
            for (name, own_symbol), own in self._minutes.items()
            if own_symbol == symbol and exchange in (None, name)
            for number, minute in own.items()
            if from_ms <= number * MINUTE_MS < to_ms
        ]
        return sorted(found, key=lambda row: (row.minute_ms, row.exchange))

    def restore(self, rows: Iterable[MinuteRow]) -> None:
        """Go on with minutes that an earlier run wrote: what came in this run is added to them."""
        for row in rows:
            if row.mode is not self.mode:
                continue
            own = self._minutes.setdefault((row.exchange, row.symbol), {})
            number = row.minute_ms // MINUTE_MS
            known = own.get(number)
            minute = known or _Minute()
            own[number] = minute
            minute.dirty = known is not None
            digits = max(0, *(-int(each.as_tuple().exponent) for each in (row.total, row.low, row.high)))
            total, low, high = (int(each.scaleb(digits, EXACT)) for each in (row.total, row.low, row.high))
            minute.totals.merge_raw(row.count, total, low, high, digits)
            if known is None or row.open_ms <= minute.open_ms:
                minute.open, minute.open_ms = row.open, row.open_ms
            if known is None or row.close_ms > minute.close_ms:
                minute.close, minute.close_ms = row.close, row.close_ms
            if row.volume is not None:
                minute.volume = EXACT.add(row.volume, minute.volume or Decimal(0))

    def _row(self, exchange: str, symbol: str, number: int, minute: _Minute) -> MinuteRow:
        totals = minute.totals
        return MinuteRow(
            mode=self.mode,
            symbol=symbol,
            exchange=exchange,
            minute_ms=number * MINUTE_MS,
            average=average_of(totals.total, totals.count),
            low=totals.lowest,
            high=totals.highest,
            count=totals.count,
            total=totals.total,
            open=minute.open,
            close=minute.close,
            open_ms=minute.open_ms,
            close_ms=minute.close_ms,
            volume=minute.volume,
        )
