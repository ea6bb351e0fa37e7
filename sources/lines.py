"""Newline-delimited JSON, `{"symbol": "BTCUSDT", "price": 65000.1, "timestamp": 1710328245391}`: pure, and bounded.

Lines are decoded by the chunk: one call for a thousand sound ones costs less than a microsecond a line. Only where a
chunk holds something that is not sound is each of its lines looked at for itself.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Struct

from core.codec import decode_unique
from core.types import MAX_PRICE, MIN_PRICE, FailureCode
from sources.parse import EARLIEST_MS, LATEST_MS, MAX_DIGITS
from sources.stream_shape import check_depth_fast

MAX_LINE_BYTES = 1_000_000
"""A line is a hundred bytes. One that is longer than this is skipped up to its end, and none of it is kept."""

_MEMBERS = 3
_ORDINARY_BYTES = Decimal(MAX_DIGITS * "1").__sizeof__()
"""What a price of `MAX_DIGITS` digits takes in memory: one that takes more has more."""


class LineTick(Struct, frozen=True, gc=False):
    """One line. symbol: as its sender writes it. price: positive. time_ms: the sender's time since the Unix epoch."""

    symbol: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
    price: Decimal
    time_ms: Annotated[int, msgspec.Meta(ge=EARLIEST_MS, lt=LATEST_MS)] = msgspec.field(name="timestamp")


_decoder = msgspec.json.Decoder(LineTick)


class LineReader:
    """What comes over one connection, in chunks that end anywhere, to ticks in the order they came in.

    bad: how many lines were skipped so far, by why: not JSON or not of this shape (`MALFORMED`), a price that can be
    none (`INVALID_PRICE`), longer than `MAX_LINE_BYTES` (`TOO_LARGE`). Blank lines count for nothing.
    """

    def __init__(self) -> None:
        self.bad: Counter[FailureCode] = Counter()
        self.detail = ""
        """What was wrong with the last bad line."""
        self._tail = bytearray()
        self._skipping = False

    def forget(self) -> None:
        """The connection is a new one: the old one's last line will never end."""
        self._tail.clear()
        self._skipping = False

    def feed(self, chunk: bytes) -> list[LineTick]:
        """The ticks of all lines that end in `chunk`, which is no longer than `MAX_LINE_BYTES`. Raises nothing."""
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._keep(chunk)
            return []
        start = 0
        if self._skipping:
            start, self._skipping = chunk.find(b"\n") + 1, False
        elif len(self._tail) + chunk.find(b"\n") > MAX_LINE_BYTES:
            start = chunk.find(b"\n") + 1
            self._too_large()
        whole = chunk[start:end]
        if self._tail:
            whole = bytes(self._tail + whole)
            self._tail.clear()
        if end < len(chunk):
            self._keep(chunk[end:])
        return self._read(whole) if whole else []

    def _keep(self, rest: bytes) -> None:
        """The beginning of a line whose end has not come."""
        if self._skipping:
            return
        self._tail += rest
        if len(self._tail) > MAX_LINE_BYTES:
            self._too_large()
            self._skipping = True

    def _too_large(self) -> None:
        self._tail.clear()
        self._skip(FailureCode.TOO_LARGE, f"a line of more than {MAX_LINE_BYTES} bytes")

    def _read(self, whole: bytes) -> list[LineTick]:
        try:
            check_depth_fast(whole)
            ticks = _decoder.decode_lines(whole)
            prices = [tick.price for tick in ticks]
            sound = not ticks or (
                min(prices) >= MIN_PRICE  # a comparison with NaN raises
                and max(prices) <= MAX_PRICE
                and max(map(Decimal.__sizeof__, prices)) <= _ORDINARY_BYTES
                # all three members stand in each: so none stands there twice
                and whole.count(b":") == _MEMBERS * len(ticks)
                and whole.count(b"\n") == len(ticks)
            )
        except (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError):
            sound = False
        if sound:
            return ticks
        return [tick for line in whole.split(b"\n") if line.strip() and (tick := self._one(line)) is not None]

    def _one(self, line: bytes) -> LineTick | None:
        try:
            decode_unique(line)
            tick = _decoder.decode(line)
            possible = tick.price.is_finite() and MIN_PRICE <= tick.price <= MAX_PRICE
        except (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError) as error:
            self._skip(FailureCode.MALFORMED, str(error))
            return None
        if not possible or tick.price.__sizeof__() > _ORDINARY_BYTES:
            self._skip(FailureCode.INVALID_PRICE, f"{tick.symbol}: {tick.price!s:.60} can be no price")
            return None
        return tick

    def _skip(self, code: FailureCode, detail: str) -> None:
        self.bad[code] += 1
        self.detail = detail[:200]
