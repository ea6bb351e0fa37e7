"""What a faulty venue sends in place of its ticker: bytes that a careful client refuses. Pure."""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import replace
from functools import cache

from simulator.faults import (
    Bomb,
    Deep,
    Duplicate,
    Empty,
    Hostile,
    Malformed,
    Million,
    NotUtf8,
    PlainText,
    RateLimited,
    Redirect,
    ServerError,
    WebPage,
)
from simulator.reply import Reply

UNPACKED_BYTES = 64 * 1024 * 1024
ELEMENTS = 1_000_000
DEPTH = 50_000
_PAGE = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Are you human?</body></html>"


def hostile(fault: Hostile, sound: Reply) -> Reply:  # noqa: PLR0911 - a line for each fault
    """The answer that `fault` makes of `sound`."""
    kind = fault.kind
    match fault:
        case RateLimited():
            headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
            return Reply(429, b'{"error":"Too Many Requests"}', kind, headers)
        case ServerError():
            return Reply(500, b'{"error":"Internal Server Error"}', kind)
        case Redirect():
            return Reply(302, b"", kind, {"Location": fault.location})
        case Bomb():
            return Reply(200, _bomb(), kind, {"Content-Encoding": "gzip"})
        case WebPage():
            return Reply(200, _PAGE, kind, content_type="text/html")
        case PlainText():
            return replace(sound, outcome=kind, content_type="text/plain")
        case _:
            return Reply(200, _body(fault, sound.body), kind)


def _body(fault: Malformed | Empty | Duplicate | NotUtf8 | Million | Deep, sound: bytes) -> bytes:
    match fault:
        case Malformed():
            return sound[: len(sound) // 2]
        case Empty():
            return b""
        case Duplicate():
            return _beside(sound, b'{"key":1,"key":2}')
        case NotUtf8():
            return _beside(sound, b'"\xff\xfe\xc3("')
        case Million():
            return _beside(sound, _million())
        case Deep():
            return _beside(sound, b"[" * DEPTH + b"]" * DEPTH)


def _beside(sound: bytes, value: bytes) -> bytes:
    """`sound` with one more value at its end: under a name of its own in an object, as the last of a list."""
    head, closing = sound[:-1], sound[-1:]
    return head + (b',"more":' if closing == b"}" else b",") + value + closing


@cache
def _million() -> bytes:
    return b"[" + b",".join([b"0"] * ELEMENTS) + b"]"


@cache
def _bomb() -> bytes:
    """Packed once and repeated: to pack all of it would hold every venue up for a second and more."""
    part = b" " * 1024 * 1024
    parts = UNPACKED_BYTES // len(part)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(part) + packer.flush(zlib.Z_FULL_FLUSH)  # which leaves nothing to refer back to
    checksum = 0
    for _ in range(parts):
        checksum = zlib.crc32(part, checksum)
    header = gzip.compress(b"", mtime=0)[:10]
    return header + packed * parts + packer.flush() + struct.pack("<LL", checksum, UNPACKED_BYTES)
