"""The rules over the reports of one attempt. Pure, and in a fixed order: the first rule that fails a report names it.

Choices that are not obvious:

- A price cannot be taken out of a signed report, so one price outside its feed's declared range rejects the whole
  report. An honest reporter never signs one: its own rules refuse such quotes.
- A price far from the other reporters' (MAD with a floor) is a warning, not a rejection. With at most f liars among
  2f + 1 or more contributors the median is within the honest range with them; dropping a report for one feed would
  take its honest prices for the others away, and could cost the quorum.
- Equivocation is two different reports by one signer for one group and moment. Both are rejected and both are kept:
  they prove it. The group hash decides what "one group" is: a report for another group is none of ours.
- What is valid is included, all of it: more reports than the threshold narrow what any single one can do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from functools import cached_property

from aggregator.attempts import FailureReason, FeedAnswer, Verdict
from aggregator.edges import Known
from broker.messages import Report
from contracts.errors import InvalidSignatureError, MalformedReportError
from contracts.report import NO_MEDIAN, Domain, median_hints, recover, report_digest
from core.median import BPS, from_scaled, lower_median, mad_outliers, spread_bps, to_scaled
from core.types import Group, Mode, Pair


class Fault(StrEnum):
    """Why a report is not in a submission. A closed set: records and metrics use these and no others."""

    WRONG_DEPLOYMENT = "wrong_deployment"
    WRONG_MODE = "wrong_mode"
    WRONG_GROUP = "wrong_group"
    WRONG_MOMENT = "wrong_moment"
    MALFORMED = "malformed"  # not one price a feed, or bits that the contract does not take
    BAD_SIGNATURE = "bad_signature"
    NOT_A_MEMBER = "not_a_member"  # signed by nobody of the group's current set
    WRONG_GROUP_HASH = "wrong_group_hash"  # another version of the group, or another group
    STALE_PREVIOUS = "stale_previous"  # it follows another round than the group's last
    EXPIRED = "expired"  # the moment is older than the contract would take
    OUT_OF_RANGE = "out_of_range"
    EQUIVOCATION = "equivocation"
    LATE = "late"  # valid or not: the collection had ended


class Warn(StrEnum):
    """Why one price of an included report is suspect."""

    OUTLIER = "outlier"  # further from the reporters' median than 3 scaled MADs and the feed's floor
    ANSWER_DIFFERS = "answer_differs"  # what the fetcher says it saw is not what it signed


@dataclass(frozen=True)
class Received:
    """A report as it came in. signer: recovered, lower-case; None, with the fault, where nobody signed it."""

    report: Report
    arrived_ms: int
    signer: str | None
    digest: bytes
    fault: str = ""


def identify(report: Report, domain: Domain, arrived_ms: int) -> Received:
    """Recover who signed. About 0.2 ms of work; never raises for what a sender put into the report."""
    try:
        digest = report_digest(domain, report.signed)
        return Received(report, arrived_ms, recover(digest, report.signed.signature).lower(), digest)
    except (InvalidSignatureError, MalformedReportError) as error:
        return Received(report, arrived_ms, None, b"", str(error))


@dataclass(frozen=True)
class Expected:
    """What every report of one attempt must be about."""

    deployment: str
    mode: Mode
    group: Group
    moment: int
    known: Known

    @cached_property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """Each feed's least and greatest price, scaled."""
        return tuple((to_scaled(f.min_price, f.decimals), to_scaled(f.max_price, f.decimals)) for f in self.group.feeds)

    def foreign(self, received: Received) -> bool:
        """Whether it came as a report of another deployment, mode or group: the signature covers none of the three."""
        return _envelope(received, self, self.moment) is not None

    def own(self, received: Received) -> bool:
        """Whether a member signed this for this very group and moment, be it right otherwise or not."""
        signed = received.report.signed
        return (
            received.signer in self.known.signers
            and signed.moment == self.moment
            and signed.group_hash.lower() == self.known.group_hash
        )


Finding = tuple[Fault, str]
Rule = Callable[[Received, Expected, int], Finding | None]


def _envelope(received: Received, expected: Expected, _now: int) -> Finding | None:
    report = received.report
    if report.deployment != expected.deployment:
        return Fault.WRONG_DEPLOYMENT, report.deployment
    if report.mode != expected.mode:
        return Fault.WRONG_MODE, report.mode
    if report.signed.group != expected.group.name:
        return Fault.WRONG_GROUP, report.signed.group
    return None


def _moment(received: Received, expected: Expected, _now: int) -> Finding | None:
    moment = received.report.signed.moment
    return None if moment == expected.moment else (Fault.WRONG_MOMENT, f"{moment}, not {expected.moment}")


def _shape(received: Received, expected: Expected, _now: int) -> Finding | None:
    signed, feeds = received.report.signed, len(expected.group.feeds)
    if len(signed.prices) != feeds:
        return Fault.MALFORMED, f"{len(signed.prices)} prices for {feeds} feeds"
    if signed.unchanged:
        return Fault.MALFORMED, "bits for unchanged prices, which the contract does not take"
    return None


def _signature(received: Received, _expected: Expected, _now: int) -> Finding | None:
    return (Fault.BAD_SIGNATURE, received.fault) if received.signer is None else None


def _member(received: Received, expected: Expected, _now: int) -> Finding | None:
    return None if received.signer in expected.known.signers else (Fault.NOT_A_MEMBER, f"signed by {received.signer}")


