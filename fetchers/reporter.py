"""What a reporter checks before it signs, and the signing. Pure, but for the signer.

Group, feeds, chain id and address come from this fetcher's own node and configuration, never from the job: whoever
sends jobs can make a reporter say what it sees, and nothing else.

Jobs are not signed. Whoever may publish them can still use up moments: one ahead of the clock, signed, makes every
honest job for an earlier one `MOMENT_PASSED`. `AHEAD_TOLERANCE_MS` bounds that to a quarter of a second a job; it does
not end it. Give each role its own RabbitMQ user, so that only aggregators may publish jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from msgspec import Struct

from broker import Job
from contracts import Domain, GroupReading, GroupState, Signer
from contracts.evidence import Statement
from contracts.report import hint_digest, sign_report
from core.median import BPS, from_scaled, to_scaled
from core.types import Feed, Group, Mode, Pair, Quote, SignedReport
from fetchers.errors import RefusalCode, Refused
from fetchers.evaluate import Verdict

CLOCK_TOLERANCE_MS = 2_000
"""A moment further than this behind the reporter's own clock is not signed: the job took its time, or clocks differ."""
AHEAD_TOLERANCE_MS = 250
"""Nor one further than this ahead of it. An aggregator's moment lies at most one step of the grid ahead of its own
clock; the rest is for clocks that differ, as they do by milliseconds where NTP runs."""

REWRITE_ROUNDS = 50
"""An answer that was written so many rounds ago is signed as a price again, changed or not. The contract keeps the
evidence of 64 rounds, so that what a standing answer was made of can be proven; its sums are exact over 2^24 seconds,
which are 50 heartbeats of nearly four days."""


def check_job(job: Job, groups: Mapping[str, Group], *, deployment: str, mode: Mode, now_ms: int) -> Group:
    """The group that `job` is about. Raises `Refused` for a job that is not for this fetcher, or not for now."""
    if job.deployment != deployment:
        raise Refused(RefusalCode.WRONG_DEPLOYMENT, f"the job is for {job.deployment}, this fetcher's is {deployment}")
    if job.mode != mode:
        raise Refused(RefusalCode.WRONG_MODE, f"the job is {job.mode}, this fetcher {mode}")
    group = groups.get(job.group)
    if group is None:
        raise Refused(RefusalCode.UNKNOWN_GROUP, f"{job.group!r} is not among {', '.join(sorted(groups))}")
    if job.moment % group.grid_ms:
        raise Refused(RefusalCode.MOMENT_INVALID, f"{job.moment} is not on the grid of {group.grid_ms} ms")
    ahead_ms = job.moment - now_ms
    if not -CLOCK_TOLERANCE_MS <= ahead_ms <= AHEAD_TOLERANCE_MS:
        raise Refused(
            RefusalCode.MOMENT_TOO_FAR,
            f"the moment is {ahead_ms:+d} ms from this fetcher's clock, {-CLOCK_TOLERANCE_MS} to "
            f"{AHEAD_TOLERANCE_MS:+d} at most; check the clocks",
        )
    return group


def check_chain(state: GroupState, group: Group, reporter: str, moment: int) -> None:
    """Raises `Refused` unless the contract has these feeds, lists this reporter, and waits for a moment like this."""
    on_chain = [(feed.pair, feed.decimals) for feed in state.feeds]
    configured = [(feed.pair, feed.decimals) for feed in group.feeds]
    if on_chain != configured:
        raise Refused(
            RefusalCode.CONFIGURATION_MISMATCH,
            f"the contract's feeds are {_listed(on_chain)}, the configured ones {_listed(configured)}",
        )
    if reporter.lower() not in {signer.lower() for signer in state.signers}:
        raise Refused(RefusalCode.NOT_REGISTERED, f"{reporter} is none of the {len(state.signers)} registered signers")
    if moment <= state.last_moment:
        raise Refused(
            RefusalCode.MOMENT_PASSED, f"moment {moment} is not later than the contract's, {state.last_moment}"
        )


