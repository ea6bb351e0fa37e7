"""The window in this process: 16 bytes a tick. Beyond `max_ticks` the oldest seconds keep their totals only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from market.series import SECOND_MS, Series
from market.ticks import Batch, Tick, unscaled
from market.totals import Totals
from market.window import Slot, Span

_SLOT_BITS = 19
"""Numbers that a second has for its ticks: a second has more microseconds than that."""


class MemoryWindow:
    """`Window` in memory.

    retention_ms: older ticks are forgotten. max_ticks: beyond it the oldest seconds of all series let their ticks go
    and keep their totals: answers over whole seconds stay exact, and a period that begins within such a second is
    answered from the next one on, and says so. Every tick still counts.
    """

    def __init__(self, *, retention_ms: int, max_ticks: int) -> None:
        self.retention_ms = retention_ms
        self._max_ticks = max_ticks
        self._series: dict[str, dict[str, Series]] = {}  # by symbol, then exchange
        self._trimmed_at = -1
        self.thinned = 0
        """Ticks that were let go before their time, so far."""

    @property
    def held(self) -> int:
        """Ticks that are there."""
        return sum(series.held for own in self._series.values() for series in own.values())

    async def add(self, batches: Sequence[Batch], now_ms: int) -> None:
        self.take(batches, now_ms)

    def take(self, batches: Sequence[Batch], now_ms: int) -> None:
        for batch in batches:
            own = self._series.get(batch.symbol)
            if own is None:
                own = self._series[batch.symbol] = {}
            series = own.get(batch.exchange)
            if series is None:
                series = own[batch.exchange] = Series()
            series.add(batch)
        if now_ms // SECOND_MS != self._trimmed_at:
            self._trimmed_at = now_ms // SECOND_MS
            self._trim(now_ms)

    def _trim(self, now_ms: int) -> None:
        for own in self._series.values():
            for series in own.values():
                series.trim(now_ms - self.retention_ms)
        if (excess := self.held - self._max_ticks) > 0:
            # a tenth more than needed, so that this is rare
            self._let_go(excess + self._max_ticks // 10)

    def _let_go(self, excess: int) -> None:
        everything = [
            (number, series)
            for own in self._series.values()
            for series in own.values()
            for number, second in series.seconds.items()
            if second.times is not None
        ]
        everything.sort(key=lambda each: each[0])
        for number, series in everything:
            if excess <= 0:
                break
            gone = series.seconds[number].let_go()
            series.held -= gone
            excess -= gone
            self.thinned += gone

    def _chosen(self, symbol: str, exchange: str | None) -> list[tuple[str, Series]]:
        own = self._series.get(symbol, {})
        if exchange is None:
            return list(own.items())
        return [(exchange, own[exchange])] if exchange in own else []

    async def latest(self, symbol: str, exchange: str | None, now_ms: int) -> Tick | None:
        return self.newest(symbol, exchange, now_ms)

    def newest(self, symbol: str, exchange: str | None, now_ms: int) -> Tick | None:
        """`latest`, at once."""
        best: tuple[int, int] = (now_ms - self.retention_ms, 1 << 62)
        found = None
        for name, series in self._chosen(symbol, exchange):
            if (series.last_time_ms, series.last_number) > best:
                best, found = (series.last_time_ms, series.last_number), (name, series)
        if found is None:
            return None
        name, series = found
        return Tick(exchange=name, symbol=symbol, price=series.last_price, time_ms=series.last_time_ms)

    async def span(self, symbol: str, exchange: str | None, since_ms: int, now_ms: int) -> Span | None:
        return self.of(symbol, exchange, since_ms, now_ms)

    def of(self, symbol: str, exchange: str | None, since_ms: int, now_ms: int) -> Span | None:
        """`span`, at once."""
        since_ms = max(since_ms, now_ms - self.retention_ms)
        chosen = self._chosen(symbol, exchange)
        while True:
            found, begins_ms = Totals(), since_ms
            for _, series in chosen:
                totals, begins = series.totals(since_ms, now_ms)
                found.merge(totals)
                begins_ms = max(begins_ms, begins)
            if begins_ms == since_ms:
                return Span(totals=found, since_ms=since_ms) if found.count else None
            since_ms = begins_ms  # one of them knows no more of that second: so all begin after it

    async def ticks(self, symbol: str, exchange: str, since_ms: int, now_ms: int) -> list[Tick]:
        found = []
        for _, series in self._chosen(symbol, exchange):
            for number in sorted(series.seconds):
                second = series.seconds[number]
                if second.times is None or (number + 1) * SECOND_MS <= since_ms:
                    continue
                digits = second.totals.digits
                inside = [
                    (time_ms, price)
                    for time_ms, price in zip(second.times, second.prices, strict=True)
                    if since_ms < time_ms <= now_ms
                ]
                inside.sort(key=lambda each: each[0])
                found += [
                    Tick(exchange=exchange, symbol=symbol, price=unscaled(price, digits), time_ms=time_ms)
                    for time_ms, price in inside
                ]
        return found

    def slots(self, now_ms: int) -> Iterator[Slot]:
        """The seconds of the retention whose ticks are there."""
        oldest = now_ms - self.retention_ms
        for symbol, own in self._series.items():
            for exchange, series in own.items():
                for number, second in series.seconds.items():
                    if second.times is not None and (number + 1) * SECOND_MS > oldest:
                        yield Slot(number, symbol, exchange)

    def batches(self, slot: Slot, most: int, numbers: Callable[[int], int]) -> list[Batch]:
        """A second's ticks as they are now, at most `most` in a batch; none where they were let go.

        They are numbered anew, below the wall clock's microseconds, which new ticks are numbered by: what comes later
        sorts behind them. Where a second has too many for that, `numbers` gives the first of so many.
        """
        series = self._series.get(slot.symbol, {}).get(slot.exchange)
        second = None if series is None else series.seconds.get(slot.second)
        if second is None or second.times is None:
            return []
        times, prices = second.times, second.prices
        first = slot.second << _SLOT_BITS if len(times) <= 1 << _SLOT_BITS else numbers(len(times))
        return [
            Batch(
                exchange=slot.exchange,
                symbol=slot.symbol,
                times=times[start : start + most],
                prices=prices[start : start + most],
                digits=second.totals.digits,
                number=first + start,
            )
            for start in range(0, len(times), most)
        ]

    async def close(self) -> None:
        return None
