"""A feed's answer from the quotes that count: their lower median, or one weighted by volume or by trust. Pure.

Weighted answers are a fetcher's own matter: on chain every reporter counts the same. A weighted median is one of the
quotes, lies between them, and is the plain lower median where all weights are equal; a mean would be none of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from core.median import lower_median, weighted_lower_median
from core.types import Aggregate, Feed, Quote
from fetchers.rules import Accepted

MAX_WEIGHT = 4
"""No source weighs more than so many times the middle one: a volume is a source's own word, and anybody can tell a
great one."""


def answer_of(accepted: Sequence[Accepted], feed: Feed) -> Decimal:
    """By the feed's `aggregate`. Raises `ValueError` where nothing is accepted."""
    values = [each.converted.price for each in accepted]
    if feed.aggregate is Aggregate.MEDIAN:
        return lower_median(values)
    return weighted_lower_median(values, weights([each.quote for each in accepted], feed))


def weights(quotes: Sequence[Quote], feed: Feed) -> list[Decimal]:
    """What each quote weighs, above zero, and at most `MAX_WEIGHT` times the lower middle one.

    By trust: as declared for its source, 1 where nothing is. By volume: as its source tells it, in the pair's base
    currency; a source that tells none weighs what the least does of those that tell, and where none tells all weigh 1.
    """
    if feed.aggregate is Aggregate.TRUST:
        found = [feed.trust.get(quote.source, Decimal(1)) for quote in quotes]
    else:
        told = [quote.volume for quote in quotes if quote.volume]
        least = min(told, default=Decimal(1))
        found = [quote.volume or least for quote in quotes]
    most = lower_median(found) * MAX_WEIGHT
    return [min(weight, most) for weight in found]
