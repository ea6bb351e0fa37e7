"""When a failed request is sent again: a closed set of faults, full jitter, a deadline, and a budget for the source."""

from __future__ import annotations

import random

import tenacity
from msgspec import Struct
from tenacity.wait import wait_base

from core.types import FailureCode
from sources.errors import NoRoomError, RequestError

TRANSIENT = frozenset({FailureCode.TIMEOUT, FailureCode.CONNECTION, FailureCode.RATE_LIMITED, FailureCode.SERVER_ERROR})
"""The faults that a second try may mend. Nothing else is tried again."""
RESERVE = 10.0
"""Retries that a source may have beyond its share, so that one who is asked seldom may be tried again at all."""
RESERVE_PER_S = 0.1
"""How fast the reserve fills up while nothing is asked."""


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """How one fetch spends its budget. Times in seconds.

    try_timeout_s: one request, from connecting to the body's last byte. max_tries: requests of one fetch, at most.
    retry_share: of a source's requests, how many may be retries, beyond a reserve of `RESERVE` (see `RetryBudget`).
    backoff_s, max_backoff_s: before try n + 1, a wait drawn evenly from 0 to backoff_s * 2**(n - 1) (full jitter, after
    AWS' "Exponential Backoff And Jitter"), and never less than a Retry-After asks.
    """

    try_timeout_s: float = 1.5
    max_tries: int = 3
    retry_share: float = 0.2
    backoff_s: float = 0.05
    max_backoff_s: float = 1.0


class RetryBudget:
    """A source's retries as a share of its requests, after Finagle's: a source that is down is not asked three times as
    often for it. Every first try earns `share` of a retry, time a
    little more, and `RESERVE` can be saved.

    Pure; times are seconds of one monotonic clock.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._saved = RESERVE
        self._at = 0.0

    def asked(self, now: float) -> None:
        """A first try is sent."""
        self._save(self._share, now)

    def spend(self, now: float) -> bool:
        """Whether a retry may be sent; it is paid for then."""
        self._save(0.0, now)
        if self._saved < 1:
            return False
        self._saved -= 1
        return True

    def _save(self, earned: float, now: float) -> None:
        waited = max(0.0, now - self._at) * RESERVE_PER_S if self._at else 0.0
        self._saved = min(RESERVE, self._saved + earned + waited)
        self._at = now


class FullJitter(wait_base):
    """How long to wait before the next try, for tenacity."""

    def __init__(self, policy: RetryPolicy, rng: random.Random) -> None:
        self._policy = policy
        self._rng = rng

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        policy = self._policy
        ceiling = min(policy.max_backoff_s, policy.backoff_s * 2 ** (retry_state.attempt_number - 1))
        fault = retry_state.outcome.exception() if retry_state.outcome else None
        floor = fault.retry_after_s if isinstance(fault, RequestError) else 0.0
        return floor + self._rng.uniform(0, ceiling)


def is_transient(error: BaseException) -> bool:
    """Whether a second try may mend it."""
    return isinstance(error, RequestError) and error.failure in TRANSIENT and not isinstance(error, NoRoomError)
