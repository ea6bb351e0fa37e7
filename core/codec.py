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
