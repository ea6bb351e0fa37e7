"""The aggregator's exception tree.

AggregatorError
├── AttemptFailedError        an attempt ends without an accepted round; `code` is one of `attempts.FailureReason`
├── ServedElsewhereError      an attempt ends before it began: another aggregator's serves those who wait for it
├── InvalidTransitionError    a bug: an attempt was to take a step that its state does not allow
├── TooManyWaitingError       more requests wait for one group than the service holds
├── KeyInUseError             another process sends with our key
├── UnknownReporterError      an operator names a reporter that is not registered
├── FeedInErrorError          a strict feed misses a registered reporter: shown in `/health`
├── LowBalanceError           what pays for rounds runs out
├── NotReadyError             the service takes no requests yet: `/ready` tells why
└── StoppingError             the service is going down and takes no more requests

A store that cannot be used is `core.errors.StoreUnavailableError`: no attempt starts until it can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.errors import FairmarkError

if TYPE_CHECKING:
    from aggregator.attempts import AttemptRecord


class AggregatorError(FairmarkError):
    """Base of the aggregator's errors."""

    code = "aggregator"


class AttemptFailedError(AggregatorError):
    """An attempt cannot go on. `reason` goes into its record; it never leaves the engine."""

    code = "attempt_failed"

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


class ServedElsewhereError(AggregatorError):
    """Another aggregator's attempt serves those who wait for ours. It never leaves the engine."""

    code = "joined"

    def __init__(self, record: AttemptRecord) -> None:
        self.record = record
        super().__init__(f"attempt {record.id} of another aggregator serves it")


class InvalidTransitionError(AggregatorError):
    """A step that the attempt's state does not allow."""

    code = "internal"


class TooManyWaitingError(AggregatorError):
    """The group has as many waiting requests as the service holds. Ask again shortly."""

    code = "too_many_waiting"


class KeyInUseError(AggregatorError):
    """Another process holds the lock on the submitter's key: two owners of one nonce."""

    code = "key_in_use"


class UnknownReporterError(AggregatorError):
    """No strict feed has registered such a reporter."""

    code = "unknown_reporter"


class FeedInErrorError(AggregatorError):
    """A strict feed misses a registered reporter's price: its group makes no rounds until somebody acts."""

    code = "feed_in_error"


class LowBalanceError(AggregatorError):
    """The submitter's balance is below the configured one: rounds end when it is spent."""

    code = "low_balance"


class NotReadyError(AggregatorError):
    """The service does not know yet what became of its former attempts. Ask another instance, or again shortly."""

    code = "not_ready"


class StoppingError(AggregatorError):
    """The service is stopping. Ask another instance, or again shortly."""

    code = "stopping"


class RoundsFailingError(AggregatorError):
    """A group's last attempt brought no round: shown in `/health`."""

    code = "rounds_failing"
