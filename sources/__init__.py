"""How one exchange is read: the catalogue, parsing, the quoting rule, and HTTP with retries.

A fetcher's way: `load_catalogue` → `SourcePool` → `fetch` gives a `Reading` or a `SourceFailure` → `judge` makes a
reading a `Quote` or a `SourceFailure`.
"""

from sources.entries import SourceEntry, TickerFormat, load_catalogue
from sources.errors import CatalogueError, ParseError, SimulatorUnreachableError, SourcesError, UnsupportedPairError
from sources.http import Reading, RetryPolicy
from sources.parse import Ticker, parse_ticker
from sources.pool import SourcePool, simulator_base_urls
from sources.quoting import judge

__all__ = [
    "CatalogueError",
    "ParseError",
    "Reading",
    "RetryPolicy",
    "SimulatorUnreachableError",
    "SourceEntry",
    "SourcePool",
    "SourcesError",
    "Ticker",
    "TickerFormat",
    "UnsupportedPairError",
    "judge",
    "load_catalogue",
    "parse_ticker",
    "simulator_base_urls",
]
