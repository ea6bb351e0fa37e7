"""From what the sources said to the fetcher's own prices. Pure: the same quotes always give the same answers.

For each plan, rates first: convert every quote to the feed's currency by this round's own rates, refuse what is too old
for the feed by then (a converted price is as old as its oldest leg) or outside its declared magnitude, then what lies
too far from the median of the others (`core.median.mad_outliers`), and take the lower median of the rest if they are
enough, and more than half of those that the outlier rule looked at: of two camps of equal size none is the outlier.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal

from msgspec import Struct

from core.currency import ConversionGraph, Converted, Rate
from core.errors import ConversionError
from core.median import BPS, lower_median, mad_outliers
from core.types import FailureCode, Pair, Quote, SourceFailure
from fetchers.candidates import Candidate, Plan


class Accepted(Struct, frozen=True, kw_only=True):
    """A quote that counts, with its price in the feed's currency, the rates that took it there, and its age."""

    quote: Quote
    converted: Converted


class Verdict(Struct, frozen=True, kw_only=True):
    """What became of one plan. answer: exact, in the feed's currency; None below the feed's `min_sources` quotes."""

    plan: Plan
    answer: Decimal | None
    accepted: tuple[Accepted, ...]
    rejected: tuple[SourceFailure, ...]


def evaluate(
    plans: Sequence[Plan],
    quotes: Mapping[Pair, Mapping[Candidate, Quote]],
    graph: ConversionGraph,
    moment: int,
    given: Mapping[Pair, Rate] | None = None,
) -> tuple[Verdict, ...]:
    """One verdict for each plan, in the order of `plans` (rates before what is converted by them).

    quotes: for each plan, by its feed's pair, what its own rules left standing, by candidate; a candidate without one
    failed, and plays no part here. moment: ms, from which ages are reckoned. given: rates from elsewhere, used where no
    plan makes one.
    """
    rates = dict(given or {})
    verdicts = []
    for plan in plans:
        verdict = _judge(plan, quotes.get(plan.feed.pair, {}), graph, rates, moment)
        if verdict.answer is not None and plan.feed.pair in graph.edges:
            rates[plan.feed.pair] = _rate(plan.feed.pair, verdict.answer, verdict.accepted)
        verdicts.append(verdict)
    return tuple(verdicts)


def _judge(
    plan: Plan,
    quotes: Mapping[Candidate, Quote],
    graph: ConversionGraph,
    rates: Mapping[Pair, Rate],
    moment: int,
) -> Verdict:
    feed = plan.feed
    standing: list[Accepted] = []
    rejected: list[SourceFailure] = []
    for markets in plan.by_source():
        # one price a source: its first market that has one (another feed may have asked for the next one, too)
        quote = next((quotes[each] for each in markets if each in quotes), None)
        if quote is None:
            continue
        try:
            converted = graph.convert(quote.price, quote.as_of_ms(), quote.pair.quote, feed.pair.quote, rates)
        except ConversionError as error:
            rejected.append(_rejection(quote, FailureCode.NO_CONVERSION, str(error)))
            continue
        age_ms = moment - converted.as_of_ms
        if age_ms > feed.max_quote_age_ms:
            rejected.append(_rejection(quote, FailureCode.EXPIRED, _aged(age_ms, converted, feed.max_quote_age_ms)))
            continue
        if not feed.min_price <= converted.price <= feed.max_price:
            detail = f"{_short(converted.price)} {feed.pair} is outside {feed.min_price} to {feed.max_price}"
            rejected.append(_rejection(quote, FailureCode.OUT_OF_RANGE, detail))
            continue
        standing.append(Accepted(quote=quote, converted=converted))
    accepted = _without_outliers(standing, plan, rejected)
    enough = accepted and len(accepted) >= feed.min_sources
    answer = lower_median([each.converted.price for each in accepted]) if enough else None
    return Verdict(plan=plan, answer=answer, accepted=tuple(accepted), rejected=tuple(rejected))


def _without_outliers(standing: list[Accepted], plan: Plan, rejected: list[SourceFailure]) -> list[Accepted]:
    if not standing:
        return standing
    prices = [each.converted.price for each in standing]
    outliers = mad_outliers(prices, plan.feed.outlier_floor_bps)
    near = outliers.count(False)
    # The lower median of two camps of equal size lies in the lower one: that one is no more right than the other.
    split = near * 2 <= len(standing)
    accepted = []
    for each, price, outlier in zip(standing, prices, outliers, strict=True):
        if not outlier and not split:
            accepted.append(each)
            continue
        centre = lower_median(prices)
        off = (price - centre) * BPS / centre
        detail = f"{_short(price)} {plan.feed.pair} is {off:+.0f} bps from the median {_short(centre)}"
        if split:
            detail += f", near which lie only {near} of {len(standing)}"
        rejected.append(_rejection(each.quote, FailureCode.OUTLIER, detail))
    return accepted


def _rate(pair: Pair, value: Decimal, accepted: Sequence[Accepted]) -> Rate:
    """As old as the oldest quote behind it, so that nothing converted by it looks younger than it is."""
    return Rate(
        pair=pair,
        value=value,
        as_of_ms=min(each.converted.as_of_ms for each in accepted),
        sources=tuple(each.quote.source for each in accepted),
    )


def settle(
    verdicts: Sequence[Verdict], quotes: Collection[Quote], failures: Sequence[SourceFailure]
) -> tuple[tuple[Quote, ...], tuple[SourceFailure, ...]]:
    """The record of one fetch: every (source, pair) asked, once, as a quote or as a failure.

    A quote that counts for any plan is a quote, whatever another made of it; one that counts for none is a failure.
    """
    counted = {(each.quote.source, each.quote.pair) for verdict in verdicts for each in verdict.accepted}
    kept = tuple(quote for quote in quotes if (quote.source, quote.pair) in counted)
    lost: dict[tuple[str, Pair], SourceFailure] = {}
    for failure in [*failures, *(each for verdict in verdicts for each in verdict.rejected)]:
        if (failure.source, failure.pair) not in counted:
            lost.setdefault((failure.source, failure.pair), failure)
    return kept, tuple(lost.values())


def _rejection(quote: Quote, code: FailureCode, detail: str) -> SourceFailure:
    return SourceFailure(pair=quote.pair, source=quote.source, code=code, detail=detail)


def _aged(age_ms: int, converted: Converted, limit_ms: int) -> str:
    oldest = min(converted.legs, key=lambda leg: leg.as_of_ms, default=None)
    by = f" by its rate {oldest.pair}" if oldest is not None and oldest.as_of_ms == converted.as_of_ms else ""
    return f"{age_ms} ms old at the moment{by}, {limit_ms} at most"


def _short(price: Decimal) -> str:
    """At most 12 significant digits: enough to recognise a price, whatever a conversion did to its length."""
    return f"{price:.12g}"
