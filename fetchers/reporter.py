"""What a reporter checks before it signs, and the signing. Pure, but for the signer.

Group, feeds, chain id and address come from this fetcher's own node and configuration, never from the job: whoever
sends jobs can make a reporter say what it sees, and nothing else.

Jobs are not signed. Whoever may publish them can still use up moments: one ahead of the clock, signed, makes every
honest job for an earlier one `MOMENT_PASSED`. `AHEAD_TOLERANCE_MS` bounds that to a quarter of a second a job; it does
not end it. Give each role its own RabbitMQ user, so that only aggregators may publish jobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from broker import Job
from contracts import Domain, GroupState, Signer
from contracts.report import hint_digest, sign_report
from core.median import BPS, from_scaled, to_scaled
from core.types import Feed, Group, Mode, Pair, SignedReport
from fetchers.errors import RefusalCode, Refused

CLOCK_TOLERANCE_MS = 2_000
"""A moment further than this behind the reporter's own clock is not signed: the job took its time, or clocks differ."""
AHEAD_TOLERANCE_MS = 250
"""Nor one further than this ahead of it. An aggregator's moment lies at most one step of the grid ahead of its own
clock; the rest is for clocks that differ, as they do by milliseconds where NTP runs."""


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


def scaled_prices(feeds: Sequence[Feed], answers: Mapping[Pair, Decimal]) -> tuple[int, ...]:
    """One integer a feed, in the group's order, as the contract has them; 0 for a feed without a price.

    Raises `Refused` (`NO_PRICES`) when that is all of them.
    """
    prices = tuple(to_scaled(answers[feed.pair], feed.decimals) if feed.pair in answers else 0 for feed in feeds)
    if not any(prices):
        raise Refused(RefusalCode.NO_PRICES, f"none of the {len(feeds)} feeds got enough quotes")
    return prices


def shown_answers(feeds: Sequence[Feed], prices: Sequence[int]) -> dict[str, Decimal]:
    """The same prices as a report shows them: to the digit what is signed, and feeds without one left out."""
    return {
        str(feed.pair): from_scaled(price, feed.decimals) for feed, price in zip(feeds, prices, strict=True) if price
    }


def sign(signer: Signer, domain: Domain, state: GroupState, moment: int, prices: Sequence[int]) -> SignedReport:
    """The report for `moment`, following the round that `state` shows as the last."""
    return sign_report(
        signer,
        domain,
        group=state.group,
        group_hash=state.group_hash,
        previous_moment=state.last_moment,
        moment=moment,
        prices=prices,
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
