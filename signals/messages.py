"""What a reporter sends: that it is there, what it has produced, that it leaves. Each is signed with its key.

The signature covers the very bytes that are sent. A message names its receiver and its time, and is taken only once, so
that it cannot be played again, here or elsewhere.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import msgspec
from eth_utils.crypto import keccak
from msgspec import Meta, Struct

from contracts.errors import InvalidSignatureError
from contracts.report import Signer, recover
from core import codec
from core.reporting import Trouble
from signals.errors import MessageRefusedError, WrongKeyError

PREFIX = b"\x19Fairmark signal message:\n"
"""EIP-191 leaves the bytes after 0x19 to a registry that has no `F`: no such message is a transaction or typed data."""
MAX_BYTES = 16_384
MAX_DEPENDS = 64
MAX_DETAIL = 500

NAME = r"^[a-z][a-z0-9-]{0,30}$"
Name = Annotated[str, Meta(pattern=NAME)]
Word = Annotated[str, Meta(max_length=128)]
Millis = Annotated[int, Meta(ge=0, le=2**48)]


class Registration(Struct, frozen=True, kw_only=True, tag="registration/1", forbid_unknown_fields=True):
    """A reporter is there, and will produce for `feed` once in each period. to: the trader's name. instance: of the
    process. depends: every name its productions are made of, however far down."""

    to: Name
    feed: Name
    name: Name
    at_ms: Millis
    period_ms: Annotated[int, Meta(ge=1, le=86_400_000)]
    instance: Word
    depends: Annotated[tuple[Word, ...], Meta(max_length=MAX_DEPENDS)] = ()


class Production(Struct, frozen=True, kw_only=True, tag="production/1", forbid_unknown_fields=True):
    """A reporter's word for one slot: a value made of data as old as `data_ms`, or what keeps it from one."""

    to: Name
    feed: Name
    name: Name
    at_ms: Millis
    slot_ms: Millis
    value: Decimal | None = None
    data_ms: Millis | None = None
    trouble: Trouble | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.trouble is None) or (self.value is None) != (self.data_ms is None):
            raise ValueError("a production is a value and its data's time, or a trouble")
        one = self.trouble
        if one is None:
            return
        if len(one.detail) > MAX_DETAIL or len(one.via) > MAX_DEPENDS or max(map(len, (one.who, *one.via))) > 128:
            raise ValueError("a trouble has a short detail, and names of at most 128 characters")
        if not 0 <= one.since_ms <= self.at_ms:
            raise ValueError("a trouble began before it is told")


class Leave(Struct, frozen=True, kw_only=True, tag="leave/1", forbid_unknown_fields=True):
    """A reporter's process ends on purpose: the reporter counts no more, unless another instance of it has registered
    since."""

    to: Name
    feed: Name
    name: Name
    at_ms: Millis
    instance: Word


Message = Registration | Production | Leave


def digest(body: bytes) -> bytes:
    """The 32 bytes under a message's signature."""
    return keccak(PREFIX + str(len(body)).encode() + b"\n" + body)


def signed(message: Message, signer: Signer) -> tuple[bytes, str]:
    """A message as it is sent, and its signature."""
    body = codec.encode(message)
    return body, signer.sign(digest(body))


def opened(body: bytes, signature: str) -> tuple[Message, str]:
    """A message and its signer's address, lower-case. Raises `MessageRefusedError` or `WrongKeyError`."""
    if len(body) > MAX_BYTES:
        raise MessageRefusedError(f"a message of {len(body)} bytes is longer than {MAX_BYTES}")
    try:
        signer = recover(digest(body), signature).lower()
    except InvalidSignatureError as error:
        raise WrongKeyError(f"not signed: {error}") from None
    try:
        return codec.decode(body, Message), signer  # type: ignore[arg-type]
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise MessageRefusedError(f"not a message: {error}") from None
