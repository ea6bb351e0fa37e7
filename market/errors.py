"""The market's exception tree.

FairmarkError
└── MarketError
    ├── WindowUnavailableError     Redis is down, hangs, or refuses us
    ├── StoreUnavailableError      the database of minutes is down, hangs, or refuses us
    ├── SpoolError                 the local spool cannot be written
    ├── NoSourceError              no source of the mode is connected
    └── InvalidQuestionError       a symbol, exchange, period or interval that is none
"""

from __future__ import annotations

from collections.abc import Sequence

from core.errors import FairmarkError


class MarketError(FairmarkError):
    """Base of the market's errors."""


class WindowUnavailableError(MarketError):
    """Redis is down, hangs, or refuses us. Ticks stay in the window in memory, and are written when it returns."""

    code = "redis_unavailable"


class StoreUnavailableError(MarketError):
    """The database of minutes is down, hangs, or refuses us. Minutes wait in the spool."""

    code = "store_unavailable"


class SpoolError(MarketError):
    """The spool's file cannot be read or written."""

    code = "spool_failed"


class NoSourceError(MarketError):
    """No source of the mode is connected: nothing comes in."""

    code = "no_source"


class NotReadyError(MarketError):
    """The service is starting or stopping: its mode cannot be switched now."""

    code = "not_ready"


class InvalidQuestionError(MarketError):
    """A question that names what is not there. `known` lists what may be named."""

    code = "invalid_request"

    def __init__(self, message: str, *, code: str, status: int, known: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.reason, self.status, self.known = code, status, tuple(known)
