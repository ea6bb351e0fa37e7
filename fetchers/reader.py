"""The edge to the sources: tickers from the pool, and what a feed's own rules make of one."""

from __future__ import annotations

from typing import Protocol

from core.types import MAX_PRICE, MIN_PRICE, Feed, Pair, Quote, SourceFailure
from fetchers.candidates import Candidate
from sources import Reading, judge


class Pool(Protocol):
    """What a fetcher needs of `sources.SourcePool`."""

    async def fetch(self, source: str, pair: Pair, *, deadline: float) -> Reading | SourceFailure: ...


class PoolReader:
    """Reads candidates through a pool: see `fetchers.fetch.Reader`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read(self, candidate: Candidate, deadline: float) -> Reading | SourceFailure:
        return await self._pool.fetch(candidate.source, candidate.pair, deadline=deadline)


def judged(reading: Reading, feed: Feed, moment: int) -> Quote | SourceFailure:
    """What `reading` says of `feed` at `moment`, by the feed's own rules: another feed's may be stricter, or laxer.

    A market in another currency has its magnitude judged after conversion only. Pure.
    """
    own = reading.pair == feed.pair
    return judge(
        reading.ticker,
        reading.source,
        reading.pair,
        received_ms=reading.received_ms,
        moment_ms=moment,
        max_age_ms=feed.max_quote_age_ms,
        max_spread_bps=feed.max_spread_bps,
        min_price=feed.min_price if own else MIN_PRICE,
        max_price=feed.max_price if own else MAX_PRICE,
        elapsed_ms=reading.elapsed_ms,
    )
