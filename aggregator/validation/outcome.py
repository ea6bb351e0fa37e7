"""All the rules together: from what was received to what can be submitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aggregator.attempts import FailureReason, FeedAnswer, Verdict
from aggregator.edges import Known
from aggregator.validation.feeds import judge_feeds
from aggregator.validation.received import Expected, Received
from aggregator.validation.reports import Case, Fault, pipeline
from contracts.report import median_hints
from core.types import Group, Pair


@dataclass(frozen=True)
class Judged:
    """A report with its verdict."""

    received: Received
    verdict: Verdict
    code: Fault | None = None
    detail: str = ""
    warnings: dict[Pair, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Validation:
    """The outcome over all reports. reason: None where the included reports can make a round.

    judged: in the order of arrival. included: ascending by signer, as the contract takes them. hints: by the contract's
    rule, one byte a feed. answers and without: together every feed of the group, once.
    """

    judged: tuple[Judged, ...]
    included: tuple[Received, ...]
    hints: bytes
    answers: dict[Pair, FeedAnswer]
    without: dict[Pair, str]
    reason: FailureReason | None
    detail: str = ""

    @property
    def stale(self) -> bool:
        """Some report follows another round, or is of another version, than the state it was judged by."""
        return any(one.code in (Fault.STALE_PREVIOUS, Fault.WRONG_GROUP_HASH) for one in self.judged)


def validate(received: Sequence[Received], expected: Expected, now_ms: int) -> Validation:
    """Judge every report, then every feed over the valid ones."""
    valid, rejected = pipeline(expected.order).sift(received, Case(expected, now_ms))
    findings = {id(one): (code, detail) for one, code, detail in rejected}
    included = tuple(sorted(valid, key=lambda one: int(one.signer or "0x0", 16)))
    hints = median_hints([one.report.signed for one in included], expected.known.feeds, expected.known.standing)
    feeds = judge_feeds(included, hints, expected)
    answers, without = feeds.answers, feeds.without
    judged = tuple(
        Judged(one, Verdict.REJECTED, *findings[id(one)])
        if id(one) in findings
        else Judged(one, Verdict.INCLUDED, warnings=feeds.warnings.get(one.signer or "", {}))
        for one in received
    )
    threshold = expected.known.threshold
    reason, detail = None, ""
    if len(included) < threshold:
        reason = FailureReason.NO_QUORUM
        detail = f"{len(included)} valid reports, {threshold} are needed{_tally(judged)}"
    elif not answers:
        reason, detail = FailureReason.NO_FEED, "no feed has enough contributors"
    return Validation(judged, included, hints, answers, without, reason, detail)


def _tally(judged: Sequence[Judged]) -> str:
    codes = sorted(str(one.code) for one in judged if one.code is not None)
    return f" (rejected: {', '.join(codes)})" if codes else ""


def misconfigured(group: Group, known: Known) -> str | None:
    """How the contract's feeds differ from the configured ones, or None. Order and decimals must agree."""
    configured = [(str(feed.pair), feed.decimals) for feed in group.feeds]
    on_chain = [(str(feed.pair), feed.decimals) for feed in known.feeds]
    if configured == on_chain:
        return None
    return f"the contract has {on_chain}, the configuration {configured}: deploy again, or correct the configuration"
