"""The edge to the sources: what streams showed, tickers from the pool, and what a feed's own rules make of one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import msgspec

from core.types import MAX_PRICE, MIN_PRICE, Feed, Pair, Quote, SourceFailure
from fetchers.candidates import Candidate
from sources import ChangeTracker, Priority, Reading, judge


class Pool(Protocol):
    """What a fetcher needs of `sources.SourcePool`."""

    async def fetch(
        self, source: str, pair: Pair, *, deadline: float, priority: Priority = Priority.JOB, anyway: bool = False
    ) -> Reading | SourceFailure: ...


class StreamStatus(Protocol):
    """How one source's stream stands: `sources.streams.StreamState`."""

    @property
    def source(self) -> str: ...
    @property
    def up(self) -> int: ...
    @property
    def connections(self) -> int: ...
    @property
    def last_loss(self) -> str: ...


class Streaming(Protocol):
    """What a fetcher needs of `sources.streams.Streams`."""

    def want(self, source: str, pairs: Collection[Pair]) -> tuple[Pair, ...]: ...
    def latest(self, source: str, pair: Pair, moment_ms: int) -> Reading | None: ...
    async def run(self) -> None: ...
    def states(self) -> Sequence[StreamStatus]: ...


class PoolReader:
    """Reads candidates from streams, and through a pool: see `fetchers.fetch.Reader`.

    changes: where every reading is noted, so that a price that never changes is known for one; the streams' sink notes
    all that they show in the same one. streams: None: there are none.
    """

    def __init__(self, pool: Pool, changes: ChangeTracker | None = None, streams: Streaming | None = None) -> None:
        self._pool = pool
        self._changes = changes or ChangeTracker()
        self._streams = streams

    def shown(self, candidate: Candidate, moment: int) -> Reading | None:
        if self._streams is None:
            return None
        found = self._streams.latest(candidate.source, candidate.pair, moment)
        return None if found is None else self._noted(found, streamed=True)

    async def read(
        self, candidate: Candidate, deadline: float, priority: Priority = Priority.JOB, anyway: bool = False
    ) -> Reading | SourceFailure:
        found = await self._pool.fetch(
            candidate.source, candidate.pair, deadline=deadline, priority=priority, anyway=anyway
        )
        return found if isinstance(found, SourceFailure) else self._noted(found)

    def _noted(self, found: Reading, *, streamed: bool = False) -> Reading:
        changed_ms = self._changes.saw(found.source, found.pair, found.ticker, found.received_ms, streamed=streamed)
        return msgspec.structs.replace(found, changed_ms=changed_ms)


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
        max_receipt_age_ms=feed.max_receipt_age_ms,
        changed_ms=reading.changed_ms,
        max_unchanged_ms=feed.max_unchanged_ms,
        max_spread_bps=feed.max_spread_bps,
        min_price=feed.min_price if own else MIN_PRICE,
        max_price=feed.max_price if own else MAX_PRICE,
        elapsed_ms=reading.elapsed_ms,
    )


def sound_until(quote: Quote, feed: Feed) -> int:
    """Up to which moment `judged` makes this quote of its reading: of all that it looks at, only the ages change."""
    until = min(quote.as_of_ms() + feed.max_quote_age_ms, quote.received_ms + feed.max_receipt_age_ms)
    return until if quote.changed_ms is None else min(until, quote.changed_ms + feed.max_unchanged_ms)
