"""What can go wrong with a source. Every parse or request error carries the `FailureCode` that records will show."""

from __future__ import annotations

from typing import ClassVar

from core.errors import ConfigurationError, FairmarkError
from core.types import FailureCode


class SourcesError(FairmarkError):
    """Base of this room's errors."""

    code = "source_failed"


class CatalogueError(SourcesError, ConfigurationError):
    """The catalogue cannot be used. `problems` lists every fault found, each with its file and place."""

    code = "catalogue_invalid"


class UnsupportedPairError(SourcesError):
    """The source does not serve this pair."""

    code = "unsupported"
    failure: ClassVar[FailureCode] = FailureCode.UNSUPPORTED


class ParseError(SourcesError):
    """A body that gives no ticker. `failure` says why."""

    code = "malformed"
    failure: ClassVar[FailureCode] = FailureCode.MALFORMED


class MalformedBodyError(ParseError):
    """Not JSON, not of the declared shape, an error message instead of a ticker, or another symbol's ticker."""


class EmptyBodyError(ParseError):
    """A body, or a list of tickers, with nothing in it."""

    code = "empty"
    failure = FailureCode.EMPTY


class InvalidNumberError(ParseError):
    """A price that is zero, negative, NaN, infinite or absurd."""

    code = "invalid_price"
    failure = FailureCode.INVALID_PRICE


class RequestError(SourcesError):
    """A request that brought no body. Raised inside `sources.http` only: callers see a `SourceFailure`."""

    code = "request_failed"

    def __init__(self, failure: FailureCode, detail: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(detail)
        self.failure = failure
        self.retry_after_s = retry_after_s


class NotItsFaultError(RequestError):
    """A request that failed for a reason of ours: it was given too little time, or was not sent because the source
    rests. It says nothing of how well the source is."""


class NoRoomError(NotItsFaultError):
    """A request that was never sent: the limit we keep to has no room for it in time."""

    def __init__(self, detail: str) -> None:
        super().__init__(FailureCode.RATE_LIMITED, detail)


class SimulatorUnreachableError(SourcesError):
    """Test mode, and the simulator's control port does not tell where its venues listen."""

    code = "simulator_unreachable"


class StreamLostError(SourcesError):
    """A stream's connection that ended, or was not made. Raised inside `sources.stream` only.

    because: one of `sources.stream.LostBecause`. retry_after_s: how long the exchange asked to be left alone.
    """

    code = "stream_lost"

    def __init__(self, because: str, detail: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(detail)
        self.because = because
        self.retry_after_s = retry_after_s
