"""What is asked of the market data: latest price, extremes and average over a period, candles.

Up to the window's retention a period is answered from its ticks, to the millisecond. A longer one is answered from
whole minutes: it begins at the first minute that begins within it, and says so; averages weigh minutes by counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from decimal import Decimal
from typing import Protocol

from msgspec import Struct

from core.clock import Clock
from core.types import Mode
from market.candles import Candle, candles
from market.errors import InvalidQuestionError
from market.minutes import MINUTE_MS, MinuteRow
from market.ticks import EXACT, Tick
from market.totals import average_of
from market.window import Window

MAX_CANDLES = 1_500
MAX_HISTORY_MS = 31 * 86_400_000
"""The longest time that one question for candles covers."""


class Minutes(Protocol):
    """The minutes of the mode as they stand: written, waiting, and under way."""

    async def rows(self, symbol: str, exchange: str | None, from_ms: int, to_ms: int) -> Sequence[MinuteRow]:
        """Those that begin in `[from_ms, to_ms)`, by time. Raises `StoreUnavailableError`."""
        ...


class Answer(Struct, frozen=True, kw_only=True):
    """A period's statistics. from_ms: it holds ticks later than that, up to to_ms."""

    symbol: str
    exchange: str | None
    from_ms: int
    to_ms: int
    count: int
    highest: Decimal
    lowest: Decimal
    average: Decimal
    mode: Mode


class NothingThereError(InvalidQuestionError):
    """A sound question about a time in which nothing came."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="no_ticks", status=404)


class Statistics:
    """Answers from one mode's window and minutes. exchanges: those that may be named."""

    def __init__(
        self,
        *,
        mode: Mode,
        symbols: Collection[str],
        exchanges: Callable[[], Collection[str]],
        window: Window,
        minutes: Minutes,
        clock: Clock,
        window_ms: int,
        longest_ms: int,
    ) -> None:
        self.mode = mode
        self.symbols = tuple(symbols)
        self._exchanges = exchanges
        self._window = window
        self._minutes = minutes
        self._clock = clock
        self._window_ms = window_ms
        self.longest_ms = longest_ms
        """The longest period that is answered."""

    def named(self, symbol: str, exchange: str | None) -> tuple[str, str | None]:
        """The symbol and exchange that are meant. Raises `InvalidQuestionError` naming those that are there."""
        own = symbol.upper().replace("-", "")
        if own not in self.symbols:
            known = ", ".join(self.symbols)
            raise InvalidQuestionError(
                f"{symbol[:40]!r} is no symbol here; known: {known}",
                code="unknown_symbol",
                status=400,
                known=self.symbols,
            )
        if exchange is not None:
            exchange = exchange.lower()
            names = sorted(self._exchanges())
            if exchange not in names:
                raise InvalidQuestionError(
                    f"{exchange[:40]!r} is no exchange here; known: {', '.join(names)}",
                    code="unknown_exchange",
                    status=400,
                    known=names,
                )
        return own, exchange

    async def latest(self, symbol: str, exchange: str | None) -> Tick:
        """Raises `NothingThereError` and `InvalidQuestionError`."""
        symbol, exchange = self.named(symbol, exchange)
        found = await self._window.latest(symbol, exchange, self._clock.now_ms())
        if found is None:
            raise NothingThereError(self._nothing(symbol, exchange, self._window_ms))
        return found

    async def over(self, symbol: str, exchange: str | None, period_ms: int) -> Answer:
        """Raises `NothingThereError`, `InvalidQuestionError`, and beyond the window `StoreUnavailableError`."""
        symbol, exchange = self.named(symbol, exchange)
        now_ms = self._clock.now_ms()
        if period_ms > self._window_ms:
            return await self._over_minutes(symbol, exchange, now_ms, period_ms)
        span = await self._window.span(symbol, exchange, now_ms - period_ms, now_ms)
        if span is None:
            raise NothingThereError(self._nothing(symbol, exchange, period_ms))
        totals = span.totals
        return Answer(
            symbol=symbol,
            exchange=exchange,
            from_ms=span.since_ms,
            to_ms=now_ms,
            count=totals.count,
            highest=totals.highest,
            lowest=totals.lowest,
            average=totals.average,
            mode=self.mode,
        )

    async def _over_minutes(self, symbol: str, exchange: str | None, now_ms: int, period_ms: int) -> Answer:
        first_ms = -(-(now_ms - period_ms) // MINUTE_MS) * MINUTE_MS
        rows = await self._minutes.rows(symbol, exchange, first_ms, now_ms + 1)
        if not rows:
            raise NothingThereError(self._nothing(symbol, exchange, period_ms))
        total = Decimal(0)
        for row in rows:
            total = EXACT.add(total, row.total)
        count = sum(row.count for row in rows)
        return Answer(
            symbol=symbol,
            exchange=exchange,
            from_ms=first_ms - 1,
            to_ms=now_ms,
            count=count,
            highest=max(row.high for row in rows),
            lowest=min(row.low for row in rows),
            average=average_of(total, count),
            mode=self.mode,
        )

    async def history(
        self, symbol: str, exchange: str | None, from_ms: int | None, to_ms: int | None, interval_ms: int
    ) -> list[Candle]:
        """Candles that begin in `[from_ms, to_ms)`; the default is the last 60 of them.

        Raises `InvalidQuestionError`, `StoreUnavailableError`."""
        symbol, exchange = self.named(symbol, exchange)
        to_ms = self._clock.now_ms() + 1 if to_ms is None else to_ms
        if from_ms is None:
            from_ms = (to_ms - 1) // interval_ms * interval_ms - 59 * interval_ms
        from_ms = -(-from_ms // interval_ms) * interval_ms
        if from_ms >= to_ms:
            raise InvalidQuestionError("`from` is not before `to`", code="invalid_range", status=422)
        if -(-(to_ms - from_ms) // interval_ms) > MAX_CANDLES or to_ms - from_ms > MAX_HISTORY_MS:
            raise InvalidQuestionError(
                f"too long: at most {MAX_CANDLES} candles and 31 days at once; ask for less, or for a longer interval",
                code="invalid_range",
                status=422,
            )
        end_ms = -(-to_ms // interval_ms) * interval_ms  # the last candle is whole, whatever `to` cuts
        return candles(await self._minutes.rows(symbol, exchange, from_ms, end_ms), interval_ms)

    def _nothing(self, symbol: str, exchange: str | None, period_ms: int) -> str:
        where = f"from {exchange}" if exchange else "from any exchange"
        return f"no price of {symbol} came {where} within the last {period_ms / 1000:g} s in mode {self.mode}"
