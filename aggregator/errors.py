"""The aggregator's exception tree.

AggregatorError
├── AttemptFailedError        an attempt ends without an accepted round; `code` is one of `attempts.FailureReason`
├── InvalidTransitionError    a bug: an attempt was to take a step that its state does not allow
├── StoreUnavailableError     attempts cannot be claimed or saved
├── TooManyWaitingError       more requests wait for one group than the service holds
├── LowBalanceError           what pays for rounds runs out
└── StoppingError             the service is going down and takes no more requests
"""

from __future__ import annotations

from core.errors import FairmarkError


class AggregatorError(FairmarkError):
    """Base of the aggregator's errors."""

    code = "aggregator"


class AttemptFailedError(AggregatorError):
    """An attempt cannot go on. `reason` goes into its record; it never leaves the engine."""

    code = "attempt_failed"

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


class InvalidTransitionError(AggregatorError):
    """A step that the attempt's state does not allow."""

    code = "internal"


class StoreUnavailableError(AggregatorError):
    """The store of attempts cannot be used: no attempt starts until it can."""

    code = "store_unavailable"


class TooManyWaitingError(AggregatorError):
    """The group has as many waiting requests as the service holds. Ask again shortly."""

    code = "too_many_waiting"


class LowBalanceError(AggregatorError):
    """The submitter's balance is below the configured one: rounds end when it is spent."""

    code = "low_balance"


class StoppingError(AggregatorError):
    """The service is stopping. Ask another instance, or again shortly."""

    code = "stopping"


class RoundsFailingError(AggregatorError):
    """A group's last attempt brought no round: shown in `/health`."""

    code = "rounds_failing"
