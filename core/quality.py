"""How much stands behind an answer: as many witnesses as were wanted, fewer, or too few for any answer. Pure.

One rule for both places where a median is taken: a fetcher's witnesses are its sources, a round's are its reporters.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from enum import StrEnum

_CENT = Decimal("0.01")


class Quality(StrEnum):
    """A closed set: records, metrics, replays and clients see these and no others."""

    OK = "ok"  # as many as wanted
    DEGRADED = "degraded"  # an answer that rests on fewer than wanted, and on no fewer than required
    UNAVAILABLE = "unavailable"  # fewer than required: no answer


def quality(have: int, *, required: int, wanted: int) -> Quality:
    """What an answer by `have` witnesses is. A `wanted` below `required` asks for no more than that."""
    if have < max(1, required):
        return Quality.UNAVAILABLE
    return Quality.OK if have >= wanted else Quality.DEGRADED


def confidence(have: int, *, required: int, wanted: int) -> Decimal:
    """The part of what was wanted that is there, from 0 (no answer) to 1 (all of it), cut to two places.

    It counts witnesses; it is no probability. Cut, not rounded, so that 1 always means all.
    """
    if quality(have, required=required, wanted=wanted) is Quality.UNAVAILABLE:
        return Decimal(0)
    return min(Decimal(1), Decimal(have) / max(1, required, wanted)).quantize(_CENT, ROUND_DOWN)