def _group_hash(received: Received, expected: Expected, _now: int) -> Finding | None:
    found = received.report.signed.group_hash
    return None if found.lower() == expected.known.group_hash else (Fault.WRONG_GROUP_HASH, found)


def _previous(received: Received, expected: Expected, _now: int) -> Finding | None:
    found, last = received.report.signed.previous_moment, expected.known.last_moment
    return None if found == last else (Fault.STALE_PREVIOUS, f"follows {found}; the group's last moment is {last}")


def _fresh(_received: Received, expected: Expected, now_ms: int) -> Finding | None:
    age = now_ms - expected.moment
    limit = expected.group.max_age_ms
    return (Fault.EXPIRED, f"the moment is {age} ms old, more than {limit}") if age > limit else None


def _range(received: Received, expected: Expected, _now: int) -> Finding | None:
    for price, (least, most), feed in zip(
        received.report.signed.prices, expected.ranges, expected.group.feeds, strict=True
    ):
        if price and not least <= price <= most:
            value = from_scaled(price, feed.decimals)
            return Fault.OUT_OF_RANGE, f"{feed.pair} {value:f} is not within {feed.min_price} and {feed.max_price}"
    return None


RULES: tuple[Rule, ...] = (
    _envelope,
    _moment,
    _shape,
    _signature,
    _member,
    _group_hash,
    _previous,
    _fresh,
    _range,
)


def judge(received: Received, expected: Expected, now_ms: int) -> Finding | None:
    """The first rule that this report alone fails, or None."""
    return next((finding for rule in RULES if (finding := rule(received, expected, now_ms))), None)


def equivocators(received: Sequence[Received], expected: Expected) -> frozenset[str]:
    """The members who signed two different reports for this group and moment."""
    first: dict[str, bytes] = {}
    guilty = set()
    for one in received:
        if one.signer is not None and expected.own(one) and first.setdefault(one.signer, one.digest) != one.digest:
            guilty.add(one.signer)
    return frozenset(guilty)


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
    guilty = equivocators(received, expected)
    findings: list[Finding | None] = [
        (Fault.EQUIVOCATION, f"{one.signer} signed another report for this moment, too")
        if one.signer in guilty and expected.own(one)
        else judge(one, expected, now_ms)
        for one in received
    ]
    valid = [one for one, finding in zip(received, findings, strict=True) if finding is None]
    included = tuple(sorted(valid, key=lambda one: int(one.signer or "0x0", 16)))
    feeds = expected.known.feeds
    hints = median_hints([one.report.signed for one in included], feeds)
    answers, without, warnings = _feeds(included, hints, expected)
    judged = tuple(
        Judged(one, Verdict.INCLUDED, warnings=warnings.get(one.signer or "", {}))
        if finding is None
        else Judged(one, Verdict.REJECTED, *finding)
        for one, finding in zip(received, findings, strict=True)
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


def _feeds(
    included: Sequence[Received], hints: bytes, expected: Expected
) -> tuple[dict[Pair, FeedAnswer], dict[Pair, str], dict[str, dict[Pair, str]]]:
    answers: dict[Pair, FeedAnswer] = {}
    without: dict[Pair, str] = {}
    warnings: dict[str, dict[Pair, str]] = {}
    for index, (feed, on_chain) in enumerate(zip(expected.group.feeds, expected.known.feeds, strict=True)):
        priced = [(one, price) for one in included if (price := one.report.signed.prices[index])]
        if hints[index] == NO_MEDIAN:
            without[feed.pair] = f"{len(priced)} contributors, {on_chain.min_contributors} are needed"
        else:
            middle = included[hints[index]]
            values = [price for _, price in priced]
            answers[feed.pair] = FeedAnswer(
                price=from_scaled(middle.report.signed.prices[index], feed.decimals),
                contributors=len(values),
                spread_bps=spread_bps(values),
                reporter=middle.signer or "",
            )
        for one in _outliers(priced, feed.outlier_floor_bps):
            warnings.setdefault(one.signer or "", {})[feed.pair] = Warn.OUTLIER
        for one, price in priced:
            if not _says(one.report.answers.get(feed.pair), price, feed.decimals):
                warnings.setdefault(one.signer or "", {})[feed.pair] = Warn.ANSWER_DIFFERS
    return answers, without, warnings


def _says(said: Decimal | None, price: int, decimals: int) -> bool:
    """Whether an unsigned answer is the signed price. It may be any number that a sender could write."""
    return said is not None and said.is_finite() and abs(said.adjusted()) < 40 and to_scaled(said, decimals) == price


def _outliers(priced: Sequence[tuple[Received, int]], floor_bps: int) -> list[Received]:
    values = [price for _, price in priced]
    if len(values) < 3 or (max(values) - min(values)) * BPS <= lower_median(values) * floor_bps:
        return []  # all within the floor of one another: nothing to work out
    flags = mad_outliers([Decimal(value) for value in values], floor_bps)
    return [one for (one, _), flag in zip(priced, flags, strict=True) if flag]


def misconfigured(group: Group, known: Known) -> str | None:
    """How the contract's feeds differ from the configured ones, or None. Order and decimals must agree."""
    configured = [(str(feed.pair), feed.decimals) for feed in group.feeds]
    on_chain = [(str(feed.pair), feed.decimals) for feed in known.feeds]
    if configured == on_chain:
        return None
    return f"the contract has {on_chain}, the configuration {configured}: deploy again, or correct the configuration"
