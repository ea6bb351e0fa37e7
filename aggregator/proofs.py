"""What a consumer needs to check on chain where a round's prices came from: roots, leaves, proofs, off the record."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from decimal import Decimal

from eth_utils.address import to_checksum_address
from msgspec import Struct

from aggregator.attempts import AttemptRecord, ReportRecord, Verdict
from contracts.errors import MalformedEvidenceError
from contracts.evidence import ROW, EvidenceTree, Statement, leaf, scaled
from core.types import Deployment, Mode, Quote

KEPT = 16
"""Rounds whose trees are kept: who checks one quote of a round often checks the next."""


class ReporterRoot(Struct, frozen=True, kw_only=True):
    """As `verifyObservation` takes them: all of a round's, in this order."""

    reporter: str
    root: str


class ProvenQuote(Struct, frozen=True, kw_only=True):
    """A quote that a reporter counted for a feed, and the proof that it signed so.

    feed: or a conversion rate, `USDT/USD`. price: as read from the source, in units of `pair`'s quote; scaled_price:
    the same in its row, at 36 decimals. leaf, proof: 0x-hex.
    """

    reporter: str
    fetcher: str
    feed: str
    source: str
    pair: str
    price: Decimal
    scaled_price: str
    source_time_ms: int | None
    received_ms: int
    leaf: str
    proof: tuple[str, ...]


class RoundEvidence(Struct, frozen=True, kw_only=True):
    """leaf_types: of a row, whose fields are feed, source, pair, scaled price, source time (0: none) and receipt time.
    not_kept: reporters whose quotes are not in the record, which is bounded."""

    group: str
    round: int
    moment: int
    mode: Mode
    chain_id: int
    contract: str
    leaf_types: tuple[str, ...]
    roots: tuple[ReporterRoot, ...]
    quotes: tuple[ProvenQuote, ...]
    not_kept: tuple[str, ...]


Tree = tuple[ReportRecord, tuple[tuple[str, Quote], ...], EvidenceTree]


class Proofs:
    """Proofs for the rounds of one deployment."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._trees: OrderedDict[str, tuple[Tree, ...]] = OrderedDict()
        self._one = asyncio.Lock()

    async def of(self, record: AttemptRecord, feed: str) -> RoundEvidence:
        """The evidence of an accepted attempt for one feed or rate. One record at a time is hashed, beside the loop."""
        async with self._one:
            trees = self._trees.get(record.id)
            if trees is None:
                trees = self._trees[record.id] = await asyncio.to_thread(proven, record)
            self._trees.move_to_end(record.id)
            while len(self._trees) > KEPT:
                self._trees.popitem(last=False)
        held = {one.signer for one, _, _ in trees}
        included = _included(record)
        return RoundEvidence(
            group=record.group,
            round=record.round or 0,
            moment=record.moment,
            mode=record.mode,
            chain_id=self._deployment.chain_id,
            contract=self._deployment.address,
            leaf_types=ROW,
            roots=tuple(ReporterRoot(reporter=_address(one), root=one.signed.evidence_root) for one in included),
            quotes=tuple(
                _quote(report, name, quote, tree)
                for report, rows, tree in trees
                for name, quote in rows
                if name == feed
            ),
            not_kept=tuple(_address(one) for one in included if one.signer not in held),
        )


def proven(record: AttemptRecord) -> tuple[Tree, ...]:
    """The trees of a record's included reports, in the contract's order, without those whose evidence is not kept."""
    found = []
    for report in _included(record):
        statement = statement_of(record, report)
        try:
            rows, tree = statement.rows(), statement.tree()
        except MalformedEvidenceError:
            continue
        if tree.root == report.signed.evidence_root.lower():
            found.append((report, rows, tree))
    return tuple(found)


def statement_of(record: AttemptRecord, report: ReportRecord) -> Statement:
    """What a recorded report's evidence root commits to, where all of it is kept."""
    return Statement(
        deployment=record.deployment,
        mode=record.mode,
        fetcher=report.fetcher,
        instance=report.instance,
        answers=report.answers,
        quotes=report.quotes,
        failures=report.failures,
        observed=report.observed,
        elapsed_ms=report.elapsed_ms,
    )


def _included(record: AttemptRecord) -> tuple[ReportRecord, ...]:
    """In the contract's order: ascending by signer."""
    included = [one for one in record.reports if one.verdict is Verdict.INCLUDED and one.signer]
    return tuple(sorted(included, key=lambda one: int(one.signer or "0x0", 16)))


def _address(report: ReportRecord) -> str:
    return to_checksum_address(report.signer or "")


def _quote(report: ReportRecord, feed: str, quote: Quote, tree: EvidenceTree) -> ProvenQuote:
    its = leaf(feed, quote)
    return ProvenQuote(
        reporter=_address(report),
        fetcher=report.fetcher,
        feed=feed,
        source=quote.source,
        pair=quote.pair,
        price=quote.price,
        scaled_price=str(scaled(quote.price)),
        source_time_ms=quote.source_time_ms,
        received_ms=quote.received_ms,
        leaf="0x" + its.hex(),
        proof=tuple("0x" + one.hex() for one in tree.proof(its)),
    )
