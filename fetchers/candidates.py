"""Whom to ask for a feed, in which order, and which conversion rates that takes. Pure.

A source contributes one price a feed, however many markets it has: a market in the feed's own currency before one in
USDT before one in USDC (the order of the conversion graph). Only where a market has no usable ticker is the source's
next one asked in its place. Entries that read the same address are one candidate and count once. Of sources that are
one another's echo (`fetchers.families`) all may be asked, but those behind the first only where nobody else is left.

A market that is another name of one in another currency (`aliases` in the catalogue, such as Coinbase's USDC markets,
which are its USD books) is never asked: what it shows is a price in that other currency, which the source's market of
its own name gives already. So it counts once, as what it is, and never as a price in USDC.

A conversion rate is a feed like any other, with candidates and rules of its own. Where a group publishes it, one plan
serves both; where it does not, the plan is a leg.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Protocol
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from core.currency import ConversionGraph
from core.types import Feed, Pair
from fetchers.families import Relative, families

LEG = Feed(
    pair=Pair("USDT/USD"),
    min_price=Decimal("0.2"),
    max_price=Decimal(5),
    outlier_floor_bps=50,
    max_unchanged_ms=86_400_000,  # a pegged pair may stand still for hours, with whole books unmoved
    description="the rules of a conversion rate that no group publishes",
)


class Listing(Relative, Protocol):
    """What the catalogue says of a source: see `sources.SourceEntry`."""

    @property
    def base_url(self) -> str: ...

    @property
    def pairs(self) -> Collection[Pair]: ...

    def request_path(self, pair: Pair) -> str: ...

    def alias_of(self, pair: str) -> Pair | None: ...


class Candidate(Struct, frozen=True):
    """One price that one source may be asked for."""

    source: str
    pair: Pair


class Plan(Struct, frozen=True, kw_only=True):
    """A feed and whom to ask for it, one candidate a source, in order of priority.

    others: by source, its other markets for the same feed, to be asked one after another where the one before fails.
    families: by source, the name of those that count once together, where there are several among the candidates.
    leg: asked only because others are converted by it.
    """

    feed: Feed
    candidates: tuple[Candidate, ...]
    others: dict[str, tuple[Candidate, ...]] = {}
    families: dict[str, str] = {}
    leg: bool = False

    @property
    def independent(self) -> int:
        """How many of the candidates can count together: one of each family."""
        return len({self.families.get(each.source, each.source) for each in self.candidates})

    def by_source(self) -> Iterator[tuple[Candidate, ...]]:
        """For each source, in order of priority, its markets in order of preference."""
        return ((first, *self.others.get(first.source, ())) for first in self.candidates)


def candidates(
    pair: Pair, sources: Iterable[str], catalogue: Mapping[str, Listing], graph: ConversionGraph
) -> tuple[Candidate, ...]:
    """The candidates for `pair`, in the order of `sources`, echoes of earlier ones at the end.

    Sources that the catalogue does not know are left out.
    """
    wanted = _markets(pair, graph)
    found: list[Candidate] = []
    seen: set[str] = set()
    for source in dict.fromkeys(sources):
        listing = catalogue.get(source)
        market = None if listing is None else next((each for each in wanted if _has(listing, each)), None)
        if listing is None or market is None:
            continue
        address = f"{urlsplit(listing.base_url).netloc}{listing.request_path(market)}"
        if address not in seen:
            seen.add(address)
            found.append(Candidate(source, market))
    kin = families((each.source for each in found), catalogue)
    voices = {family: source for source, family in reversed(kin.items())}
    echoes = [each for each in found if each.source in kin and voices[kin[each.source]] != each.source]
    return (*(each for each in found if each not in echoes), *echoes)


def make_plans(
    feeds: Sequence[Feed],
    sources: Sequence[str],
    catalogue: Mapping[str, Listing],
    graph: ConversionGraph,
    legs: Mapping[Pair, Feed] | None = None,
) -> tuple[Plan, ...]:
    """One plan for each feed and for each conversion rate that their candidates need, in an order in which every rate
    stands before the plans that are converted by it.

    legs: rules for rates outside `feeds`; those of `LEG` where none are given.
    """
    known = {feed.pair: feed for feed in feeds}
    made: dict[Pair, Plan] = {}
    pending = list(known)
    while pending:
        pair = pending.pop()
        if pair in made:
            continue
        feed = known.get(pair) or (legs or {}).get(pair) or _leg(pair)
        asked = candidates(pair, sources, catalogue, graph)
        kin = families((each.source for each in asked), catalogue)
        made[pair] = Plan(feed=feed, candidates=asked, families=kin, leg=pair not in known)
        pending += {Pair.of(each.pair.quote, pair.quote) for each in asked if each.pair.quote != pair.quote}
    for pair, plan in made.items():
        made[pair] = msgspec.structs.replace(plan, others=_others(plan, catalogue, graph, made))
    # A rate's base ranks in the graph; what the graph does not know ranks last, in the order of the group.
    order = {pair: index for index, pair in enumerate(known)}
    top = len(graph.edges) + 2
    return tuple(
        made[pair]
        for pair in sorted(made, key=lambda pair: (_depth(pair, graph, top), order.get(pair, len(order)), pair))
    )


def _markets(pair: Pair, graph: ConversionGraph) -> list[Pair]:
    """The markets that will do for `pair`: itself, then those in a currency with a rate of its own to `pair.quote`.

    A rate is never made from a currency that itself may need that rate: USDC/USD from USDC/USDT, but not USDT/USD from
    USDT/USDC.
    """
    near = [edge.base for edge in graph.edges if edge.quote == pair.quote and edge.base != pair.base]
    if pair in graph.edges:
        near = [other for other in near if f"{pair.base}/{other}" in graph.edges]
    return [pair, *(Pair.of(pair.base, other) for other in near)]


def _others(
    plan: Plan, catalogue: Mapping[str, Listing], graph: ConversionGraph, planned: Collection[Pair]
) -> dict[str, tuple[Candidate, ...]]:
    """No rate is asked for their sake: they are others only where it is planned anyway."""
    pair = plan.feed.pair
    usable = [each for each in _markets(pair, graph) if each == pair or Pair.of(each.quote, pair.quote) in planned]
    found = {
        first.source: tuple(
            Candidate(first.source, each)
            for each in usable
            if _has(catalogue[first.source], each) and each != first.pair
        )
        for first in plan.candidates
    }
    return {source: markets for source, markets in found.items() if markets}


def _depth(pair: Pair, graph: ConversionGraph, top: int) -> int:
    return graph.rank(pair.base) if pair in graph.edges else top


def _has(listing: Listing, pair: Pair) -> bool:
    return pair in listing.pairs and listing.alias_of(pair) is None


def _leg(pair: Pair) -> Feed:
    return msgspec.structs.replace(LEG, pair=pair)
