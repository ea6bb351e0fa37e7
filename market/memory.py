"""The window in this process: 16 bytes a tick. Beyond `max_ticks` the oldest seconds keep their totals only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from market.series import SECOND_MS, Second, Series
from market.ticks import Batch, Tick, unscaled
from market.totals import Totals
from market.window import Span


class Piece(NamedTuple):
    """The ticks of a second from `start` to `size`; it may grow or be let go before they are read."""

    exchange: str
    symbol: str
    second: Second
    size: int
    start: int = 0

    def batches(self, most: int, numbers: Callable[[int], int]) -> Iterator[Batch]:
        """In batches of at most `most`, with new arrival numbers."""
        for start in range(self.start, self.size, most):
            times, prices = self.second.times, self.second.prices
            if times is None:
                return
            end = min(start + most, self.size)
            yield Batch(
                exchange=self.exchange,
                symbol=self.symbol,
                times=times[start:end],
                prices=prices[start:end],
                digits=self.second.totals.digits,
                number=numbers(end - start),
            )


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

    def pieces(self, now_ms: int, written: Mapping[Second, int]) -> list[Piece]:
        """All ticks that are there now, the oldest of each series first, to write them elsewhere bit by bit.

        written: how many ticks of a second are there already; its piece begins behind them.
        """
        oldest = now_ms - self.retention_ms
        return [
            Piece(exchange, symbol, second, len(second.times), written.get(second, 0))
            for symbol, own in self._series.items()
            for exchange, series in own.items()
            for number, second in sorted(series.seconds.items())
            if second.times is not None and (number + 1) * SECOND_MS > oldest
        ]

    async def close(self) -> None:
        return None
