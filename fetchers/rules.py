"""Which of the quotes that are sound by themselves count: the rules, in the order in which they stand.

What a quote is by itself (its own age, a dead market, its book, its range) `sources.quoting` has judged before; these
judge it in the feed's currency, and beside the others. Every quote that a rule leaves out says why. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from msgspec import Struct

from core.currency import Converted
from core.median import BPS, lower_median, mad_outliers
from core.pipeline import Pipeline
from core.types import QUOTE_RULES, FailureCode, Feed, Quote, SourceFailure
from fetchers.candidates import Plan
from fetchers.jumps import Standing, jumps
from sources.mixups import mix_up

_BY_PRICE = frozenset({FailureCode.OUT_OF_RANGE, FailureCode.OUTLIER, FailureCode.JUMP})


class Accepted(Struct, frozen=True, kw_only=True, gc=False):
    """A quote that counts, with its price in the feed's currency, the rates that took it there, and its age.

    fresh: by all three clocks, its rates' age included; else it is merely not expired.
    """

    quote: Quote
    converted: Converted
    fresh: bool


class Rejected(Struct, frozen=True, kw_only=True):
    """A quote that does not count, and why. price: in the feed's currency, where it could be brought there."""

    quote: Quote
    code: FailureCode
    detail: str
    price: Decimal | None = None


class Round(Struct, frozen=True, kw_only=True):
    """What the quotes of one plan are judged by. moment: ms. last: the feed's last answer, where it is known."""

    plan: Plan
    moment: int
    last: Standing | None


Sifted = tuple[Sequence[Accepted], Sequence[Rejected]]


def age(left: Sequence[Accepted], by: Round, _rejected: Sequence[Rejected]) -> Sifted:
    """A converted price is as old as its oldest leg: one older than the feed allows is EXPIRED."""
    oldest_ms = by.moment - by.plan.feed.max_quote_age_ms
    if not left or min([each.converted.as_of_ms for each in left]) >= oldest_ms:
        return left, ()
    out = [
        _rejected_for(each, FailureCode.EXPIRED, _aged(each.converted, by))
        for each in left
        if each.converted.as_of_ms < oldest_ms
    ]
    return [each for each in left if each.converted.as_of_ms >= oldest_ms], out


def in_range(left: Sequence[Accepted], by: Round, _rejected: Sequence[Rejected]) -> Sifted:
    """A price outside the feed's declared magnitude is OUT_OF_RANGE."""
    feed = by.plan.feed
    low, high = feed.min_price, feed.max_price
    prices = [each.converted.price for each in left]
    if not prices or low <= min(prices) <= max(prices) <= high:
        return left, ()
    kept, out = [], []
    for each in left:
        price = each.converted.price
        if low <= price <= high:
            kept.append(each)
        else:
            detail = f"{short(price)} {feed.pair} is outside {low} to {high}"
            out.append(_rejected_for(each, FailureCode.OUT_OF_RANGE, detail))
    return kept, out


def dependent(left: Sequence[Accepted], by: Round, _rejected: Sequence[Rejected]) -> Sifted:
    """Of sources that are one another's echo (`fetchers.families`) one counts: a fresh one before one that is merely
    not expired, then by priority. The others are DEPENDENT."""
    kin = by.plan.families
    if not kin:
        return left, ()
    first: dict[str, Accepted] = {}
    for each in left:
        family = kin.get(each.quote.source)
        if family is not None and (family not in first or (each.fresh and not first[family].fresh)):
            first[family] = each
    kept, out = [], []
    for each in left:
        speaks = first.get(kin.get(each.quote.source, ""))
        if speaks is None or speaks is each:
            kept.append(each)
        else:
            detail = f"{speaks.quote.source} speaks for both: they count once"
            out.append(_rejected_for(each, FailureCode.DEPENDENT, detail))
    return kept, out


def fresh(left: Sequence[Accepted], by: Round, _rejected: Sequence[Rejected]) -> Sifted:
    """Where enough are fresh to speak without the others (`fresh_quorum`), the rest are AGING. Where they fall short,
    the youngest of the rest fill up to `wanted_sources`."""
    feed = by.plan.feed
    older = [each for each in left if not each.fresh]
    if not older:
        return left, ()
    older.sort(key=lambda each: -each.converted.as_of_ms)  # stable: of equal age, by priority
    young = len(left) - len(older)
    left_out = older if young >= fresh_quorum(feed) else older[feed.wanted_sources - young :]
    if not left_out:
        return left, ()
    enough = len(left) - len(left_out)
    out = []
    for each in left_out:
        age_ms = by.moment - min(each.converted.as_of_ms, each.quote.received_ms)
        detail = f"{age_ms} ms old at the moment, and {enough} others are fresher"
        out.append(_rejected_for(each, FailureCode.AGING, detail))
    return [each for each in left if each not in left_out], out


