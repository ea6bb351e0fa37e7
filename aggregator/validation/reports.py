"""The rules over the reports of one attempt: the first that a report fails names it. Pure.

Choices that are not obvious:

- A price cannot be taken out of a signed report, so one price outside its feed's declared range rejects the whole
  report. An honest reporter never signs one: its own rules refuse such quotes.
- Equivocation is two different reports by one signer for one group and moment. Both are rejected and both are kept:
  they prove it. The group hash decides what "one group" is: a report for another group is none of ours.
- A report counts only in the message that its signed evidence root commits to. Another message around it is somebody
  else's: it neither counts, nor keeps the reporter's own from counting, nor stands in the record in its place.
- What is valid is included, all of it: more reports than the threshold narrow what any single one can do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from aggregator.attempts import FORGED
from aggregator.validation.received import Expected, Received
from core.median import from_scaled
from core.pipeline import Pipeline, Rule
from core.types import REPORT_RULES


class Fault(StrEnum):
    """Why a report is not in a submission. A closed set: records and metrics use these and no others."""

    WRONG_DEPLOYMENT = "wrong_deployment"
    WRONG_MODE = "wrong_mode"
    WRONG_GROUP = "wrong_group"
    WRONG_MOMENT = "wrong_moment"
    MALFORMED = "malformed"  # not one price a feed, or a price for a feed that it calls unchanged
    BAD_SIGNATURE = "bad_signature"
    NOT_A_MEMBER = "not_a_member"  # signed by nobody of the group's current set
    WRONG_GROUP_HASH = "wrong_group_hash"  # another version of the group, or another group
    EVIDENCE_MISMATCH = FORGED  # the message is not what the signed evidence root commits to
    STALE_PREVIOUS = "stale_previous"  # it follows another round than the group's last
    EXPIRED = "expired"  # the moment is older than the contract would take
    OUT_OF_RANGE = "out_of_range"
    EQUIVOCATION = "equivocation"
    LATE = "late"  # valid or not: the collection had ended


Finding = tuple[Fault, str]
Alone = Callable[[Received, Expected, int], Finding | None]
"""A rule that judges one report by itself, at a time in ms."""


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
    if signed.unchanged >> feeds:
        return Fault.MALFORMED, f"bits for more than {feeds} feeds"
    if signed.unchanged and any(price and signed.unchanged >> index & 1 for index, price in enumerate(signed.prices)):
        return Fault.MALFORMED, "a price for a feed that it calls unchanged"
    return None


def _signature(received: Received, _expected: Expected, _now: int) -> Finding | None:
    return (Fault.BAD_SIGNATURE, received.fault) if received.signer is None else None


def _member(received: Received, expected: Expected, _now: int) -> Finding | None:
    return None if received.signer in expected.known.signers else (Fault.NOT_A_MEMBER, f"signed by {received.signer}")


def _group_hash(received: Received, expected: Expected, _now: int) -> Finding | None:
    found = received.report.signed.group_hash
    return None if found.lower() == expected.known.group_hash else (Fault.WRONG_GROUP_HASH, found)


def _evidence(received: Received, _expected: Expected, _now: int) -> Finding | None:
    return (Fault.EVIDENCE_MISMATCH, received.unproven) if received.unproven else None


def _previous(received: Received, expected: Expected, _now: int) -> Finding | None:
    found, last = received.report.signed.previous_moment, expected.known.last_moment
    return None if found == last else (Fault.STALE_PREVIOUS, f"follows {found}; the group's last moment is {last}")


def _fresh(_received: Received, expected: Expected, now_ms: int) -> Finding | None:
    age = now_ms - expected.moment
    limit = expected.group.max_age_ms
    return (Fault.EXPIRED, f"the moment is {age} ms old, more than {limit}") if age > limit else None


def _range(received: Received, expected: Expected, _now: int) -> Finding | None:
    # as many prices as feeds: for the rule of shape to say, wherever that stands
    for price, (least, most), feed in zip(
        received.report.signed.prices, expected.ranges, expected.group.feeds, strict=False
    ):
        if price and not least <= price <= most:
            value = from_scaled(price, feed.decimals)
            return Fault.OUT_OF_RANGE, f"{feed.pair} {value:f} is not within {feed.min_price} and {feed.max_price}"
    return None


@dataclass(frozen=True)
class Case:
    """What the reports of one attempt are judged by. now_ms: our clock."""

    expected: Expected
    now_ms: int


Rejected = tuple[Received, Fault, str]
Sifted = tuple[Sequence[Received], Sequence[Rejected]]


def _each(rule: Alone) -> Rule[Received, Case, Rejected]:
    """A rule over all of them from one over each."""

    def sift(left: Sequence[Received], case: Case, _rejected: Sequence[Rejected]) -> Sifted:
        kept: list[Received] = []
        out: list[Rejected] = []
        for one in left:
            finding = rule(one, case.expected, case.now_ms)
            if finding is None:
                kept.append(one)
            else:
                out.append((one, *finding))
        return kept, out

    return sift


def _equivocation(left: Sequence[Received], case: Case, _rejected: Sequence[Rejected]) -> Sifted:
    guilty = equivocators(left, case.expected)
    if not guilty:
        return left, ()
    out = [
        (one, Fault.EQUIVOCATION, f"{one.signer} signed another report for this moment, too")
        for one in left
        if one.signer in guilty and case.expected.own(one)
    ]
    named = {id(one) for one, *_ in out}
    return [one for one in left if id(one) not in named], out


ALONE: dict[str, Alone] = {
    "envelope": _envelope,
    "moment": _moment,
    "shape": _shape,
    "signature": _signature,
    "member": _member,
    "group_hash": _group_hash,
    "evidence": _evidence,
    "previous": _previous,
    "age": _fresh,
    "range": _range,
}

PIPELINE: Pipeline[Received, Case, Rejected] = Pipeline(
    {"equivocation": _equivocation, **{name: _each(rule) for name, rule in ALONE.items()}}
).ordered(REPORT_RULES)
"""In the order in which they stand unless the settings have another (`validation.reports`). Afterwards come the rules
over each feed's prices, the minimum of reporters among them: `aggregator.validation.feeds`."""


@lru_cache(maxsize=16)
def pipeline(order: tuple[str, ...]) -> Pipeline[Received, Case, Rejected]:
    """The rules in a configured order. Raises `ConfigurationError`."""
    return PIPELINE.ordered(order, "validation.reports")


def judge(received: Received, expected: Expected, now_ms: int) -> Finding | None:
    """The first rule that this report alone fails, or None."""
    for name in expected.order:
        rule = ALONE.get(name)
        if rule is not None and (finding := rule(received, expected, now_ms)):
            return finding
    return None


def equivocators(received: Sequence[Received], expected: Expected) -> frozenset[str]:
    """The members who signed two different reports for this group and moment."""
    first: dict[str, bytes] = {}
    guilty = set()
    for one in received:
        if one.signer is not None and expected.own(one) and first.setdefault(one.signer, one.digest) != one.digest:
            guilty.add(one.signer)
    return frozenset(guilty)
