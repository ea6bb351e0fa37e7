"""One source's body to a ticker: pure, and never more trusting than the bytes allow.

Numbers are read from their digits, whether the source writes them as JSON numbers or as strings.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from jmespath.exceptions import JMESPathError
from msgspec import Struct

from core.codec import decode_digits
from core.errors import InvalidPriceError
from core.types import checked_price
from sources.entries import SourceEntry, TimeUnit
from sources.errors import EmptyBodyError, InvalidNumberError, MalformedBodyError
from sources.paths import BodyPath

MAX_BODY_BYTES = 256 * 1024
"""A ticker is a few hundred bytes; what is longer than this is none."""
EARLIEST_MS = 946_684_800_000
"""2000-01-01. A time before it, or after `LATEST_MS`, is one in another unit than the catalogue says."""
LATEST_MS = 4_102_444_800_000
"""2100-01-01."""

_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,60})?([eE][+-]?[0-9]{1,3})?")
_NO_NUMBER = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_PER_MS: dict[TimeUnit, Decimal] = {
    "s": Decimal(1000),
    "ms": Decimal(1),
    "us": Decimal("0.001"),
    "ns": Decimal("0.000001"),
}
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_MISSING = (None, "")


class Ticker(Struct, frozen=True, kw_only=True):
    """What a body says, before it is judged. Prices are positive and in the pair's quote currency.

    bid, ask: both or neither. time_ms: the source's own time, rounded down, or None where its body carries none.
    """

    last: Decimal
    bid: Decimal | None = None
    ask: Decimal | None = None
    time_ms: int | None = None


def parse_ticker(entry: SourceEntry, pair: str, body: bytes) -> Ticker:
    """Read `body` as `entry` says its tickers look.

    Raises `MalformedBodyError` (not JSON, not of that shape, an error message, another symbol), `EmptyBodyError`
    (nothing in it, or none of the prices), `InvalidNumberError` (a price that can be none) or `UnsupportedPairError`.
    """
    paths = entry.expressions(pair)
    tree = _decode(body)
    if paths.error is not None and (message := _search(paths.error, tree)):
        raise MalformedBodyError(f"the source answers with an error: {_shown(message)}")
    last, bid, ask = (None if path is None else _search(path, tree) for path in (paths.last, paths.bid, paths.ask))
    if last in _MISSING and bid in _MISSING and ask in _MISSING:
        raise EmptyBodyError("none of the ticker's prices is there")
    if paths.symbol_echo is not None and (echo := _search(paths.symbol_echo, tree)) != entry.symbol(pair):
        raise MalformedBodyError(f"asked for {entry.symbol(pair)}, and the body is about {_shown(echo)}")
    return Ticker(
        last=_price("last", last),
        bid=None if paths.bid is None else _price("bid", bid),
        ask=None if paths.ask is None else _price("ask", ask),
        time_ms=None if paths.time is None else _time(_search(paths.time, tree), entry.ticker.time_unit),
    )


def _decode(body: bytes) -> Any:
    if len(body) > MAX_BODY_BYTES:
        raise MalformedBodyError(f"{len(body)} bytes are more than a ticker's")
    if not body.strip():
        raise EmptyBodyError("no bytes")
    try:
        tree = decode_digits(body)
    except (msgspec.MsgspecError, ValueError, ArithmeticError) as error:
        raise MalformedBodyError(f"not JSON: {_shown(str(error))}") from error
    if tree is None or tree in ({}, [], ""):
        raise EmptyBodyError("an empty JSON value")
    return tree


def _search(path: BodyPath, tree: Any) -> Any:
    try:
        return path.search(tree)
    except (JMESPathError, TypeError, ValueError, ArithmeticError, AttributeError, KeyError) as error:
        raise MalformedBodyError(f"not of the declared shape: {_shown(str(error))}") from error


def _price(what: str, value: Any) -> Decimal:
    try:
        return checked_price(_number(what, value))
    except InvalidPriceError as error:
        raise InvalidNumberError(f"{what}: {error}") from error


def _number(what: str, value: Any) -> Decimal:
    if isinstance(value, Decimal):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, str):
        if _NUMBER.fullmatch(value):
            return Decimal(value)
        if _NO_NUMBER.fullmatch(value):
            raise InvalidNumberError(f"{what}: {value} is not a finite number")
    raise MalformedBodyError(f"{what}: {_shown(value)} is not a number")


def _time(value: Any, unit: TimeUnit) -> int:
    if unit == "iso8601":
        ms = _iso8601(value)
    else:
        number = _number("time", value)
        # compared before it is made an integer: 1e999 would become one with a thousand digits
        in_range = number.is_finite() and 0 <= number <= Decimal(10) ** 20
        ms = int(number * _PER_MS[unit]) if in_range else -1
    if not EARLIEST_MS <= ms < LATEST_MS:
        raise MalformedBodyError(f"time: {_shown(value)} is no time in {unit}")
    return ms


def _iso8601(value: Any) -> int:
    if not isinstance(value, str) or len(value) > 40:
        raise MalformedBodyError(f"time: {_shown(value)} is no ISO 8601 time")
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise MalformedBodyError(f"time: {_shown(value)} names no time zone")
        return (moment - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError) as error:
        raise MalformedBodyError(f"time: {_shown(value)} is no ISO 8601 time") from error


def _shown(value: object) -> str:
    """`value` for a message: a stranger's text, so printable, and short."""
    text = value if isinstance(value, str) else type(value).__name__ if isinstance(value, dict | list) else str(value)
    return repr(text[:120])
