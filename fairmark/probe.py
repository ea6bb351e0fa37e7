"""Asking sources once: what `mode = "auto"` decides by, and what `fairmark sources check` shows."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping

from msgspec import Struct
from prometheus_client import CollectorRegistry

from core.settings import Settings
from core.types import Feed, Mode, Pair, Quote, SourceFailure
from fairmark.basics import make_clock
from sources import SourceEntry, SourcePool, judge, load_catalogue, simulator_base_urls
from sources.http import Reading

PROBE_TIMEOUT_S = 5.0
ENOUGH_SOURCES = 3
"""Sources a feed that must answer before `auto` takes the real exchanges."""
AT_ONCE = 40
"""Requests under way at once: a probe of a hundred markets is no flood."""


class Answered(Struct, frozen=True, kw_only=True):
    """One source asked once for one pair."""

    outcome: Quote | SourceFailure
    latency_ms: float


async def ask_every_pair(settings: Settings, catalogue: Mapping[str, SourceEntry], mode: Mode) -> list[Answered]:
    """Ask every source of `catalogue` once for each of its pairs, within 5 s; in the order of the catalogue."""
    asked = [(name, pair) for name, entry in catalogue.items() for pair in entry.pairs]
    answered = [each async for each in _ask(settings, catalogue, mode, asked)]
    order = {item: index for index, item in enumerate(asked)}
    return sorted(answered, key=lambda each: order[each.outcome.source, each.outcome.pair])


async def live_enough(settings: Settings) -> tuple[bool, str]:
    """Whether at least three real sources a feed answer within 5 s, and the finding in words."""
    catalogue = load_catalogue()
    configured = {source for fetcher in settings.fetchers.values() for source in fetcher.sources}
    entries = {name: catalogue[name] for name in sorted(configured & set(catalogue))}
    priced = [feed for feed in settings.feeds if feed.signal is None]
    bases = {Pair(feed.pair).base: feed.pair for feed in priced}
    asked = [(name, pair) for name, entry in entries.items() for pair in entry.pairs if pair.base in bases]
    working: dict[str, set[str]] = defaultdict(set)
    async for each in _ask(settings, entries, Mode.LIVE, asked):
        if isinstance(each.outcome, Quote):
            working[bases[each.outcome.pair.base]].add(each.outcome.source)
            if all(len(working[feed.pair]) >= ENOUGH_SOURCES for feed in priced):
                return True, f"at least {ENOUGH_SOURCES} exchanges answer for every feed"
    short = [f"{feed.pair} {len(working[feed.pair])}" for feed in priced]
    return False, (
        f"too few real exchanges answered within {PROBE_TIMEOUT_S:g} s (wanted {ENOUGH_SOURCES} a feed; got "
        f"{', '.join(short)}), so the simulator stands in for them"
    )


async def _ask(
    settings: Settings, catalogue: Mapping[str, SourceEntry], mode: Mode, asked: list[tuple[str, Pair]]
) -> AsyncIterator[Answered]:
    """Every (source, pair) of `asked`, as it answers."""
    clock = make_clock(settings)
    feeds = {Pair(feed.pair): feed for group in settings.all_groups() for feed in group.feeds}
    base_urls = await simulator_base_urls(settings.simulator.control_url) if mode is Mode.TEST else None
    gate = asyncio.Semaphore(AT_ONCE)
    async with SourcePool(catalogue, catalogue, base_urls=base_urls, clock=clock, registry=CollectorRegistry()) as pool:
        deadline = asyncio.get_running_loop().time() + PROBE_TIMEOUT_S

        async def one(source: str, pair: Pair) -> Answered:
            async with gate:
                started = time.perf_counter()
                reading = await pool.fetch(source, pair, deadline=deadline, anyway=True)
                latency = (time.perf_counter() - started) * 1000
            outcome = _judged(reading, source, pair, _rules(feeds, pair)) if isinstance(reading, Reading) else reading
            return Answered(outcome=outcome, latency_ms=latency)

        tasks = [asyncio.create_task(one(source, pair)) for source, pair in asked]
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _rules(feeds: Mapping[Pair, Feed], pair: Pair) -> Feed:
    """The rules of the feed that `pair` would serve; a pair that serves none is judged by the defaults."""
    for quote in (pair.quote, "USD"):
        feed = feeds.get(Pair.of(pair.base, quote)) if pair.base != quote else None
        if feed is not None:
            return feed
    return Feed(pair=pair)


def _judged(reading: Reading, source: str, pair: Pair, rules: Feed) -> Quote | SourceFailure:
    return judge(
        reading.ticker,
        source,
        pair,
        received_ms=reading.received_ms,
        moment_ms=reading.received_ms,
        max_age_ms=rules.max_quote_age_ms,
        max_spread_bps=rules.max_spread_bps,
        min_price=rules.min_price,
        max_price=rules.max_price,
    )