def deviation(left: Sequence[Accepted], by: Round, _rejected: Sequence[Rejected]) -> Sifted:
    """Too far from the last answer by the breaker's formula, and no majority (`fetchers.jumps`), is a JUMP."""
    last, feed = by.last, by.plan.feed
    if last is None or not left:
        return left, ()
    far = jumps([each.converted.price for each in left], last, feed, by.moment)
    if not any(far):
        return left, ()
    kept, out = [], []
    for each, is_far in zip(left, far, strict=True):
        if is_far:
            detail = f"{_off(each, feed, last.value)} from the last answer {short(last.value)}, and no majority is"
            out.append(_rejected_for(each, FailureCode.JUMP, detail))
        else:
            kept.append(each)
    return kept, out


def outlier(left: Sequence[Accepted], by: Round, rejected: Sequence[Rejected]) -> Sifted:
    """What lies too far from the median of the others (`core.median.mad_outliers`) is an OUTLIER.

    More than half of those looked at must be left: the lower median of two camps of equal size lies in the lower one,
    which is no more right than the other. Where the last answer has taken one camp away, half of all is enough.
    """
    if not left:
        return left, ()
    feed = by.plan.feed
    prices = [each.converted.price for each in left]
    outliers = mad_outliers(prices, feed.outlier_floor_bps)
    near = outliers.count(False)
    looked_at = len(left) + [each.code for each in rejected].count(FailureCode.JUMP)
    split = near * 2 <= len(left) or near * 2 < looked_at
    if not split and near == len(left):
        return left, ()
    centre = lower_median(prices)
    kept, out = [], []
    for each, is_out in zip(left, outliers, strict=True):
        if not is_out and not split:
            kept.append(each)
            continue
        detail = f"{_off(each, feed, centre)} from the median {short(centre)}"
        if split:
            detail += f", near which lie only {near} of {looked_at}"
        out.append(_rejected_for(each, FailureCode.OUTLIER, detail))
    return kept, out


PIPELINE: Pipeline[Accepted, Round, Rejected] = Pipeline(
    {
        "age": age,
        "range": in_range,
        "dependent": dependent,
        "fresh": fresh,
        "deviation": deviation,
        "outlier": outlier,
    }
).ordered(QUOTE_RULES)
"""In the order in which they stand unless the settings have another (`validation.quotes`). The feed's minimum of
sources comes last, over what is left: `fetchers.evaluate`."""


def choose(
    standing: Sequence[Accepted], by: Round, pipeline: Pipeline[Accepted, Round, Rejected] = PIPELINE
) -> tuple[list[Accepted], list[Rejected]]:
    """Which of `standing` count, in their order, and why the others do not: together they are all of `standing`.

    If what is chosen gives no price, the aging ones are heard, too: an older price that many agree on is better than
    none, and than one fresh one alone.
    """
    accepted, rejected = pipeline.sift(standing, by)
    if len(accepted) < by.plan.feed.min_sources and any(each.code is FailureCode.AGING for each in rejected):
        return pipeline.sift(standing, by, without=("fresh",))
    return accepted, rejected


def name_mix_ups(rejected: Sequence[Rejected], expected: Decimal | None) -> list[Rejected]:
    """The same, with what was rejected for its price named a MIX_UP where it looks like one. expected: the price."""
    if expected is None:
        return list(rejected)
    named = []
    for each in rejected:
        looks = mix_up(each.price, expected) if each.price is not None and each.code in _BY_PRICE else None
        if looks is not None:
            detail = f"{each.detail}; it looks like {looks}: see its symbol in the catalogue"
            each = Rejected(quote=each.quote, code=FailureCode.MIX_UP, detail=detail, price=each.price)  # noqa: PLW2901
        named.append(each)
    return named


def as_failure(rejected: Rejected) -> SourceFailure:
    quote = rejected.quote
    return SourceFailure(pair=quote.pair, source=quote.source, code=rejected.code, detail=rejected.detail)


def short(price: Decimal) -> str:
    """At most 12 significant digits: enough to recognise a price, whatever a conversion did to its length."""
    return f"{price:.12g}"


def fresh_quorum(feed: Feed) -> int:
    """So many fresh quotes speak for a feed without those that are merely not expired."""
    return max(feed.min_sources, feed.wanted_sources // 2 + 1)


def _aged(converted: Converted, by: Round) -> str:
    oldest = min(converted.legs, key=lambda leg: leg.as_of_ms, default=None)
    leg = f" by its rate {oldest.pair}" if oldest is not None and oldest.as_of_ms == converted.as_of_ms else ""
    return f"{by.moment - converted.as_of_ms} ms old at the moment{leg}, {by.plan.feed.max_quote_age_ms} at most"


def _off(each: Accepted, feed: Feed, centre: Decimal) -> str:
    price = each.converted.price
    return f"{short(price)} {feed.pair} is {(price - centre) * BPS / centre:+.0f} bps"


def _rejected_for(each: Accepted, code: FailureCode, detail: str) -> Rejected:
    return Rejected(quote=each.quote, code=code, detail=detail, price=each.converted.price)
