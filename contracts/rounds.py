"""A round as the contract takes it: the payload of `submit`, packed by the rules in `src/FairmarkRounds.sol`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import and_

from contracts.errors import MalformedReportError
from contracts.report import MAX_REPORTS, pack_prices, split_signature
from core.types import SignedReport

HEAD_BYTES, REPORT_BYTES = 16, 98
MOST_GAS = 16_000_000
"""Below what one transaction may ask for since Osaka (EIP-7825)."""


@dataclass(frozen=True)
class SignerSet:
    """Who signs for a version of a group, and what a payload needs to know of it.

    number: the group's. place: 0, the standing set, or 1, a rotation's new one. signers: in the contract's order.
    feeds: how many. least: the greatest minimum of contributors among them.
    """

    number: int
    place: int
    signers: tuple[str, ...]
    feeds: int
    least: int

    @cached_property
    def indexes(self) -> dict[str, int]:
        return {signer.lower(): index for index, signer in enumerate(self.signers)}


def pack_round(known: SignerSet, reports: Sequence[SignedReport], signers: Sequence[str], hints: bytes) -> bytes:
    """The payload. `signers`: who signed each report, recovered; ascending, as `reports` are. hints: one byte a feed.

    Raises `MalformedReportError` or `InvalidSignatureError`.
    """
    if not 0 < len(reports) <= MAX_REPORTS:
        raise MalformedReportError(f"{len(reports)} reports: a round takes 1 to {MAX_REPORTS}")
    first = reports[0]
    if any((r.previous_moment, r.moment) != (first.previous_moment, first.moment) for r in reports):
        raise MalformedReportError("the reports are not of one moment")
    if len(hints) != known.feeds:
        raise MalformedReportError(f"{len(hints)} hints for {known.feeds} feeds")
    parts = [
        known.number.to_bytes(2, "big"),
        bytes([known.place]),
        first.previous_moment.to_bytes(6, "big"),
        first.moment.to_bytes(6, "big"),
        bytes([len(reports)]),
    ]
    for report, signer in zip(reports, signers, strict=True):
        index = known.indexes.get(signer.lower())
        if index is None:
            raise MalformedReportError(f"{signer} is not of the group's signers")
        parts += [bytes([index]), *split_signature(report.signature), bytes.fromhex(report.evidence_root[2:])]
        parts.append(_observations(report, known.feeds))
    everyone = reduce(and_, (report.unchanged for report in reports))
    skipped = everyone if len(reports) >= known.least else 0
    parts.append(bytes(hint for index, hint in enumerate(hints) if not skipped >> index & 1))
    return b"".join(parts)


def _observations(report: SignedReport, feeds: int) -> bytes:
    if len(report.prices) != feeds or report.unchanged >> feeds:
        raise MalformedReportError(f"{report.reporter} reports {len(report.prices)} prices for {feeds} feeds")
    if not report.unchanged:
        return b"\0" + pack_prices(report.prices)
    bits = report.unchanged
    if any(price for index, price in enumerate(report.prices) if bits >> index & 1):
        raise MalformedReportError(f"{report.reporter} reports a price for a feed that it calls unchanged")
    if bits == (1 << feeds) - 1:
        return b"\2"
    rest = [price for index, price in enumerate(report.prices) if not bits >> index & 1]
    return b"\1" + bits.to_bytes(32, "big") + pack_prices(rest)


def gas_bound(payload: bytes) -> int:
    """What a round costs at most, in gas: signatures, counting, and two slots never written before for each feed."""
    k = payload[HEAD_BYTES - 1] if len(payload) >= HEAD_BYTES else 0
    rest = max(0, len(payload) - HEAD_BYTES - REPORT_BYTES * k)
    # where the first report has a price for every feed, there are so many; else no more than bytes for their hints
    whole = payload[HEAD_BYTES + REPORT_BYTES - 1 : HEAD_BYTES + REPORT_BYTES] == b"\0"
    n = min(256, rest // (8 if whole else 1))
    return min(MOST_GAS, 250_000 + 40 * len(payload) + 12_000 * k + n * (50_000 + 600 * k))
