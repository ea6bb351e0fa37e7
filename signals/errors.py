"""The exception tree of the signals' room.

FairmarkError
└── SignalError
    ├── MessageRefusedError          a reporter's message that the trader does not take
    │   ├── UnknownFeedError         … for a feed that it does not have
    │   ├── UnknownReporterError     … from one that is not registered
    │   ├── DeregisteredError        … from one that was taken off
    │   ├── WrongKeyError            … signed by another key than its name's, or by none
    │   ├── ReplayedError            … that is not later than the last one
    │   │   └── AlreadyProducedError … a production for a slot that has one
    │   └── MismatchedError          … that does not fit the feed: its period, its range, its slot
    ├── SignalUnavailableError       a signal's producer does not answer, or answers what cannot be read
    ├── SignalInTroubleError         it answers that it has no value now, and why
    ├── TraderUnavailableError       the trader does not answer, or not what we can use
    └── FeedsInErrorError            a feed is in error: shown in `/health`
"""

from __future__ import annotations

from core.errors import FairmarkError
from core.reporting import Trouble


class SignalError(FairmarkError):
    """Base of the room's errors."""

    code = "signal"


class MessageRefusedError(SignalError):
    """A reporter's message that is not taken: sending the same again will not help. `code` tells why."""

    code = "message_refused"


class UnknownFeedError(MessageRefusedError):
    code = "unknown_feed"


class UnknownReporterError(MessageRefusedError):
    """Register first."""

    code = "unknown_reporter"


class DeregisteredError(MessageRefusedError):
    """An operator, or the reporter itself, took it off. `fairmark reporters register` or a new start brings it back."""

    code = "reporter_deregistered"


class WrongKeyError(MessageRefusedError):
    code = "wrong_key"


class ReplayedError(MessageRefusedError):
    code = "replayed"


class AlreadyProducedError(ReplayedError):
    """What was sent before had arrived, though its acknowledgement may have not."""

    code = "already_produced"


class MismatchedError(MessageRefusedError):
    code = "mismatched"


class SignalUnavailableError(SignalError):
    code = "signal_unavailable"


class SignalInTroubleError(SignalError):
    """`trouble` says where it began."""

    code = "signal_in_trouble"

    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble
        super().__init__(f"{trouble.who}: {trouble.code}, {trouble.detail}")


class TraderUnavailableError(SignalError):
    code = "trader_unavailable"


class FeedsInErrorError(SignalError):
    code = "feed_in_error"
