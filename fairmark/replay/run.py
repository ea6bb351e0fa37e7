"""Recorded quotes through conversion and validation as if live: one fetcher that hears every source of the file.

What is live's stays live's: `fetchers.make_plans` says which market may stand for a feed and which rates that takes,
`sources.judge` what a ticker is worth at a moment, `fetchers.evaluate` which quotes count and what they come to. Here
is only what feeds them: at each multiple of `every` of quote time, the newest row of each market is its reading.

- A row speaks for its own time, and is received when it comes: one that stands behind later ones in the file is late.
- A row takes the place of its market's one before, also where it is refused: so does a source's new answer.
- The answer of one tick is the last answer that the next tick's quotes are held against.
- Every source is heard, whatever a fetcher's list would ask first; sources rank in the order in which they appear.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from msgspec import Struct

from core.currency import ConversionGraph, Rate
from core.errors import ConversionError, InvalidPriceError
from core.median import from_scaled, to_scaled
from core.quality import Quality
from core.types import FailureCode, Feed, Pair, Quote, SourceFailure, checked_price
from fairmark.replay.errors import ReplayError
from fairmark.replay.listing import Sources
from fairmark.replay.rows import Market, Row
from fairmark.replay.summary import Summary
from fetchers.candidates import Candidate, Listing, Plan, make_plans
from fetchers.evaluate import Rules, Verdict, evaluate, rates_of
from fetchers.jumps import Standing
from fetchers.reader import judged, sound_until
from fetchers.rules import PIPELINE
from sources import ChangeTracker, Reading, Ticker

LONGEST_GAP_MS = 366 * 86_400_000
"""Between two rows. A longer one is a time in the wrong unit, and would be filled with ticks."""


class Answer(Struct, frozen=True, kw_only=True):
    """One feed at one tick. price: at the feed's decimals, None where there is none. sources: those that count."""

    moment: int
    pair: Pair
    price: Decimal | None
    state: Quality
    sources: int


class Refused(Struct, frozen=True, kw_only=True):
    """A quote that did not count, once for each reason. feed: or the rate for which it was refused."""

    time_ms: int
    feed: Pair
    market: Market
    price: Decimal
    code: FailureCode
    detail: str


class Sink(Protocol):
    """Where a replay's findings go, as they come."""

    def answer(self, answer: Answer) -> None: ...
    def refused(self, refused: Refused) -> None: ...


class _Track:
    """A market's newest row. told: what was said of it already."""

    __slots__ = ("price", "reading", "time_ms", "told")

    def __init__(self) -> None:
        self.reading: Reading | None = None
        self.price = Decimal(0)
        self.time_ms = 0
        self.told: set[tuple[Pair, FailureCode]] = set()


class _Place:
    """A market in a plan. quote: what `reading` was found to be worth for the plan's feed, up to `until`."""

    __slots__ = ("candidate", "quote", "reading", "track", "until")

    def __init__(self, candidate: Candidate, track: _Track) -> None:
        self.candidate = candidate
        self.track = track
        self.reading: Reading | None = None
        self.quote: Quote | SourceFailure | None = None
        self.until = 0

    def judged(self, reading: Reading, feed: Feed, moment: int) -> Quote | SourceFailure:
        """As `fetchers.reader.judged`, asked once for all the ticks at which its word is the same."""
        if self.quote is None or self.reading is not reading or moment > self.until:
            self.quote, self.reading = judged(reading, feed, moment), reading
            self.until = 0 if isinstance(self.quote, SourceFailure) else sound_until(self.quote, feed)
        return self.quote


