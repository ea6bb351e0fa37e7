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


class SimulatorUnreachableError(SourcesError):
    """Test mode, and the simulator's control port does not tell where its venues listen."""

    code = "simulator_unreachable"