class Observations(Struct, frozen=True, kw_only=True):
    """What a report says of each feed, in the group's order.

    prices: as the contract has them; 0 for a feed that has none, or is called unchanged. unchanged: bit i: the price of
    feed i is the standing answer. answers: what is signed, by pair, feeds without a price left out.
    """

    prices: tuple[int, ...]
    unchanged: int
    answers: dict[str, Decimal]


def observations(feeds: Sequence[Feed], answers: Mapping[Pair, Decimal], standing: GroupReading | None) -> Observations:
    """What to sign. standing: the answers as of the round that the report will follow; None where they are not known.

    A price within its feed's `unchanged_bps` of the standing answer is called unchanged, so that the contract need not
    write it; but not where that answer was written `REWRITE_ROUNDS` ago: its spread, its contributors and its evidence
    are of then. A feed that never had an answer has none to be equal to.

    Raises `Refused` (`NO_PRICES`) when no feed has a price.
    """
    prices: list[int] = []
    shown: dict[str, Decimal] = {}
    unchanged = 0
    for index, feed in enumerate(feeds):
        price = to_scaled(answers[feed.pair], feed.decimals) if feed.pair in answers else 0
        stands = standing.answers.get(feed.pair) if standing is not None else None
        if price and stands is not None and standing is not None:
            fresh = standing.round - stands.round < REWRITE_ROUNDS
            if fresh and abs(price - stands.value) * BPS <= stands.value * feed.unchanged_bps:
                unchanged |= 1 << index
                shown[feed.pair] = from_scaled(stands.value, feed.decimals)
                price = 0
        if price:
            shown[feed.pair] = from_scaled(price, feed.decimals)
        prices.append(price)
    if not shown:
        raise Refused(RefusalCode.NO_PRICES, f"none of the {len(feeds)} feeds got enough quotes")
    return Observations(prices=tuple(prices), unchanged=unchanged, answers=shown)


def counted(verdicts: Iterable[Verdict], quotes: Sequence[Quote]) -> dict[str, tuple[int, ...]]:
    """For each feed and each rate, the indexes of those of `quotes` that its rules let stand."""
    places = {(quote.source, quote.pair): index for index, quote in enumerate(quotes)}
    found = {
        str(verdict.plan.feed.pair): tuple(
            sorted({places[each.quote.source, each.quote.pair] for each in verdict.accepted})
        )
        for verdict in verdicts
    }
    return {pair: indexes for pair, indexes in found.items() if indexes}


def sign(
    signer: Signer, domain: Domain, state: GroupState, moment: int, seen: Observations, evidence: Statement
) -> SignedReport:
    """The report for `moment`, following the round that `state` shows as the last. Its root commits to `evidence`.

    Takes about 35 µs a quote. Raises `MalformedEvidenceError`.
    """
    return sign_report(
        signer,
        domain,
        group=state.group,
        group_hash=state.group_hash,
        previous_moment=state.last_moment,
        moment=moment,
        prices=seen.prices,
        unchanged=seen.unchanged,
        evidence_root=evidence.tree().root,
    )


def sign_hint(
    signer: Signer, domain: Domain, group: str, pair: Pair, price: int, moment: int, previous_moment: int
) -> str:
    """The signature under a hint that `pair` left its threshold."""
    return signer.sign(hint_digest(domain, group, pair, price, moment, previous_moment))


def deviates(standing: int, price: int, bps: int) -> bool:
    """Whether `price` lies more than `bps` from the standing answer, both on one scale. Without either: no."""
    return standing > 0 and price > 0 and abs(price - standing) * BPS > standing * bps


def _listed(feeds: Sequence[tuple[Pair, int]]) -> str:
    return ", ".join(f"{pair} at {decimals} decimals" for pair, decimals in feeds)
