"""The contract's breaker, off chain: whether a median is too far from an answer to take its place unconfirmed. Pure.

limit² = base² × min(max(1, elapsed / heartbeat), 16), in integers as `FairmarkBreaker._beyond` has it: a random walk's
distance grows with the square root of the time. What is beyond waits on chain as a candidate, and the standing answer
stands, until a later median confirms it.
"""

from __future__ import annotations

from core.median import BPS

MAX_GROWTH = 16
"""Heartbeats after which the limit grows no more: it is then four times as wide."""


def beyond(value: int, anchor: int, *, elapsed_ms: int, heartbeat_ms: int, limit_bps: int) -> bool:
    """Whether `value` lies beyond the limit from `anchor`, which stood `elapsed_ms` before it; both scaled alike.

    Where nothing stands (0), and where there is no limit (0), nothing is beyond.
    """
    if limit_bps == 0 or anchor == 0:
        return False
    away, allowed = abs(value - anchor) * BPS, limit_bps * anchor
    elapsed = min(max(elapsed_ms, heartbeat_ms), heartbeat_ms * MAX_GROWTH)
    return away * away * heartbeat_ms > allowed * allowed * elapsed
