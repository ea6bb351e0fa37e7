"""What a report's evidence root commits to: every quote behind it, and all else that its reporter says with it.

The tree is OpenZeppelin's StandardMerkleTree over rows of

    (bytes32 feed, bytes32 source, bytes32 pair, uint256 price, uint48 sourceTimeMs, uint48 receivedMs)

so `verifyObservation` and every tool that knows those trees checks its proofs. A row says: for this feed I counted what
this source said of this pair. Names are as on chain, padded on the right; the price is as read, before any conversion,
at 36 decimals; a source time of 0 means that the source gave none. Where a quote was converted, the quotes that made
the rate have rows of their own, with the rate's pair (`USDT/USD`) as their feed.

One more row has no feed: `(0, "statement", sha256 of the statement, 0, 0, 0)`. It puts the rest of what the report's
message says (answers, books, failures, who sent it) under the same signature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from decimal import Context, Decimal
from functools import lru_cache

from eth_hash.auto import keccak
from msgspec import Struct

from contracts.errors import MalformedEvidenceError, MalformedReportError
from contracts.report import bytes32
from core import codec
from core.types import Mode, Pair, Quote, SourceFailure

NO_EVIDENCE = "0x" + "00" * 32
"""The root of a report that commits to nothing."""
PRICE_DECIMALS = 36
MAX_ROWS = 8_192
"""Of one report: whoever checks one is not kept busy for longer than about 0.2 s."""
ROW = ("bytes32", "bytes32", "bytes32", "uint256", "uint48", "uint48")

_STATEMENT = bytes(32) + bytes32("statement")
_NOTHING = bytes(96)
_EXACT = Context(prec=100)
_LONGEST_SMALL = 48
_name = lru_cache(4_096)(bytes32)


def scaled(price: Decimal) -> int:
    """A quote's price as its row has it. Raises `MalformedEvidenceError` for one that no quote can have."""
    if not price.is_finite() or price <= 0 or not -PRICE_DECIMALS <= price.adjusted() < 40:
        raise MalformedEvidenceError("a quote's price is no price")
    return int(price.scaleb(PRICE_DECIMALS, _EXACT).to_integral_value(context=_EXACT))


def leaf(feed: Pair | str, quote: Quote) -> bytes:
    """The leaf of `quote`, counted for `feed`. Raises `MalformedEvidenceError` for what does not fit a row."""
    times = (0 if quote.source_time_ms is None else quote.source_time_ms, quote.received_ms)
    if not all(0 <= time < 2**48 for time in times):
        raise MalformedEvidenceError("a quote's time is no time")
    try:
        names = _name(feed) + _name(quote.source) + _name(quote.pair)
    except MalformedReportError as error:
        raise MalformedEvidenceError(str(error)) from error
    numbers = (scaled(quote.price), *times)
    return _twice(names + b"".join(number.to_bytes(32, "big") for number in numbers))


def _twice(row: bytes) -> bytes:
    """Leaves are hashed twice, so that no inner node can pass for one."""
    return keccak(keccak(row))


def _pair(one: bytes, other: bytes) -> bytes:
    return keccak(one + other if one < other else other + one)


class EvidenceTree:
    """A Merkle tree over leaves, laid out as OpenZeppelin's: sorted leaves, sorted pairs. At least one leaf."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        if not leaves:
            raise ValueError("a tree has leaves")
        ordered = sorted(leaves, reverse=True)
        nodes = [b""] * (len(leaves) - 1) + ordered
        for at in range(len(leaves) - 2, -1, -1):
            nodes[at] = _pair(nodes[2 * at + 1], nodes[2 * at + 2])
        self._nodes = nodes
        self._places = {node: at for at, node in enumerate(nodes) if at >= len(leaves) - 1}

    @property
    def root(self) -> str:
        """As 0x-hex."""
        return "0x" + self._nodes[0].hex()

    def proof(self, one: bytes) -> tuple[bytes, ...]:
        """The siblings on the way from a leaf to the root. Raises `KeyError` where it is no leaf of this tree."""
        at, found = self._places[one], []
        while at:
            found.append(self._nodes[at - 1 if at % 2 == 0 else at + 1])
            at = (at - 1) // 2
        return tuple(found)


def proves(root: str, one: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` leads from a leaf to `root`, as `verifyObservation` checks it."""
    for other in proof:
        one = _pair(one, other)
    return root != NO_EVIDENCE and "0x" + one.hex() == root.lower()


class Statement(Struct, frozen=True, kw_only=True):
    """All that a reporter says with a report. Members as in `broker.messages.Report`.

    observed: for each feed with an answer of the reporter's own, and for each rate that converted one of its quotes,
    the indexes in `quotes` that counted for it, ascending. Every quote counts for something.
    """

    deployment: str
    mode: Mode
    fetcher: str
    instance: str
    answers: dict[str, Decimal]
    quotes: tuple[Quote, ...]
    failures: tuple[SourceFailure, ...]
    observed: dict[str, tuple[int, ...]]
    elapsed_ms: int

    @property
    def small(self) -> bool:
        """Whether its tree is made within a millisecond or two; others are better made off the event loop."""
        return len(self.quotes) <= _LONGEST_SMALL and sum(map(len, self.observed.values())) <= _LONGEST_SMALL

    def rows(self) -> tuple[tuple[str, Quote], ...]:
        """Every quote with each feed that it counted for. Raises `MalformedEvidenceError`."""
        if (count := sum(map(len, self.observed.values()))) > MAX_ROWS:
            raise MalformedEvidenceError(f"{count} rows of evidence: a report has at most {MAX_ROWS}")
        found = []
        left_out = set(range(len(self.quotes)))
        for feed, indexes in self.observed.items():
            if any(late <= early for early, late in zip((-1, *indexes), indexes, strict=False)):
                raise MalformedEvidenceError(f"{feed}: its quotes are not named in ascending order")
            for index in indexes:
                if index >= len(self.quotes):
                    raise MalformedEvidenceError(f"{feed}: there is no quote {index}")
                left_out.discard(index)
                found.append((feed, self.quotes[index]))
        if left_out:
            raise MalformedEvidenceError(f"{len(left_out)} quotes count for nothing")
        return tuple(found)

    def tree(self) -> EvidenceTree:
        """About 35 µs a quote. Raises `MalformedEvidenceError`."""
        leaves = [leaf(feed, quote) for feed, quote in self.rows()]
        said = hashlib.sha256(codec.encode(self)).digest()
        return EvidenceTree([*leaves, _twice(_STATEMENT + said + _NOTHING)])
