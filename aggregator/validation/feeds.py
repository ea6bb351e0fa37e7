"""The rules over each feed's prices in the reports that count, in this order. Pure.

1. Minimum: fewer reporters with a price than the contract asks for, and the feed is left alone.
2. Outlier: a price far from the other reporters' (MAD with a floor) is a warning, not a rejection. With at most f liars
   among 2f + 1 or more contributors the median is within the honest range with them; dropping a report for one feed
   would take its honest prices for the others away, and could cost the quorum.
3. Dispersion: reporters further apart than the contract's limit, and the answer is HELD.
4. Deviation: an answer further from the standing one than the breaker's limit (`core.breaker`) is HELD.

A held answer is submitted all the same: the contract does not let it take the standing one's place, but keeps it as a
candidate until a later median confirms it, which it could not do if it never saw one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache

from msgspec import Struct

from aggregator.attempts import FeedAnswer
from aggregator.edges import Known
from aggregator.validation.received import Expected, Received
from contracts.readings import FeedOnChain
from contracts.report import NO_MEDIAN
from core.breaker import beyond
from core.median import BPS, from_scaled, lower_median, mad_outliers
from core.quality import Quality, confidence
from core.types import Feed, Pair


class Warn(StrEnum):
    """Why one price of an included report is suspect."""

    OUTLIER = "outlier"  # further from the reporters' median than 3 scaled MADs and the feed's floor
    ANSWER_DIFFERS = "answer_differs"  # what the fetcher says it saw is not what it signed


class Held(StrEnum):
    """Why an answer waits on chain instead of taking the standing one's place, by the contract's own rule."""

    DISPERSION = "dispersion"  # the reporters lie further apart than the feed allows
    DEVIATION = "deviation"  # too far from the standing answer, and not confirmed


class Priced(Struct, frozen=True):
    """What the included reports say of one feed. values: scaled, of those who have a price. middle: the median.

    sources: whose quotes each of them counted for it, by its signed word.
    """

    feed: Feed
    on_chain: FeedOnChain
    values: Sequence[int]
    sources: Sequence[Sequence[str]]
    middle: int
    spread_bps: int
    standing: int
    elapsed_ms: int


def dispersion(priced: Priced) -> tuple[Held, str] | None:
    """The contract's limit, where it has one."""
    most = priced.on_chain.max_spread_bps
    if most == 0 or priced.spread_bps <= most:
        return None
    return Held.DISPERSION, f"the reporters lie {priced.spread_bps} bps apart, {most} at most"


def deviation(priced: Priced) -> tuple[Held, str] | None:
    """From the standing answer, by the breaker's formula."""
    limit = priced.on_chain.limit_bps
    if not beyond(
        priced.middle,
        priced.standing,
        elapsed_ms=priced.elapsed_ms,
        heartbeat_ms=priced.on_chain.heartbeat_s * 1000,
        limit_bps=limit,
    ):
        return None
    away = (priced.middle - priced.standing) * BPS / Decimal(priced.standing)
    stood = from_scaled(priced.standing, priced.feed.decimals)
    return Held.DEVIATION, f"{away:+.0f} bps from the standing {stood:f}, {limit} at most, grown with the time since"


HOLDING: tuple[Callable[[Priced], tuple[Held, str] | None], ...] = (dispersion, deviation)
"""The rules that hold an answer, in their order: the first that does names it."""


class FeedResults(Struct, frozen=True):
    """answers and without: together every feed of the group, once. warnings: by signer, then by feed."""

    answers: dict[Pair, FeedAnswer]
    without: dict[Pair, str]
    warnings: dict[str, dict[Pair, str]]


def judge_feeds(included: Sequence[Received], hints: bytes, expected: Expected) -> FeedResults:
    """Every feed over the reports that count. included: in the contract's order, which `hints` index."""
    known = expected.known
    results = FeedResults({}, {}, {})
    names = [[quote.source for quote in one.report.quotes] for one in included]
    rows = [_row(one, known.standing) for one in included]
    for index, (feed, on_chain) in enumerate(zip(expected.group.feeds, known.feeds, strict=True)):
        observed = [row[index] for row in rows]
        having = [at for at, price in enumerate(observed) if price]
        values = [observed[at] for at in having]
        those = [included[at] for at in having]
        if hints[index] == NO_MEDIAN:
            results.without[feed.pair] = f"{len(values)} contributors, {on_chain.min_contributors} are needed"
        else:
            middle = observed[hints[index]]
            spread = (max(values) - min(values)) * BPS // middle
            elapsed = expected.moment - _stood_since(known, index)
            sources = [_sources(included[at], names[at], feed.pair) for at in having]
            priced = Priced(feed, on_chain, values, sources, middle, spread, known.standing[index], elapsed)
            results.answers[feed.pair] = _answer(priced, included[hints[index]], index)
        _warn(results, feed, those, values)
    return results


