"""From what the chain says to what a client reads. Pure: time comes in, a document goes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bff.confidences import Confidences
from bff.documents import GroupRound, Price, PriceStatus, RefreshedPrice, Trouble
from bff.edges import Answer, GroupReading
from core.clock import rfc3339
from core.quality import Quality, confidence, quality
from core.types import Feed, Group, Mode, Pair


def decimal_text(value: int, decimals: int) -> str:
    """`value / 10**decimals` in plain digits with exactly `decimals` places: (123, 2) is `1.23`. `value` >= 0."""
    if decimals == 0:
        return str(value)
    whole, part = divmod(value, 10**decimals)
    return f"{whole}.{part:0{decimals}d}"


@dataclass(frozen=True, slots=True)
class Standing:
    """A feed's standing answer, prepared: all of its document but what the passing time changes."""

    document: Price
    observed_ms: int
    stale_after_ms: int
    halted: bool
    unread: bool = False
    troubles: tuple[Trouble, ...] = ()

    def at(self, now_ms: int, *, superseded: bool = False) -> Price:
        """The document at `now_ms` of the wall clock (never the chain's, whose last block may be old).

        A moment ahead of our clock has age 0. Stale: older than heartbeat and grace together, or halted; `superseded`
        makes it stale whatever its age, because a newer one was asked for and could not be had. So do troubles: a
        strict feed in error publishes nothing. And `unread`: nobody knows what stands on the chain by now.
        """
        age_ms = max(0, now_ms - self.observed_ms)
        stale = self.halted or self.unread or superseded or bool(self.troubles) or age_ms > self.stale_after_ms
        status = PriceStatus.STALE if stale else self.document.status
        if self.troubles:
            status = PriceStatus.ERROR
        if self.halted:
            status = PriceStatus.HALTED
        return self.document.model_copy(
            update={"age_seconds": age_ms / 1000, "stale": stale, "status": status, "troubles": self.troubles}
        )


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group as it was read in one call: every answer in it stands at the same round.

    standing: the feeds that have a price. received_ms: our clock when the reading came.
    """

    group: str
    round: int
    moment: int
    block: int
    halted: bool
    received_ms: int
    standing: Mapping[Pair, Standing]

    def document(self) -> GroupRound:
        return GroupRound(
            group=self.group,
            round=self.round,
            observed_at=rfc3339(self.moment) if self.round else None,
            halted=self.halted,
            read_at=rfc3339(self.received_ms),
        )


def view(
    group: Group,
    reading: GroupReading,
    *,
    mode: Mode,
    received_ms: int,
    transactions: Mapping[tuple[int, int], str],
    written: Mapping[Pair, tuple[int, int]] | None = None,
    confidences: Confidences | None = None,
    troubles: Mapping[Pair, tuple[Trouble, ...]] | None = None,
    unread: bool = False,
) -> GroupView:
    """Prepare a reading. transactions: (round, moment) to the hash of the transaction that brought that round. written:
    by pair, the (round, moment) that wrote its standing answer, where later rounds may have attested it.
    confidences: the aggregator's, which know of the sources, too. troubles: of the feeds in error. unread: the chain
    has been out of reach for long since.

    A feed that the reading leaves out, or gives without a value, was never priced and does not stand in the view.
    """
    standing = {}
    for feed in group.feeds:
        answer = reading.answers.get(feed.pair)
        if answer is not None and answer.value > 0:
            transaction = transactions.get((written or {}).get(feed.pair, (answer.round, answer.observed_ms)))
            document = _document(feed, group.name, answer, mode, transaction, confidences)
            ill = (troubles or {}).get(feed.pair, ())
            standing[feed.pair] = Standing(
                document, answer.observed_ms, answer.stale_after_s * 1000, reading.paused, unread, ill
            )
    return GroupView(
        group=group.name,
        round=reading.round,
        moment=reading.moment,
        block=reading.accepted_block,
        halted=reading.paused,
        received_ms=received_ms,
        standing=standing,
    )


def refreshed(price: Price, attempt: str) -> RefreshedPrice:
    """`price` as the answer to a refresh that `attempt` brought."""
    return RefreshedPrice.model_construct(**dict(price), attempt=attempt)


def _document(
    feed: Feed, group: str, answer: Answer, mode: Mode, transaction: str | None, confidences: Confidences | None
) -> Price:
    asked = {"required": feed.min_contributors, "wanted": feed.wanted_contributors}
    sure = confidence(answer.contributors, **asked)
    told = None if confidences is None else confidences.of(feed.pair, answer.observed_ms)
    if told is not None:
        sure = min(sure, told)
    whole = quality(answer.contributors, **asked) is not Quality.DEGRADED and (told is None or told == 1)
    return Price(
        pair=feed.pair,
        price=decimal_text(answer.value, answer.decimals),
        decimals=answer.decimals,
        group=group,
        round=answer.round,
        observed_at=rfc3339(answer.observed_ms),
        updated_at=rfc3339(answer.updated_at * 1000),
        age_seconds=0.0,
        contributors=answer.contributors,
        spread_bps=answer.spread_bps,
        mode=mode,
        stale=False,
        status=PriceStatus.OK if whole else PriceStatus.DEGRADED,
        confidence=float(sure),
        transaction=transaction,
    )