class Replay:
    """Feed it the rows in the file's order, then `finish`. counts: rows read, and rows for none of the feeds."""

    def __init__(
        self,
        feeds: Sequence[Feed],
        catalogue: Mapping[str, Listing],
        graph: ConversionGraph,
        sink: Sink,
        *,
        legs: Sequence[Feed] = (),
        rules: Rules = PIPELINE,
        every_ms: int = 1_000,
        references: Collection[Market] = (),
        exclude_references: bool = False,
    ) -> None:
        """legs: the rules of rates that the feeds' group publishes, too; others have `fetchers.candidates.LEG`'s.
        rules: in the configured order.

        references: of each feed, those of its own base. Raises `ReplayError` where one has no feed."""
        bases = {feed.pair.base for feed in feeds}
        for each in references:
            if each.pair.base not in bases:
                raise ReplayError(f"the reference {each.source}:{each.pair} prices none of the feeds")
        self.summaries = {feed.pair: Summary() for feed in feeds}
        self.rows = 0
        self.unused = 0
        self.late = 0
        self._feeds = feeds
        self._legs = {feed.pair: feed for feed in legs}
        self._rules = rules
        self._graph = graph
        self._sink = sink
        self._every_ms = every_ms
        self._references = {feed.pair: [m for m in references if m.pair.base == feed.pair.base] for feed in feeds}
        self._rated = any(m.pair.quote != pair.quote for pair, of in self._references.items() for m in of)
        self._excluded = frozenset(references if exclude_references else ())
        self._heard = tuple(references)
        self._sources = Sources(catalogue)
        self._changes = ChangeTracker()
        self._tracks: dict[Market, _Track | None] = {}
        self._plans: tuple[Plan, ...] = ()
        self._lines: list[list[_Place]] = []
        self._idle: list[tuple[Pair, Market, _Track, FailureCode, str]] = []
        self._last: dict[Pair, Standing] = {}
        self._now = 0
        self._due = 0

    def take(self, row: Row) -> None:
        """One row. Raises `ReplayError` where its time leaps."""
        time_ms, market, price, volume = row
        if time_ms > self._now:
            if time_ms > self._due:
                self._catch_up(time_ms)
            self._now = time_ms
        elif time_ms < self._now:
            self.late += 1
        self.rows += 1
        try:
            track = self._tracks[market]
        except KeyError:
            track = self._meet(market)
        if track is None:
            self.unused += 1
            return
        track.price, track.time_ms = price, time_ms
        if track.told:
            track.told = set()
        try:
            checked_price(price)
        except InvalidPriceError as error:
            track.reading = None
            for pair in self._served(market):
                self._refuse(pair, market, track, FailureCode.INVALID_PRICE, str(error))
            return
        ticker = Ticker(last=price, time_ms=time_ms, volume=volume)
        changed_ms = self._changes.saw(market.source, market.pair, ticker, self._now)
        track.reading = Reading(
            source=market.source,
            pair=market.pair,
            ticker=ticker,
            received_ms=self._now,
            elapsed_ms=0,
            changed_ms=changed_ms,
        )

    @property
    def unpriced(self) -> list[Pair]:
        """The feeds that no quote so far was of."""
        priced = {market.pair.base for market, track in self._tracks.items() if track is not None}
        return [feed.pair for feed in self._feeds if feed.pair.base not in priced]

    @property
    def unseen(self) -> list[Market]:
        """The references that no quote so far was of."""
        return [market for market in self._heard if market not in self._tracks]

    def finish(self) -> None:
        """The last tick, where the last row stands on it."""
        if self._now and self._due <= self._now:
            self._tick(self._due)

    def _catch_up(self, time_ms: int) -> None:
        """The ticks before a row's time: what stands on a tick still belongs to it."""
        if not self._now:
            self._due = -(-time_ms // self._every_ms) * self._every_ms
            return
        if time_ms - self._now > LONGEST_GAP_MS:
            days = (time_ms - self._now) // 86_400_000
            raise ReplayError(f"row {self.rows + 1}: {days} days after the row before; is its time right?")
        while self._due < time_ms:
            self._tick(self._due)
            self._due += self._every_ms

    def _meet(self, market: Market) -> _Track | None:
        """A market's first row. None: nothing depends on it."""
        edges = self._graph.edges
        if market.pair.base not in {feed.pair.base for feed in self._feeds} and market.pair not in edges:
            self._tracks[market] = None
            return None
        track = self._tracks[market] = _Track()
        if market not in self._excluded:
            self._sources.meet(*market)
            self._plan()
        return track

    def _plan(self) -> None:
        self._plans = make_plans(self._feeds, self._sources.met, self._sources.known, self._graph, self._legs)
        lines: list[list[_Place]] = []
        used = set()
        for plan in self._plans:
            line = []
            for markets in plan.by_source():
                for candidate in markets:
                    market = Market(candidate.source, candidate.pair)
                    track = self._tracks[market]
                    if track is not None:
                        line.append(_Place(candidate, track))
                        used.add(market)
            lines.append(line)
        self._lines = lines
        self._idle = []
        for market, track in self._tracks.items():
            if track is None or market in used or market in self._excluded:
                continue
            for feed in self._feeds:
                if feed.pair.base == market.pair.base:
                    self._idle.append((feed.pair, market, track, *self._why_idle(market, feed.pair)))

    def _why_idle(self, market: Market, pair: Pair) -> tuple[FailureCode, str]:
        if (alias := self._sources.known[market.source].alias_of(market.pair)) is not None:
            return FailureCode.DEPENDENT, f"{market.source} shows {alias} under this name, and not a market of its own"
        return FailureCode.NO_CONVERSION, f"nothing leads from {market.pair.quote} to {pair.quote}"

    def _served(self, market: Market) -> list[Pair]:
        """The feeds and rates for which a market is a candidate."""
        candidate = Candidate(market.source, market.pair)
        return [
            plan.feed.pair
            for plan, line in zip(self._plans, self._lines, strict=True)
            if any(each.candidate == candidate for each in line)
        ]

    def _tick(self, moment: int) -> None:
        quotes: dict[Pair, dict[Candidate, Quote]] = {}
        for plan, line in zip(self._plans, self._lines, strict=True):
            feed = plan.feed
            mine = quotes[feed.pair] = {}
            for place in line:
                candidate, track = place.candidate, place.track
                if track.reading is None:
                    continue
                found = place.judged(track.reading, feed, moment)
                if isinstance(found, SourceFailure):
                    self._refuse(feed.pair, Market(candidate.source, candidate.pair), track, found.code, found.detail)
                else:
                    mine[candidate] = found
        for pair, market, track, code, detail in self._idle:
            if track.reading is not None:
                self._refuse(pair, market, track, code, detail)
        verdicts = evaluate(self._plans, quotes, self._graph, moment, None, self._last, self._rules)
        for verdict in verdicts:
            for failure in verdict.rejected:
                market = Market(failure.source, failure.pair)
                if (refused := self._tracks[market]) is not None:
                    self._refuse(verdict.plan.feed.pair, market, refused, failure.code, failure.detail)
            if verdict.answer is not None and (verdict.plan.feed.pair in self._legs or not verdict.plan.leg):
                self._last[verdict.plan.feed.pair] = Standing(value=verdict.answer, observed_ms=moment)
        by_pair = {verdict.plan.feed.pair: verdict for verdict in verdicts}
        rates = rates_of(verdicts, self._graph) if self._rated else {}
        for feed in self._feeds:
            self._conclude(feed, by_pair.get(feed.pair), moment, rates)

    def _conclude(self, feed: Feed, verdict: Verdict | None, moment: int, rates: Mapping[Pair, Rate]) -> None:
        exact = None if verdict is None else verdict.answer
        sources = 0 if verdict is None else len(verdict.accepted)
        state = Quality.UNAVAILABLE if verdict is None else verdict.quality
        price = None
        if exact is not None:
            price = from_scaled(to_scaled(exact, feed.decimals), feed.decimals)
        self._sink.answer(Answer(moment=moment, pair=feed.pair, price=price, state=state, sources=sources))
        shown = self._shown(feed, moment, rates) if self._references[feed.pair] else None
        self.summaries[feed.pair].note(exact, state, shown)

    def _shown(self, feed: Feed, moment: int, rates: Mapping[Pair, Rate]) -> list[Decimal]:
        """What each reference shows at `moment`, in the feed's currency; without those that are too old, or have no
        rate."""
        found = []
        for market in self._references[feed.pair]:
            track = self._tracks.get(market)
            reading = None if track is None else track.reading
            if reading is None or reading.ticker.volume == 0:
                continue
            as_of = min(reading.ticker.time_ms or 0, reading.received_ms)
            if moment - as_of > feed.max_quote_age_ms:
                continue
            try:
                found.append(
                    self._graph.convert(reading.ticker.last, as_of, market.pair.quote, feed.pair.quote, rates).price
                )
            except ConversionError:
                continue
        return found

    def _refuse(self, feed: Pair, market: Market, track: _Track, code: FailureCode, detail: str) -> None:
        key = (feed, code)
        if key in track.told:
            return
        track.told.add(key)
        if feed in self.summaries:
            self.summaries[feed].rejected[market.source, market.pair, code] += 1
        self._sink.refused(
            Refused(time_ms=track.time_ms, feed=feed, market=market, price=track.price, code=code, detail=detail)
        )
