"""How one exchange is read: the catalogue, parsing, the quoting rule, and HTTP with retries.

A fetcher's way: `load_catalogue` → `SourcePool` → `fetch` gives a `Reading` or a `SourceFailure` → `judge` makes a
reading a `Quote` or a `SourceFailure`.
"""

from sources.entries import SourceEntry, TickerFormat, load_catalogue
from sources.errors import CatalogueError, ParseError, SimulatorUnreachableError, SourcesError, UnsupportedPairError
from sources.freshness import ChangeTracker
from sources.http import Reading
from sources.limits import Priority
from sources.markets import NO_TICKER
from sources.parse import Ticker, parse_ticker
from sources.pool import SourcePool
from sources.quarantine import QuarantinePolicy, State
from sources.quoting import judge
from sources.retries import RetryPolicy
from sources.simulated import simulator_base_urls, simulator_stream_urls
from sources.status import SourceStatus
from sources.streams import Streams

__all__ = [
    "NO_TICKER",
    "CatalogueError",
    "ChangeTracker",
    "ParseError",
    "Priority",
    "QuarantinePolicy",
    "Reading",
    "RetryPolicy",
    "SimulatorUnreachableError",
    "SourceEntry",
    "SourcePool",
    "SourceStatus",
    "SourcesError",
    "State",
    "Streams",
    "Ticker",
    "TickerFormat",
    "UnsupportedPairError",
    "judge",
    "load_catalogue",
    "parse_ticker",
    "simulator_base_urls",
    "simulator_stream_urls",
]
