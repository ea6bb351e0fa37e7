"""What crosses the bus. Every message is versioned by its tag, validated when it is decoded, and has an id.

A change that an older reader would misread is a new tag (`job/2`), never a new meaning for an old one.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from broker.errors import MalformedMessageError
from core import codec
from core.types import Mode, Pair, Quote, SignedReport, SourceFailure

MAX_MESSAGE_BYTES = 1_000_000
MAX_DETAIL = 500
"""Characters of a detail. Senders cut it; a longer one is refused."""
MAX_SIGNED_TEXT = 132
"""Characters of a text in a signed report: a signature of 65 bytes in hex takes as many."""
MAX_FEEDS = 256
"""Prices in one report: the contract names a feed's median by one byte a feed."""

Word = Annotated[str, Meta(max_length=128)]
"""An id, a name, a code, an address: what receivers keep and compare."""
Millis = Annotated[int, Meta(ge=0, le=2**48)]
Answers = Annotated[dict[str, Decimal], Meta(max_length=MAX_FEEDS)]
Observed = Annotated[dict[Annotated[str, Meta(max_length=32)], tuple[int, ...]], Meta(max_length=1_024)]
Quotes = Annotated[tuple[Quote, ...], Meta(max_length=4_096)]
Failures = Annotated[tuple[SourceFailure, ...], Meta(max_length=4_096)]


class Job(Struct, frozen=True, kw_only=True, tag="job/1", forbid_unknown_fields=True):
    """An aggregator asks every fetcher: what were the prices of `group` at `moment`?

    budget_ms: relative to receipt; the report must be published 150 ms before it ends at the latest.
    """

    id: Word
    attempt: Word
    deployment: Word
    mode: Mode
    group: str
    moment: int
    budget_ms: int


class Report(Struct, frozen=True, kw_only=True, tag="report/2", forbid_unknown_fields=True):
    """A fetcher's answer: its signed report and, for the record, what it was made of.

    answers: for each feed observed, what is signed for it: a price, or, where that is called unchanged, the standing
    answer. quotes and failures together cover every source asked; the quotes are as read, before conversion. observed:
    for each feed or conversion rate, the indexes of the quotes that counted for it. The signed evidence root covers all
    but `id` and `attempt`: see `contracts.evidence`.
    """

    id: Word
    attempt: Word
    deployment: Word
    mode: Mode
    fetcher: Word
    instance: Word
    signed: SignedReport
    answers: Answers
    quotes: Quotes
    failures: Failures
    observed: Observed
    elapsed_ms: Millis

    def __post_init__(self) -> None:
        """Raises `ValueError` for a signed report of a size that no group has: receivers keep it whole."""
        signed = self.signed
        for name in ("group", "group_hash", "reporter", "signature", "evidence_root"):
            if len(getattr(signed, name)) > MAX_SIGNED_TEXT:
                raise ValueError(f"signed.{name} has more than {MAX_SIGNED_TEXT} characters")
        if len(signed.prices) > MAX_FEEDS:
            raise ValueError(f"{len(signed.prices)} prices: a report has at most {MAX_FEEDS}")
        numbers = (*signed.prices, signed.moment, signed.previous_moment)
        if signed.unchanged.bit_length() > MAX_FEEDS or any(number.bit_length() > 64 for number in numbers):
            raise ValueError("signed: a number is larger than its place in a report")


MOMENT_TOO_FAR = "moment_too_far"
"""A refusal's code: the job's moment is too far from the fetcher's own clock. Where many say so, the job's sender's
clock is wrong."""


class Refusal(Struct, frozen=True, kw_only=True, tag="refusal/1", forbid_unknown_fields=True):
    """A fetcher's answer when it does not sign: why, and what it saw. The aggregator need not wait for it."""

    id: Word
    attempt: Word
    deployment: Word
    mode: Mode
    fetcher: Word
    instance: Word
    reporter: Word
    moment: int
    code: Word
    detail: Annotated[str, Meta(max_length=MAX_DETAIL)]
    quotes: Quotes
    failures: Failures
    elapsed_ms: Millis


class Hint(Struct, frozen=True, kw_only=True, tag="hint/1", forbid_unknown_fields=True):
    """A reporter saw a price leave its feed's deviation threshold between rounds.

    price: scaled by the feed's decimals. signature: over `contracts.report.hint_digest`, r and vs as 0x-hex.
    """

    id: Word
    deployment: Word
    mode: Mode
    group: str
    pair: Pair
    price: int
    moment: int
    previous_moment: int
    reporter: Word
    signature: Annotated[str, Meta(max_length=MAX_SIGNED_TEXT)]


class Leave(Struct, frozen=True, kw_only=True, tag="leave/1", forbid_unknown_fields=True):
    """A fetcher's instance stops on purpose: its silence from now on is no error. A crash does not say so.

    signature: over `contracts.report.leave_digest`, r and vs as 0x-hex.
    """

    id: Word
    deployment: Word
    mode: Mode
    fetcher: Word
    instance: Word
    reporter: Word
    moment: Millis
    signature: Annotated[str, Meta(max_length=MAX_SIGNED_TEXT)]


Message = Job | Report | Refusal | Hint | Leave


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
