"""JSON for domain types, in one place: `Decimal` as a string of its digits, `Pair` as text, and never a float."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from core.types import Pair

T = TypeVar("T")

MAX_DEPTH = 32
"""How deeply JSON from outside may nest. msgspec's decoder recurses on the C stack and trusts Python's recursion limit,
which the Ethereum libraries raise to 100,000 when they are imported: without this bound, a body of brackets ends the
process with a segmentation fault."""

_STRING_OR_BRACKET = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NESTS = (dict, list)


def _enc_hook(value: object) -> object:
    if isinstance(value, Pair):
        return str.__str__(value)
    raise NotImplementedError(f"cannot encode {type(value).__name__}")


def _dec_hook(kind: type, value: object) -> object:
    if kind is Pair and isinstance(value, str):
        return Pair(value)
    raise NotImplementedError(f"cannot decode {kind}")


_encoder = msgspec.json.Encoder(enc_hook=_enc_hook, decimal_format="string")
_digits = msgspec.json.Decoder(float_hook=Decimal)


def encode(value: object) -> bytes:
    """JSON bytes of a domain value."""
    return _encoder.encode(value)


def decode(data: bytes | str, kind: type[T]) -> T:
    """Read `kind` from JSON. Raises `msgspec.ValidationError` (wrong shape) or `msgspec.DecodeError` (not JSON, or
    nested too deeply)."""
    check_depth(data.encode() if isinstance(data, str) else data)
    return msgspec.json.decode(data, type=kind, dec_hook=_dec_hook)


def decode_digits(data: bytes) -> Any:
    """Read any JSON with every fractional number as `Decimal`, from its digits. Raises `msgspec.DecodeError`."""
    check_depth(data)
    return _digits.decode(data)


def decode_unique(data: bytes) -> Any:
    """As `decode_digits`, and no object may name a key twice. Raises `msgspec.DecodeError`.

    msgspec would keep the last, another reader the first; RFC 8259 (4) calls the outcome unpredictable.

    Costs 1 to 3 µs for a ticker, 6 where its strings hold colons.
    """
    tree = decode_digits(data)
    members = _members(tree)
    # No text names fewer keys than its value holds: where even an upper bound is not above that, none is named twice.
    if data.count(b":") != members and _keys_at_most(data) != members and _keys(data) != members:
        raise msgspec.DecodeError("an object names a key twice")
    return tree


def _members(tree: object) -> int:
    """How many members all objects of a decoded value have together."""
    count = 0
    pending = [tree]
    while pending:
        value = pending.pop()
        if type(value) is dict:  # a decoder's values are of these very types; this is half of a ticker's cost
            count += len(value)
            pending += [each for each in value.values() if type(each) in _NESTS]
        elif type(value) is list:
            pending += [each for each in value if type(each) in _NESTS]
    return count


def _keys_at_most(data: bytes) -> int:
    """A bound on `_keys` without taking strings out: where no space comes before a colon, a key's quote does."""
    spaced = b" :" in data or b"\n:" in data or b"\t:" in data or b"\r:" in data
    return len(data) if spaced else data.count(b'":')


def _keys(data: bytes) -> int:
    """How many members all objects of valid JSON name together: its colons outside strings."""
    return _STRING.sub(b"", data).count(b":")


def check_depth(data: bytes) -> None:
    """Raises `msgspec.DecodeError` where JSON nests too deeply to be given to any decoder that recurses."""
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(data):
        first = data[token.start()]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise msgspec.DecodeError(f"JSON is nested more than {MAX_DEPTH} levels deep")
        elif first in b"]}":
            depth -= 1


def to_builtins(value: object) -> Any:
    """A domain value as plain dicts, lists and strings, as it would look after a trip through JSON."""
    return msgspec.to_builtins(value, enc_hook=_enc_hook)


def convert(value: object, kind: type[T]) -> T:
    """The reverse of `to_builtins`. Raises `msgspec.ValidationError`."""
    return msgspec.convert(value, type=kind, dec_hook=_dec_hook)
