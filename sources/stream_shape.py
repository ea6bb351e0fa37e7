"""From a declared message to a decoder of just that: the declared paths become the type that JSON is decoded into.

msgspec builds nothing that a type does not name: the hundred levels of an order book behind `bids[0][0]` are skipped,
not built. Names become a struct's fields, indexes the places of an array-like one. Prices come out as `Decimal` of
their digits, whether they were numbers or texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec

from core.codec import MAX_DEPTH, check_depth
from core.types import Pair
from sources.paths import plain_steps
from sources.stream_entries import MessageFormat, TimeUnit, fill

Steps = tuple[str | int, ...]
EARLIEST_MS = 946_684_800_000
LATEST_MS = 4_102_444_800_000
"""As for tickers over REST: 2000 and 2100. A time outside is one in another unit than declared."""

_FEW_BRACKETS = 1_024
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_THIRDS: Mapping[str, tuple[str | None, ...]] = {
    "ticker": ("last", "bid", "ask"),
    "book": ("bid", "ask", None),
    "trade": ("price", "size", "id"),
}
_OPTIONAL = Decimal | None
"""The one kind of field that an object may be without."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FACTOR: Mapping[TimeUnit, Decimal] = {
    "s": Decimal(1000),
    "ms": Decimal(1),
    "us": Decimal("0.001"),
    "ns": Decimal("0.000001"),
}
_LARGEST_TIME = Decimal(10) ** 20


class Shape:
    """One kind of message. Use: `markers`, `decode`, then take the tree, or each item of `items`, as `access` says.

    access: where its fields are once it is decoded, as attributes of `item` and `tree`: symbol, time, number, volume
    (None where a message has none), and three by what it carries: last, bid, ask; bid, ask; price, size, id. What is
    not declared is not in it.
    int_is_ms: a time that was decoded as an integer is in milliseconds as it stands; else `to_ms` makes it so.
    """

    __slots__ = ("access", "carries", "consecutive", "decode", "int_is_ms", "items", "markers", "symbols", "to_ms")

    def __init__(self, format_: MessageFormat, words: Mapping[Pair, Mapping[str, str]]) -> None:
        """words: the templates' words, by pair."""
        self.carries = format_.carries
        self.consecutive = format_.consecutive
        self.symbols = {fill(format_.symbol_as, dict(each)): pair for pair, each in words.items()}
        self.markers = tuple(_markers(format_))
        self.int_is_ms = format_.time_unit == "ms"
        in_words = format_.time_unit == "iso8601"
        time_type = Annotated[datetime, msgspec.Meta(tz=True)] if in_words else int | Decimal
        self.to_ms: Callable[[Any], int] = _iso_ms if in_words else _number_ms(format_.time_unit)
        root: dict[Steps, Any] = {_steps(path): Literal[value] for path, value in format_.when.items()}
        item: dict[Steps, Any] = {} if format_.each else root
        first, second, third = (None if name is None else getattr(format_, name) for name in _THIRDS[self.carries])
        wanted = {
            "symbol": (format_.symbol, str),
            "time": (format_.time, time_type),
            "number": (format_.sequence, int | str),
            "first": (first, Decimal),
            "second": (second, Decimal),
            "third": (third, int | str if self.carries == "trade" else Decimal),
            "volume": (format_.volume, _OPTIONAL),
        }
        self.access: dict[str, str] = {}
        for name, (path, kind) in wanted.items():
            if path is not None:
                in_root = path.startswith("$.")
                (root if in_root else item)[_steps(path)] = kind
                self.access[name] = f"{'tree' if in_root else 'item'}.{_attributes(_steps(path))}"
        self.items: Callable[[Any], Any] | None = None
        if format_.each:
            each = _steps(format_.each)
            root[each] = list[_struct(item)]  # type: ignore[misc] # a type made at run time
            self.items = attrgetter(_attributes(each))
        # not strict: a time in digits is an integer, also where it stands as text
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(_struct(root), strict=False).decode


def check_depth_fast(raw: bytes) -> None:
    """As `core.codec.check_depth`, for messages with many brackets on few levels, such as order books.

    Raises `msgspec.DecodeError`. Takes the innermost brackets out, level by level; only where that does not end well
    (brackets inside texts, or too many levels) are the texts looked at.
    """
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return
    left = raw.translate(None, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not left:
            return
        before = len(left)
        left = left.replace(b"[]", b"").replace(b"{}", b"")
        if before > _FEW_BRACKETS and len(left) * 4 > before * 3:
            break  # no wide message but a deep one: the other way ends at its first level too many
    check_depth(raw)


def _markers(format_: MessageFormat) -> Iterable[bytes]:
    """Bytes without which a message cannot be of this kind: cheaper to look for than to try to decode."""
    if format_.marker is not None:
        yield format_.marker.encode()
    for value in format_.when.values():
        if isinstance(value, str):
            yield b'"' + value.encode() + b'"'
    before, *_, after = re.split(r"\{\w+\}", f'"{format_.symbol_as}"')
    yield from (part.encode() for part in (before, after) if len(part) > 1)


def _steps(path: str) -> Steps:
    steps = plain_steps(path.removeprefix("$."))
    assert steps is not None  # noqa: S101 - checked when the catalogue was read
    return steps


def _attributes(steps: Steps) -> str:
    return ".".join(f"f{step}" if isinstance(step, int) else f"f_{step.encode().hex()}" for step in steps)


def _struct(leaves: Mapping[Steps, Any]) -> type:
    """The struct that holds these paths, and whatever is between."""
    tree: dict[str | int, dict[Steps, Any]] = {}
    for steps, kind in leaves.items():
        tree.setdefault(steps[0], {})[steps[1:]] = kind
    kinds = {step: below[()] if () in below else _struct(below) for step, below in tree.items()}
    names = [step for step in kinds if isinstance(step, str)]
    if names and len(names) < len(kinds):
        raise ValueError("a path takes for a list what another takes for an object")
    if names:
        fields: list[Any] = [(_attributes((name,)), kinds[name]) for name in names if kinds[name] is not _OPTIONAL]
        fields += [(_attributes((name,)), _OPTIONAL, None) for name in names if kinds[name] is _OPTIONAL]
        rename = {_attributes((name,)): name for name in names}
        return msgspec.defstruct("Node", fields, rename=rename, gc=False)
    last = max(step for step in kinds if isinstance(step, int)) if kinds else -1
    places = [(f"f{index}", kinds.get(index, msgspec.Raw)) for index in range(last + 1)]
    return msgspec.defstruct("Node", places, array_like=bool(kinds), gc=False)


def _iso_ms(value: datetime) -> int:
    delta = value - _EPOCH
    return delta.days * 86_400_000 + delta.seconds * 1_000 + delta.microseconds // 1_000


def _number_ms(unit: TimeUnit) -> Callable[[int | Decimal], int]:
    factor = _FACTOR[unit]
    times, over = (int(factor), 1) if factor >= 1 else (1, int(1 / factor))

    def to_ms(value: int | Decimal) -> int:
        # compared before it is made an integer: 1e999 would become one with a thousand digits
        if not 0 <= value <= _LARGEST_TIME:
            return -1
        return value * times // over if type(value) is int else int(value * factor)

    return to_ms
