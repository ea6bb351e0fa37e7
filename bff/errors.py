"""The BFF's exception tree.

FairmarkError
└── BffError
    ├── InvalidPairError              a path that names no pair
    ├── UnknownPairError              a pair that is not published here
    ├── ChainUnavailableError         the chain could not be read
    ├── AggregatorUnavailableError    the aggregator is down, hangs, or answers what we cannot use
    ├── MarketUnavailableError        the market data's service is down, hangs, or answers what we cannot use
    ├── TraderUnavailableError        the trader is down, hangs, or answers what we cannot use
    └── RecordNotFoundError           the aggregator has no such attempt or round
"""

from __future__ import annotations

from collections.abc import Sequence

from core.errors import FairmarkError


class BffError(FairmarkError):
    """Base of the BFF's errors."""


class InvalidPairError(BffError):
    """A path segment that is not of the form `BTC-USD`."""

    code = "invalid_request"


class UnknownPairError(BffError):
    """A well-formed pair that is not published here. `known` names those that are."""

    code = "unknown_pair"

    def __init__(self, pair: str, known: Sequence[str]) -> None:
        super().__init__(f"{pair} is not published here; known: {', '.join(known)}")
        self.known = tuple(known)


class ChainUnavailableError(BffError):
    """The chain could not be read: node down, timed out, or an answer that does not decode."""

    code = "chain_unavailable"


class StalePricesError(BffError):
    """Prices are served, but some are stale or were never set: shown in `/health`."""

    code = "stale_prices"


class AggregatorUnavailableError(BffError):
    """The aggregator does not answer, refuses us, or answers what cannot be read. Reads go on without it."""

    code = "aggregator_unavailable"


class MarketUnavailableError(BffError):
    """The market data's service does not answer. The oracle's prices are another matter, and go on."""

    code = "market_unavailable"


class TraderUnavailableError(BffError):
    """The trader does not answer, or answers what cannot be read. Prices go on without it."""

    code = "trader_unavailable"


class RecordNotFoundError(BffError):
    """The aggregator keeps no record under this id, or of this round."""

    code = "not_found"
