"""What crosses the bus. Every message is versioned by its tag, validated when it is decoded, and has an id.

A change that an older reader would misread is a new tag (`job/2`), never a new meaning for an old one.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec
from msgspec import Struct

from broker.errors import MalformedMessageError
from core import codec
from core.types import Mode, Pair, Quote, SignedReport, SourceFailure

MAX_MESSAGE_BYTES = 1_000_000


class Job(Struct, frozen=True, kw_only=True, tag="job/1", forbid_unknown_fields=True):
    """An aggregator asks every fetcher: what were the prices of `group` at `moment`?

    budget_ms: relative to receipt; the report must be published 150 ms before it ends at the latest.
    """

    id: str
    attempt: str
    deployment: str
    mode: Mode
    group: str
    moment: int
    budget_ms: int


class Report(Struct, frozen=True, kw_only=True, tag="report/1", forbid_unknown_fields=True):
    """A fetcher's answer: its signed report and, for the record, what it was made of.

    answers: for each feed that has a price, the fetcher's own median. quotes and failures together cover every source
    asked; the quotes are as read, before conversion.
    """

    id: str
    attempt: str
    deployment: str
    mode: Mode
    fetcher: str
    instance: str
    signed: SignedReport
    answers: dict[str, Decimal]
    quotes: tuple[Quote, ...]
    failures: tuple[SourceFailure, ...]
    elapsed_ms: int


class Refusal(Struct, frozen=True, kw_only=True, tag="refusal/1", forbid_unknown_fields=True):
    """A fetcher's answer when it does not sign: why, and what it saw. The aggregator need not wait for it."""

    id: str
    attempt: str
    deployment: str
    mode: Mode
    fetcher: str
    instance: str
    reporter: str
    moment: int
    code: str
    detail: str
    quotes: tuple[Quote, ...]
    failures: tuple[SourceFailure, ...]
    elapsed_ms: int


class Hint(Struct, frozen=True, kw_only=True, tag="hint/1", forbid_unknown_fields=True):
    """A reporter saw a price leave its feed's deviation threshold between rounds.

    price: scaled by the feed's decimals. signature: over `contracts.report.hint_digest`, r and vs as 0x-hex.
    """

    id: str
    deployment: str
    mode: Mode
    group: str
    pair: Pair
    price: int
    moment: int
    previous_moment: int
    reporter: str
    signature: str


Message = Job | Report | Refusal | Hint


def encode(message: Message) -> bytes:
    """Raises `MalformedMessageError` when it would be larger than a message may be."""
    data = codec.encode(message)
    _check_size(data)
    return data


def decode(data: bytes) -> Message:
    """Raises `MalformedMessageError` naming what is wrong and where."""
    _check_size(data)
    try:
        return codec.decode(data, Message)  # type: ignore[arg-type]
    except (msgspec.MsgspecError, ValueError, ArithmeticError) as error:
        raise MalformedMessageError(str(error)) from error


def _check_size(data: bytes) -> None:
    if len(data) > MAX_MESSAGE_BYTES:
        raise MalformedMessageError(f"{len(data)} bytes: a message has at most {MAX_MESSAGE_BYTES}")
