"""One source's body to a ticker: pure, and never more trusting than the bytes allow.

Numbers are read from their digits, whether the source writes them as JSON numbers or as strings. What a body is, its
bytes say: exchanges send JSON under many content types, and error pages under JSON's. A body that names a key twice, is
no UTF-8, is nested without end or longer than `MAX_BODY_BYTES` is refused whole.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from jmespath.exceptions import JMESPathError
from msgspec import Struct

from core.codec import decode_unique
from core.errors import InvalidPriceError
from core.types import checked_price
from sources.entries import Expressions, SourceEntry, TimeUnit
from sources.errors import EmptyBodyError, InvalidNumberError, MalformedBodyError
from sources.paths import BodyPath

MAX_BODY_BYTES = 256 * 1024
"""A ticker is a few hundred bytes; what is longer than this is none."""
MAX_CONTAINERS = 4_096
"""Lists and objects in one body. A ticker has a dozen; checking how deep a hundred thousand nest holds up the loop."""
MAX_DIGITS = 100
"""No price has so many: a number of a hundred thousand digits is a burden to whoever it is passed on to."""
MAX_VOLUME = Decimal(10) ** 20
"""Of anything in a day. A source's word for more would be weighed, and overflow where it is multiplied."""
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


class Ticker(Struct, frozen=True, kw_only=True, gc=False):
    """What a body says, before it is judged. Prices are positive and in the pair's quote currency.

    bid, ask: both or neither. time_ms: the source's own time, rounded down, or None where its body carries none.
    volume: what was traded in the last 24 hours (with some sources: in the last trade), in the base currency, zero or
    more; None where the source does not say.
    """

    last: Decimal
    bid: Decimal | None = None
    ask: Decimal | None = None
    time_ms: int | None = None
    volume: Decimal | None = None


def parse_ticker(entry: SourceEntry, pair: str, body: bytes) -> Ticker:
    """Read `body` as `entry` says its tickers look.

    Raises `MalformedBodyError` (not JSON, not of that shape, an error message, another symbol), `EmptyBodyError`
    (nothing in it, or none of the prices), `InvalidNumberError` (a price that can be none) or `UnsupportedPairError`.
    """
    paths = entry.expressions(pair)
    tree = decode_body(body)
    refuse_error(paths.error, tree)
    return ticker_from(entry, pair, tree, paths, unit=entry.ticker.time_unit)


def refuse_error(path: BodyPath | None, tree: Any) -> None:
    """Raises `MalformedBodyError` where `tree` is an error message."""
    if path is not None and (message := _search(path, tree)):
        raise MalformedBodyError(f"the source answers with an error: {shown(message)}")


def ticker_from(
    entry: SourceEntry, pair: str, tree: Any, paths: Expressions, *, unit: TimeUnit, time: Any = None
) -> Ticker:
    """The ticker of `pair` that stands in a decoded body, or in one item of it.

    time: the body's, where items carry none of their own (None: `paths` say where). Raises as `parse_ticker` does.
    """
    last, bid, ask = (None if path is None else _search(path, tree) for path in (paths.last, paths.bid, paths.ask))
    if last in _MISSING and bid in _MISSING and ask in _MISSING:
        raise EmptyBodyError("none of the ticker's prices is there")
    if paths.symbol_echo is not None and (echo := _search(paths.symbol_echo, tree)) != entry.symbol(pair):
        raise MalformedBodyError(f"asked for {entry.symbol(pair)}, and the body is about {shown(echo)}")
    ticker = Ticker(
        last=_price("last", last),
        bid=None if paths.bid is None else _price("bid", bid),
        ask=None if paths.ask is None else _price("ask", ask),
        time_ms=(None if time is None else _time(time, unit))
        if paths.time is None
        else _time(_search(paths.time, tree), unit),
        volume=None if paths.volume is None else _volume(_search(paths.volume, tree)),
    )
    return turned_over(ticker) if entry.is_inverse(pair) else ticker


