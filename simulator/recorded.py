"""Replaying real exchanges' recorded bodies, to the byte."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import msgspec

from core.codec import decode_digits
from core.types import Pair
from simulator.errors import RecordingError


class RecordedBody(msgspec.Struct, frozen=True, kw_only=True):
    """The very bytes that `venue` is to answer for `pair`, and what is known to stand in them (None: not known)."""

    venue: str
    pair: Pair
    body: bytes
    last: Decimal | None = None
    bid: Decimal | None = None
    ask: Decimal | None = None
    time_ms: int | None = None


class _File(msgspec.Struct):
    exchange: str
    symbol: str
    response: msgspec.Raw
    expected: msgspec.Raw = msgspec.Raw(b"{}")


Recordings = dict[tuple[str, Pair], RecordedBody]


def load_recordings(folder: Path) -> Recordings:
    """Every `*.json` of `folder`: `exchange`, `symbol`, `response`, and optionally what is `expected` to be read.

    Raises `RecordingError` naming the first file that is not one.
    """
    return by_pair(_load(path) for path in sorted(folder.glob("*.json")))


def by_pair(bodies: Iterable[RecordedBody]) -> Recordings:
    """Bodies by venue and pair; a later one takes the place of an earlier."""
    return {(body.venue, body.pair): body for body in bodies}


def _load(path: Path) -> RecordedBody:
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
        pair = Pair(file.symbol)
        expected = decode_digits(bytes(file.expected))
        return RecordedBody(
            venue=file.exchange,
            pair=pair,
            body=bytes(file.response),
            last=_number(expected.get("last")),
            bid=_number(expected.get("bid")),
            ask=_number(expected.get("ask")),
            time_ms=expected.get("timestamp"),
        )
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise RecordingError(f"{path.name} is no recorded ticker: {error}") from error


def _number(value: Decimal | int | None) -> Decimal | None:
    return None if value is None else Decimal(value)
