"""Proofs that a reporter signed two different reports for one group and moment, kept for as long as the store stands.

A proof needs nobody's word: whoever recovers the two signatures finds one signer. It outlives the attempt in whose
record it was found, which is pruned with the others.
"""

from __future__ import annotations

import sqlalchemy as sa
from msgspec import Struct

from aggregator.attempts import AttemptRecord, same_report
from aggregator.migrations import EQUIVOCATIONS
from core import codec
from core.types import Mode, SignedReport

CODE = "equivocation"
"""The code of a report that its signer contradicts by another one: `aggregator.validation.Fault.EQUIVOCATION`."""


class Equivocation(Struct, frozen=True, kw_only=True):
    """first, second: in the order in which they came; their signatures cover all but `group` and `reporter`.

    signer: lower-case. moment: ms. attempt: where they came in; seen_ms: when that began. round: that it brought.
    """

    deployment: str
    mode: Mode
    group: str
    moment: int
    signer: str
    attempt: str
    seen_ms: int
    first: SignedReport
    second: SignedReport
    round: int | None = None


def found_in(record: AttemptRecord) -> tuple[Equivocation, ...]:
    """One for each signer whom the record convicts, by the first two reports of his that differ."""
    guilty = dict.fromkeys(one.signer for one in record.reports if one.code == CODE and one.signer is not None)
    found = []
    for signer in guilty:
        own = [one.signed for one in record.reports if one.signer == signer and one.signed.moment == record.moment]
        second = next((one for one in own[1:] if not same_report(one, own[0])), None)
        if second is None or second.group_hash.lower() != own[0].group_hash.lower():
            continue
        found.append(
            Equivocation(
                deployment=record.deployment,
                mode=record.mode,
                group=record.group,
                moment=record.moment,
                signer=signer,
                attempt=record.id,
                seen_ms=record.started_ms,
                first=own[0],
                second=second,
                round=record.round,
            )
        )
    return tuple(found)


TABLE_COLUMNS = ("deployment", "group_name", "moment", "signer")
"""Of which there is one proof each."""


def table(metadata: sa.MetaData) -> sa.Table:
    """As `aggregator.migrations.r0004_equivocations` makes it."""
    return sa.Table(
        EQUIVOCATIONS,
        metadata,
        sa.Column("deployment", sa.String(128), primary_key=True),
        sa.Column("group_name", sa.String(64), primary_key=True),
        sa.Column("moment", sa.BigInteger, primary_key=True),
        sa.Column("signer", sa.String(64), primary_key=True),
        sa.Column("proof", sa.Text, nullable=False),
    )


def row(one: Equivocation) -> dict[str, object]:
    return {
        "deployment": one.deployment,
        "group_name": one.group,
        "moment": one.moment,
        "signer": one.signer,
        "proof": codec.encode(one).decode(),
    }
