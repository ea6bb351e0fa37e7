"""The root of every room's exception tree.

Each room draws its own tree in its `errors.py`, with one base that derives from `FairmarkError`. An error carries what
is needed to act on it: a `code` that metrics, records and problem documents share, and a message that tells an operator
what to do next.
"""

from __future__ import annotations

from typing import ClassVar


class FairmarkError(Exception):
    """Base of every error that Fairmark raises on purpose.

    `code` is stable and lower_snake_case: it labels metrics, attempts' records and RFC 9457 problem documents.
    """

    code: ClassVar[str] = "internal"


class ConfigurationError(FairmarkError):
    """The configuration cannot be used. `problems` lists every fault found, each with its place."""

    code = "configuration_invalid"

    def __init__(self, problems: list[str], where: str = "configuration") -> None:
        self.problems = problems
        self.where = where
        listed = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{where} has {len(problems)} problem(s):\n{listed}")


class InvalidPriceError(FairmarkError):
    """A number that cannot be a price: zero, negative, NaN, infinite, absurd, or not a number at all."""

    code = "invalid_price"


class InvalidSignalError(FairmarkError):
    """A number that cannot be a value of its signal: not finite, or out of the declared range."""

    code = "invalid_signal"


class CyclicFeedsError(FairmarkError):
    """Feeds that depend on one another in a circle: none of them could ever be computed first."""

    code = "cyclic"


class ConversionError(FairmarkError):
    """A quote's currency cannot be brought to the feed's currency with the rates at hand."""

    code = "no_conversion"


class StoreUnavailableError(FairmarkError):
    """What must outlive this process cannot be written or read now."""

    code = "store_unavailable"


class LockTakenError(FairmarkError):
    """Another process has what only one may have at a time: see `core.locks`."""

    code = "lock_taken"


class StartError(FairmarkError):
    """A service cannot start: a port in use, a missing key, a server that does not answer."""

    code = "cannot_start"