def _row(one: Received, standing: Sequence[int]) -> Sequence[int]:
    """What a report says of each feed, scaled: see `Expected.observed`."""
    signed = one.report.signed
    if not signed.unchanged:
        return signed.prices
    return [standing[at] if signed.unchanged >> at & 1 else price for at, price in enumerate(signed.prices)]


def _stood_since(known: Known, index: int) -> int:
    """When the standing answer was last observed, ms; the group's last moment where that is not known."""
    return known.observed_ms[index] if known.observed_ms else known.last_moment


def _answer(priced: Priced, whose: Received, index: int) -> FeedAnswer:
    feed, required = priced.feed, priced.on_chain.min_contributors
    held, why = next((found for rule in HOLDING if (found := rule(priced))), (None, ""))
    by_reporters = _confidence(len(priced.values), required, feed.wanted_contributors)
    sure = min(by_reporters, _sources_sure(priced))
    return FeedAnswer(
        price=from_scaled(priced.middle, feed.decimals),
        contributors=len(priced.values),
        spread_bps=priced.spread_bps,
        reporter=whose.signer or "",
        attested=bool(whose.report.signed.unchanged >> index & 1),
        state=Quality.OK if sure == 1 else Quality.DEGRADED,
        confidence=sure,
        sources=len(set().union(*priced.sources)),
        held="" if held is None else held.value,
        why_held=why,
    )


def _sources(one: Received, names: Sequence[str], pair: Pair) -> Sequence[str]:
    """Those whose quotes a report counted for the pair itself. names: each quote's source."""
    places = one.report.observed.get(pair, ())
    if not places or places[-1] >= len(names):  # ascending, or its evidence would not have been proven
        return ()
    return names[places[0] : places[-1] + 1] if places[-1] - places[0] < len(places) else [names[at] for at in places]


def _sources_sure(priced: Priced) -> Decimal:
    """Of the middle reporter by that measure: f liars' word moves it no further than to the next honest one's.

    A report that names no quotes for the feed says nothing of it.
    """
    told = [len(sources) for sources in priced.sources if sources]
    return _confidence(lower_median(told), 1, priced.feed.wanted_sources) if told else Decimal(1)


@lru_cache(maxsize=4_096)
def _confidence(have: int, required: int, wanted: int) -> Decimal:
    return confidence(have, required=required, wanted=wanted)


def _warn(results: FeedResults, feed: Feed, those: Sequence[Received], values: Sequence[int]) -> None:
    for one in _outliers(those, values, feed.outlier_floor_bps):
        results.warnings.setdefault(one.signer or "", {})[feed.pair] = Warn.OUTLIER
    scale = Decimal(10) ** feed.decimals
    for one, price in zip(those, values, strict=True):
        if not _says(one.report.answers.get(feed.pair), price, scale):
            results.warnings.setdefault(one.signer or "", {})[feed.pair] = Warn.ANSWER_DIFFERS


def _says(said: Decimal | None, price: int, scale: Decimal) -> bool:
    """Whether an unsigned answer is the signed price. It may be any number that a sender could write."""
    if said is None or not said.is_finite() or abs(said.adjusted()) >= 40:
        return False
    scaled = said * scale
    return scaled == price or int(scaled.to_integral_value()) == price


def _outliers(those: Sequence[Received], values: Sequence[int], floor_bps: int) -> list[Received]:
    if len(values) < 3 or (max(values) - min(values)) * BPS <= lower_median(values) * floor_bps:
        return []  # all within the floor of one another: nothing to work out
    flags = mad_outliers([Decimal(value) for value in values], floor_bps)
    return [one for one, flag in zip(those, flags, strict=True) if flag]
