"""The edge to the sources: a ticker from the pool, judged by the feed's rules, as a quote or as a coded failure."""

from __future__ import annotations

from typing import Protocol

from core.types import MAX_PRICE, MIN_PRICE, Feed, Pair, Quote, SourceFailure
from fetchers.candidates import Candidate
from sources import Reading, judge


class Pool(Protocol):
    """What a fetcher needs of `sources.SourcePool`."""

    async def fetch(self, source: str, pair: Pair, *, deadline: float) -> Reading | SourceFailure: ...


class PoolReader:
    """Reads candidates through a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read(self, candidate: Candidate, feed: Feed, moment: int, deadline: float) -> Quote | SourceFailure:
        """See `fetchers.fetch.Reader`. A market in another currency has its magnitude judged after conversion only."""
        result = await self._pool.fetch(candidate.source, candidate.pair, deadline=deadline)
        if isinstance(result, SourceFailure):
            return result
        own = candidate.pair == feed.pair
        return judge(
            result.ticker,
            candidate.source,
            candidate.pair,
            received_ms=result.received_ms,
            moment_ms=moment,
            max_age_ms=feed.max_quote_age_ms,
            max_spread_bps=feed.max_spread_bps,
            min_price=feed.min_price if own else MIN_PRICE,
            max_price=feed.max_price if own else MAX_PRICE,
            elapsed_ms=result.elapsed_ms,
        )
