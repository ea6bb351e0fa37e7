"""One body with many markets' tickers, and those that were asked for out of it. Pure.

A list of all markets holds a thousand items of which a handful is wanted. It is taken apart without being decoded:
only the wanted items ever become Python objects, and each by the very rules of a single ticker (`sources.parse`), so
that a broken one costs its own pair and no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from core.codec import MAX_DEPTH, decode_digits
from core.types import Pair
from sources.batch_entries import BatchFormat
from sources.entries import SourceEntry
from sources.errors import EmptyBodyError, MalformedBodyError, ParseError
from sources.parse import Ticker, decode_body, refuse_error, shown, ticker_from

Found = dict[Pair, Ticker | ParseError]
"""What a batch says of each pair asked for: its ticker, or why there is none."""

_HEAD_BYTES = 4096
"""What stands beside the items and is longer than this is no error message, and no time."""

_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{}'))
_ONE_KIND = bytes.maketrans(b"[]{}", b"()()")

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_INNERMOST = re.compile(rb"\{[^{}\[\]]*\}|\[[^{}\[\]]*\]")

_any_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])
_value = msgspec.json.Decoder(msgspec.Raw)


def read_batch(entry: SourceEntry, pairs: Iterable[Pair], body: bytes) -> Found:
    """What `body` says of `pairs`, read as the `[batch]` table of `entry` says.

    Raises `MalformedBodyError` or `EmptyBodyError` where the body as a whole is none.
    """
    form = entry.batch
    assert form is not None  # noqa: S101 - nobody asks a batch of a source that declares none
    if len(body) > form.max_bytes:
        raise MalformedBodyError(f"{len(body)} bytes are more than a batch's")
    if not body.strip():
        raise EmptyBodyError("no bytes")
    _check_depth(body)
    try:
        top = _value.decode(body)
        members = _members(top)
        if members is not None:
            refuse_error(entry.batch_error, _head(members))
        items = _at(top, form.items)
        time = None if form.common_time is None else _plain(_at(top, form.common_time))
        wanted = {pair: entry.batch_symbol(pair) for pair in pairs}
        raws = _by_symbol(items, form, set(wanted.values()))
    except (msgspec.MsgspecError, ValueError) as error:
        raise MalformedBodyError(f"not a batch of the declared shape: {shown(str(error))}") from error
    return {pair: _read(entry, pair, symbol, raws.get(symbol, []), time) for pair, symbol in wanted.items()}


def _read(entry: SourceEntry, pair: Pair, symbol: str, raws: list[msgspec.Raw], time: Any) -> Ticker | ParseError:
    try:
        if not raws:
            raise EmptyBodyError(f"{symbol} is not in the batch")
        if len(raws) > 1:
            raise MalformedBodyError(f"{symbol} is in the batch {len(raws)} times")
        tree = decode_body(bytes(raws[0]))
        return ticker_from(entry, pair, tree, entry.batch_expressions(pair), unit=entry.batch_time_unit, time=time)
    except ParseError as error:
        return error


def _by_symbol(items: msgspec.Raw, form: BatchFormat, wanted: set[str]) -> dict[str, list[msgspec.Raw]]:
    """The wanted items, still as bytes."""
    if form.symbol_echo is None:
        return {symbol: [raw] for symbol, raw in _object(items).items() if symbol in wanted}
    found: dict[str, list[msgspec.Raw]] = {}
    raws = _list.decode(items)
    for raw, item in zip(raws, _names(form.symbol_echo).decode(items), strict=True):
        if item.symbol in wanted:
            found.setdefault(item.symbol, []).append(raw)
    return found


class _Named(msgspec.Struct):
    symbol: Any = None


_named: dict[str, msgspec.json.Decoder[list[_Named]]] = {}


def _names(field: str) -> msgspec.json.Decoder[list[_Named]]:
    """Reads of each item its symbol and nothing else."""
    decoder = _named.get(field)
    if decoder is None:
        kind = msgspec.defstruct("_Named", [("symbol", Any, None)], rename={"symbol": field})
        decoder = _named[field] = msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
    return decoder


def _at(top: msgspec.Raw, names: str | None) -> msgspec.Raw:
    for name in () if names is None else names.split("."):
        members = _object(top)
        if name not in members:
            raise ValueError(f"{name} is not there")
        top = members[name]
    return top


def _object(raw: msgspec.Raw) -> dict[str, msgspec.Raw]:
    """An object's members, still as bytes. Raises `msgspec.DecodeError` where it names a key twice: the decoder would
    keep the last (see `core.codec.decode_unique`)."""
    members = _any_object.decode(raw)
    text = memoryview(raw)
    # what the members take at the least, with quotes, colons, commas and braces; a key named twice takes more
    least = sum(len(key) + 4 + len(memoryview(value)) for key, value in members.items()) + 1
    if members and len(text) != least and _keys(bytes(text)) != len(members):
        raise msgspec.DecodeError("an object names a key twice")
    return members


def _keys(data: bytes) -> int:
    """How many members a valid object names itself, without those of the values in it."""
    inner = _STRING.sub(b"", data).strip()[1:-1]
    changed = 1
    while changed:
        inner, changed = _INNERMOST.subn(b"", inner)
    return inner.count(b":")


def _members(top: msgspec.Raw) -> dict[str, msgspec.Raw] | None:
    return _object(top) if bytes(memoryview(top)[:1]) == b"{" else None


def _head(members: dict[str, msgspec.Raw]) -> dict[str, Any]:
    """The body without its items: what is long is left out."""
    return {name: _plain(raw) for name, raw in members.items() if len(memoryview(raw)) <= _HEAD_BYTES}


def _plain(raw: msgspec.Raw) -> Any:
    """A value that is short; what is not is no time and no message, and reads as None."""
    return None if len(memoryview(raw)) > _HEAD_BYTES else decode_digits(bytes(raw))


def _check_depth(body: bytes) -> None:
    """Raises `MalformedBodyError` where JSON nests too deeply for a decoder that recurses (see `core.codec`).

    In a handful of passes over the bytes, none of them in Python: a tenth of what looking at each bracket costs, which
    with a list of all markets is more than all the rest.
    """
    if b"\\" in body:
        body = _ESCAPE.sub(b"", body)
    # of quotes and brackets alone, a string without brackets is two quotes: taking both out changes no other's side
    structure = body.translate(_ONE_KIND, _NOT_STRUCTURE).replace(b'""', b"")
    if b'"' in structure:
        structure = b"".join(structure.split(b'"')[::2])
    for _ in range(MAX_DEPTH):
        if not structure:
            return
        structure = structure.replace(b"()", b"")  # the innermost level
    if structure:
        raise MalformedBodyError(f"JSON that is nested more than {MAX_DEPTH} levels deep, or not closed")
