"""From what the sources said to the fetcher's own prices. Pure: the same quotes always give the same answers.

For each plan, rates first: convert every quote to the feed's currency by this round's own rates, choose those that
count by the rules in their order (`fetchers.rules`), and if they are enough for the feed, draw its answer from them
(`fetchers.averages`).

A rate stands on quotes of its own: as many sources as any feed needs, and no older. It is the median over all ways to
it, markets of the rate itself and those converted by another rate alike, so that no single book makes it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal

from msgspec import Struct

from core.currency import ConversionGraph, Converted, Rate, along
from core.errors import ConversionError
from core.pipeline import Pipeline
from core.quality import Quality, quality
from core.types import FailureCode, Pair, Quote, SourceFailure
from fetchers.averages import answer_of
from fetchers.candidates import Candidate, Plan
from fetchers.jumps import Standing
from fetchers.rules import PIPELINE, Accepted, Rejected, Round, as_failure, choose, name_mix_ups
from sources.freshness import is_fresh


class Verdict(Struct, frozen=True, kw_only=True):
    """What became of one plan. answer: exact, in the feed's currency; None below the feed's `min_sources` quotes.

    fresh: how many of the accepted are fresh, not merely not expired.
    """

    plan: Plan
    answer: Decimal | None
    accepted: tuple[Accepted, ...]
    rejected: tuple[SourceFailure, ...]
    fresh: int = 0

    @property
    def quality(self) -> Quality:
        """Degraded: enough sources for an answer, and fewer than the feed wants."""
        feed = self.plan.feed
        have = len(self.accepted) if self.answer is not None else 0
        return quality(have, required=feed.min_sources, wanted=feed.wanted_sources)


Rules = Pipeline[Accepted, Round, Rejected]


def evaluate(
    plans: Sequence[Plan],
    quotes: Mapping[Pair, Mapping[Candidate, Quote]],
    graph: ConversionGraph,
    moment: int,
    given: Mapping[Pair, Rate] | None = None,
    last: Mapping[Pair, Standing] | None = None,
    rules: Rules = PIPELINE,
) -> tuple[Verdict, ...]:
    """One verdict for each plan, in the order of `plans` (rates before what is converted by them).

    quotes: for each plan, by its feed's pair, what its own rules left standing, by candidate; a candidate without one
    failed, and plays no part here. moment: ms, from which ages are reckoned. given: rates from elsewhere, used where no
    plan makes one. last: the feeds' standing answers, as far as they are known. rules: in the configured
    order.
    """
    rates = dict(given or {})
    verdicts = []
    for plan in plans:
        pair = plan.feed.pair
        by = Round(plan=plan, moment=moment, last=(last or {}).get(pair))
        verdict = _judge(by, quotes.get(pair, {}), graph, rates, rules)
        if verdict.answer is not None and plan.feed.pair in graph.edges:
            rates[plan.feed.pair] = _rate(plan.feed.pair, verdict.answer, verdict.accepted)
        verdicts.append(verdict)
    return tuple(verdicts)


def _judge(
    by: Round, quotes: Mapping[Candidate, Quote], graph: ConversionGraph, rates: Mapping[Pair, Rate], rules: Rules
) -> Verdict:
    plan, moment, feed = by.plan, by.moment, by.plan.feed
    currency, oldest_ms = feed.pair.quote, moment - feed.max_quote_age_ms
    standing: list[Accepted] = []
    rejected: list[Rejected] = []
    ways: dict[Pair, tuple[Rate, ...]] = {}
    for first in plan.candidates:
        # one price a source: its first market that has one (another feed may have asked for the next one, too)
        quote = quotes.get(first)
        if quote is None:
            others = plan.others.get(first.source, ())
            quote = next((quotes[each] for each in others if each in quotes), None)
            if quote is None:
                continue
        legs = ways.get(quote.pair)
        if legs is None:
            try:
                legs = ways[quote.pair] = graph.legs(quote.pair.quote, currency, rates, oldest_ms)
            except ConversionError as error:
                rejected.append(Rejected(quote=quote, code=FailureCode.NO_CONVERSION, detail=str(error)))
                continue
        as_of = quote.as_of_ms()
        converted = along(quote.price, as_of, legs) if legs else Converted(price=quote.price, as_of_ms=as_of)
        young = is_fresh(
            feed, moment, as_of_ms=converted.as_of_ms, received_ms=quote.received_ms, changed_ms=quote.changed_ms
        )
        standing.append(Accepted(quote=quote, converted=converted, fresh=young))
    accepted, left_out = choose(standing, by, rules)
    answer = answer_of(accepted, feed) if accepted and len(accepted) >= feed.min_sources else None
    expected = answer if answer is not None or by.last is None else by.last.value
    named = name_mix_ups([*rejected, *left_out], expected) if rejected or left_out else []
    return Verdict(
        plan=plan,
        answer=answer,
        accepted=tuple(accepted),
        rejected=tuple(as_failure(each) for each in named),
        fresh=[each.fresh for each in accepted].count(True),
    )


def rates_of(verdicts: Sequence[Verdict], graph: ConversionGraph) -> dict[Pair, Rate]:
    """The conversion rates among `verdicts`, by pair."""
    return {
        each.plan.feed.pair: _rate(each.plan.feed.pair, each.answer, each.accepted)
        for each in verdicts
        if each.answer is not None and each.plan.feed.pair in graph.edges
    }


def _rate(pair: Pair, value: Decimal, accepted: Sequence[Accepted]) -> Rate:
    """As old as the oldest quote behind it, so that nothing converted by it looks younger than it is."""
    return Rate(
        pair=pair,
        value=value,
        as_of_ms=min([each.converted.as_of_ms for each in accepted]),
        sources=tuple([each.quote.source for each in accepted]),
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
