"""The window: every tick of the last minutes, per exchange and symbol, and the latest price.

`market.memory` keeps it in this process, `market.redis_window` in Redis; both pass
`tests/contract/test_window_contract.py`. `market.mirror` is what the service uses: memory in front, Redis behind.

A period is `(since, now]`: a tick exactly `period` old does not count. Equal times are in the order of arrival, and
ticks of equal price and time count each for themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from market.ticks import Batch, Tick
from market.totals import Totals


class Span(Struct, frozen=True, kw_only=True):
    """What a period holds. since_ms: where it begins in truth: later than asked where ticks had to be let go."""

    totals: Totals
    since_ms: int


class Slot(NamedTuple):
    """A second of one exchange and symbol. second: counted from the epoch."""

    second: int
    symbol: str
    exchange: str


class Window(Protocol):
    """Keeps ticks of one mode. Raises `WindowUnavailableError` where it cannot."""

    async def add(self, batches: Sequence[Batch], now_ms: int) -> None:
        """Take in ticks, in the order of their arrival."""
        ...

    async def latest(self, symbol: str, exchange: str | None, now_ms: int) -> Tick | None:
        """The newest tick within the retention; of several of one time the one that came last. None: no such tick.

        exchange: None for the newest of all exchanges."""
        ...

    async def span(self, symbol: str, exchange: str | None, since_ms: int, now_ms: int) -> Span | None:
        """What is known of the ticks in `(since_ms, now_ms]`; None where there is none."""
        ...

    async def ticks(self, symbol: str, exchange: str, since_ms: int, now_ms: int) -> list[Tick]:
        """The ticks themselves in `(since_ms, now_ms]`, by time, then arrival."""
        ...

    async def close(self) -> None: ...
