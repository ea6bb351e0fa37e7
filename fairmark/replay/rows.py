"""A file of recorded quotes, read as it streams: `time,source,pair,price,volume`, plain or gzip.

A row that cannot be read stops the replay and says where; a row that can be read, but whose price can be none (zero,
negative, NaN, absurd), is a quote that the live rules refuse, and is passed on as such.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, cast

from core.types import Pair
from fairmark.replay.errors import BadRowError, ReplayError
from sources.parse import EARLIEST_MS, LATEST_MS, MAX_DIGITS, MAX_VOLUME

COLUMNS = ("time", "source", "pair", "price", "volume")
MAX_MARKETS = 20_000
"""Different sources and pairs in one file: more of them are no markets, but a column that was mistaken for another."""
MAX_NAME = 100
"""Characters of a source's name. A longer one is a quotation mark that was never closed."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_GZIP = b"\x1f\x8b"


class _Reader(Protocol):
    """A `csv.reader`."""

    @property
    def line_num(self) -> int: ...
    def __iter__(self) -> Iterator[list[str]]: ...
    def __next__(self) -> list[str]: ...


class Market(NamedTuple):
    """Where a quote comes from."""

    source: str
    pair: Pair


Row = tuple[int, Market, Decimal, Decimal | None]
"""Time in ms since the epoch, market, price (any number), volume (None: the row does not say)."""


def rows(path: Path) -> Iterator[Row]:
    """The file's rows, in its order. Raises `BadRowError`, or `ReplayError` where the file itself cannot be read."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            plain = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if packed else raw
            with io.TextIOWrapper(plain, encoding="utf-8-sig", newline="") as text:
                yield from _rows(csv.reader(text, strict=True), str(path))
    except OSError as error:
        raise ReplayError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise ReplayError(f"{path}: the gzip stream is broken: {error}") from error


def _rows(reader: _Reader, file: str) -> Iterator[Row]:
    try:
        header = next(reader, [])
        places, columns = _places(header, file), len(header)
        straight = places == tuple(range(columns))
        markets: dict[tuple[str, str], Market] = {}
        told: str | None = None
        time_ms = 0
        for cells in reader:
            if len(cells) != columns:
                if not cells:
                    continue
                raise BadRowError(file, reader.line_num, "", f"{len(cells)} columns where the header has {columns}")
            when, source, pair, price_, volume_ = cells if straight else [cells[place] for place in places]
            if when != told:
                time_ms = _time(when, file, reader.line_num)
                told = when
            market = markets.get((source, pair))
            if market is None:
                market = markets[source, pair] = _market(source, pair, file, reader.line_num)
                if len(markets) > MAX_MARKETS:
                    raise BadRowError(file, reader.line_num, "source", f"more than {MAX_MARKETS} different markets")
            if "_" in price_ or not price_.isascii():  # digits to Python, and to no exchange
                raise BadRowError(file, reader.line_num, "price", f"{price_[:40]!r} is no number")
            try:
                price = Decimal(price_)
                volume = Decimal(volume_) if volume_ else None
            except InvalidOperation:
                raise _no_number(price_, volume_, file, reader.line_num) from None
            if volume is not None and not (volume.is_finite() and 0 <= volume <= MAX_VOLUME):
                problem = f"{volume_[:40]!r} is no volume: zero or more, or empty"
                raise BadRowError(file, reader.line_num, "volume", problem)
            if len(price_) > MAX_DIGITS:
                raise BadRowError(file, reader.line_num, "price", f"{len(price_)} characters are no price")
            yield time_ms, market, price, volume
    except UnicodeDecodeError as error:
        raise BadRowError(file, reader.line_num + 1, "", f"is not UTF-8 from about here: {error.reason}") from error
    except csv.Error as error:
        raise BadRowError(file, reader.line_num, "", f"is no CSV: {error}") from error


def _places(header: Sequence[str], file: str) -> tuple[int, ...]:
    """Where each column stands. Columns of other names may stand between them."""
    if not header:
        raise ReplayError(f"{file}: nothing on the first line, which names the columns {','.join(COLUMNS)}")
    names = [name.strip().lower() for name in header]
    if missing := [name for name in COLUMNS if names.count(name) != 1]:
        wanted = f"the header names {', '.join(COLUMNS)}, each once"
        raise BadRowError(file, 1, missing[0], f"{wanted}; this one is {','.join(header)[:100]!r}")
    return tuple(names.index(name) for name in COLUMNS)


def _time(text: str, file: str, line: int) -> int:
    """ISO 8601, in UTC where it names no zone; or Unix seconds."""
    try:
        if text.isdigit():
            ms = int(text) * 1000
        elif "T" in text or "-" in text[1:] or ":" in text:
            told = datetime.fromisoformat(text)
            ms = ((told if told.tzinfo else told.replace(tzinfo=UTC)) - _EPOCH) // _MS
        else:
            seconds = Decimal(text)
            # compared before it is made an integer: 1e99999 would become one of so many digits
            ms = int(seconds * 1000) if abs(seconds) <= LATEST_MS else -1
    except (ValueError, OverflowError, InvalidOperation):
        problem = f"{text[:40]!r} is no time: write ISO 8601 (2024-03-13T11:10:45.390Z) or Unix seconds"
        raise BadRowError(file, line, "time", problem) from None
    if not EARLIEST_MS <= ms <= LATEST_MS:
        unit = "; milliseconds? give seconds" if EARLIEST_MS <= ms // 1000 <= LATEST_MS else ""
        raise BadRowError(file, line, "time", f"{text[:40]!r} is not between the years 2000 and 2100{unit}")
    return ms


def _market(source: str, pair: str, file: str, line: int) -> Market:
    name = source.strip()
    if not name or len(name) > MAX_NAME:
        raise BadRowError(file, line, "source", f"{source[:40]!r} is no source's name")
    try:
        return Market(name, Pair(pair.strip()))
    except ValueError:
        raise BadRowError(file, line, "pair", f"{pair[:40]!r} is no pair: write it like 'BTC/USDC'") from None


def _no_number(price: str, volume: str, file: str, line: int) -> BadRowError:
    try:
        Decimal(price)
    except InvalidOperation:
        return BadRowError(file, line, "price", f"{price[:40]!r} is no number")
    return BadRowError(file, line, "volume", f"{volume[:40]!r} is no number")
