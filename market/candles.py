"""Candles for charts, out of minutes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from msgspec import Struct

from market.minutes import MinuteRow
from market.ticks import EXACT
from market.totals import average_of


class Candle(Struct, frozen=True, kw_only=True):
    """The ticks of one interval. start_ms: where it begins. average: weighted by the minutes' counts, so exact.

    volume: in the base currency, of those sources that tell sizes; None where none does.
    """

    start_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    average: Decimal
    count: int
    volume: Decimal | None
    exchanges: list[str]


def candles(rows: Iterable[MinuteRow], interval_ms: int) -> list[Candle]:
    """One candle for each interval that has a tick, by time. Intervals begin at multiples of their length."""
    by_start: dict[int, list[MinuteRow]] = {}
    for row in rows:
        by_start.setdefault(row.minute_ms - row.minute_ms % interval_ms, []).append(row)
    return [_candle(start, by_start[start]) for start in sorted(by_start)]


def _candle(start_ms: int, rows: list[MinuteRow]) -> Candle:
    count = sum(row.count for row in rows)
    total = Decimal(0)
    volume: Decimal | None = None
    for row in rows:
        total = EXACT.add(total, row.total)
        if row.volume is not None:
            volume = EXACT.add(row.volume, volume or Decimal(0))
    first = min(rows, key=lambda row: (row.open_ms, row.exchange))
    last = max(rows, key=lambda row: (row.close_ms, row.exchange))
    return Candle(
        start_ms=start_ms,
        open=first.open,
        high=max(row.high for row in rows),
        low=min(row.low for row in rows),
        close=last.close,
        average=average_of(total, count),
        count=count,
        volume=volume,
        exchanges=sorted({row.exchange for row in rows}),
    )
