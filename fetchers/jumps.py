"""A quote far from the feed's last answer: a lie, or the market? Pure.

The contract's breaker has the last word on an answer that jumps; this is its formula applied earlier, to single quotes,
and stricter: a quote is far where it lies more than `max_jump_bps` from the last answer, grown with the square root of
the time since (in heartbeats, 1 to 16), as a random walk's distance grows.

A true jump must pass, or a feed would be locked out of its own market. So the far quotes are refused only while they
are no majority: where more than half of all quotes are far, and more than half lie within the same limit of the far
ones' median, the market is there, and nothing is refused by this rule. Two camps of equal size are decided by the last
answer, where the outlier rule alone could not. Far ones that are many and do not agree are refused, and those near are
then too few to speak for the feed (see `fetchers.rules`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from msgspec import Struct

from core.median import BPS, lower_median
from core.types import Feed, Pair

MAX_GROWTH = 16
"""Heartbeats after which the limit grows no more: it is then four times `max_jump_bps`."""
_ONE, _MAX_GROWTH = Decimal(1), Decimal(MAX_GROWTH)


class Standing(Struct, frozen=True, kw_only=True):
    """A feed's last accepted answer, exact, and the moment at which it was observed."""

    value: Decimal
    observed_ms: int


class Answered(Protocol):
    """What a feed's answer on the chain tells: see `contracts.Answer`."""

    @property
    def price(self) -> Decimal: ...
    @property
    def observed_ms(self) -> int: ...


def standing(answers: Mapping[Pair, Answered]) -> dict[Pair, Standing]:
    """The answers that can be held against quotes: those that were ever given."""
    return {
        pair: Standing(value=answer.price, observed_ms=answer.observed_ms)
        for pair, answer in answers.items()
        if answer.price > 0
    }


def far_from(centre: Decimal, prices: Sequence[Decimal], feed: Feed, elapsed_ms: int) -> list[bool]:
    """For each price, whether it lies beyond the limit. Squared, so that no root is needed, as in the contract."""
    growth = min(max(_ONE, Decimal(elapsed_ms) / feed.heartbeat_ms), _MAX_GROWTH)
    base = feed.max_jump_bps * centre
    limit = base * base * growth

    def far(price: Decimal) -> bool:
        away = (price - centre) * BPS
        return away * away > limit

    if not (far(min(prices)) or far(max(prices))):  # and so is none between them
        return [False] * len(prices)
    return [far(price) for price in prices]


def jumps(prices: Sequence[Decimal], standing: Standing, feed: Feed, moment: int) -> list[bool]:
    """For each price, whether it is refused for its distance from the last answer."""
    elapsed_ms = moment - standing.observed_ms
    far = far_from(standing.value, prices, feed, elapsed_ms)
    if sum(far) * 2 > len(prices):
        centre = lower_median([price for price, out in zip(prices, far, strict=True) if out])
        together = far_from(centre, prices, feed, elapsed_ms).count(False)
        if together * 2 > len(prices):
            return [False] * len(prices)
    return far