def turned_over(ticker: Ticker) -> Ticker:
    """The same market with base and quote exchanged, to the 28 digits of `Decimal`'s context.

    Raises `InvalidNumberError` where one over a price can be none.
    """
    return Ticker(
        last=_price("last", 1 / ticker.last),
        bid=None if ticker.ask is None else _price("bid", 1 / ticker.ask),
        ask=None if ticker.bid is None else _price("ask", 1 / ticker.bid),
        time_ms=ticker.time_ms,
        volume=None if ticker.volume is None else ticker.volume * ticker.last,
    )


def decode_body(body: bytes) -> Any:
    """A ticker's bytes as plain values. Raises `MalformedBodyError`, `EmptyBodyError`."""
    if len(body) > MAX_BODY_BYTES:
        raise MalformedBodyError(f"{len(body)} bytes are more than a ticker's")
    if not body.strip():
        raise EmptyBodyError("no bytes")
    if body.count(b"[") + body.count(b"{") > MAX_CONTAINERS:
        raise MalformedBodyError(f"more than {MAX_CONTAINERS} lists and objects are more than a ticker's")
    try:
        tree = decode_unique(body)
    except (msgspec.MsgspecError, ValueError, ArithmeticError) as error:
        if body.lstrip()[:1] == b"<":
            raise MalformedBodyError("markup, as of a web page, where JSON was asked for") from error
        raise MalformedBodyError(f"not JSON: {shown(str(error))}") from error
    if tree is None or tree in ({}, [], ""):
        raise EmptyBodyError("an empty JSON value")
    return tree


def _search(path: BodyPath, tree: Any) -> Any:
    try:
        return path.search(tree)
    except (JMESPathError, TypeError, ValueError, ArithmeticError, AttributeError, KeyError) as error:
        raise MalformedBodyError(f"not of the declared shape: {shown(str(error))}") from error


def _price(what: str, value: Any) -> Decimal:
    try:
        return checked_price(_number(what, value))
    except InvalidPriceError as error:
        raise InvalidNumberError(f"{what}: {error}") from error


def _volume(value: Any) -> Decimal | None:
    if value in _MISSING:
        return None
    volume = _number("volume", value)
    if not volume.is_finite() or not 0 <= volume <= MAX_VOLUME:
        raise InvalidNumberError(f"volume: {shown(str(volume))} is not zero or more, or is absurd")
    return volume


def _number(what: str, value: Any) -> Decimal:
    if isinstance(value, Decimal):
        if len(str(value)) > MAX_DIGITS:  # as text it would not get past `_NUMBER` either
            raise MalformedBodyError(f"{what}: a number of more than {MAX_DIGITS} digits")
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, str):
        if _NUMBER.fullmatch(value):
            return Decimal(value)
        if _NO_NUMBER.fullmatch(value):
            raise InvalidNumberError(f"{what}: {value} is not a finite number")
    raise MalformedBodyError(f"{what}: {shown(value)} is not a number")


def _time(value: Any, unit: TimeUnit) -> int:
    if unit == "iso8601":
        ms = _iso8601(value)
    else:
        number = _number("time", value)
        # compared before it is made an integer: 1e999 would become one with a thousand digits
        in_range = number.is_finite() and 0 <= number <= Decimal(10) ** 20
        ms = int(number * _PER_MS[unit]) if in_range else -1
    if not EARLIEST_MS <= ms < LATEST_MS:
        raise MalformedBodyError(f"time: {shown(value)} is no time in {unit}")
    return ms


def _iso8601(value: Any) -> int:
    if not isinstance(value, str) or len(value) > 40:
        raise MalformedBodyError(f"time: {shown(value)} is no ISO 8601 time")
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise MalformedBodyError(f"time: {shown(value)} names no time zone")
        return (moment - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError) as error:
        raise MalformedBodyError(f"time: {shown(value)} is no ISO 8601 time") from error


def shown(value: object) -> str:
    """`value` for a message: a stranger's text, so printable, and short."""
    text = value if isinstance(value, str) else type(value).__name__ if isinstance(value, dict | list) else str(value)
    return repr(text[:120])
