"""Three dollars are three currencies: how a price in one becomes a price in another.

The graph is explicit and acyclic: an edge `USDT/USD` says that a price in USDT may be turned into one in USD by the
rate of that pair, and never the other way round. Rates come in as arguments, computed in the same round from live
quotes: none is remembered, none is assumed to be one, and a converted price is as old as its oldest leg. In March 2023
USDC fell to 0.86 USD, and whoever took it for a dollar was wrong by that much.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from graphlib import CycleError, TopologicalSorter

from msgspec import Struct

from core.errors import ConfigurationError, ConversionError
from core.types import Pair


class Rate(Struct, frozen=True, kw_only=True):
    """One unit of `pair.base` in `pair.quote`, as it was at `as_of_ms` at the latest, read from `sources`."""

    pair: Pair
    value: Decimal
    as_of_ms: int
    sources: tuple[str, ...] = ()


class Converted(Struct, frozen=True, kw_only=True, gc=False):
    """A price brought to another currency. as_of_ms: the oldest of the price's own time and its legs'."""

    price: Decimal
    as_of_ms: int
    legs: tuple[Rate, ...] = ()


class ConversionGraph:
    """Which currency may become which, and through what.

    The order in which edges are given is the order of preference among paths of equal length.
    """

    def __init__(self, edges: Iterable[str]) -> None:
        """edges: pairs, as `USDT/USD`. Raises `ConfigurationError` where they repeat or close a loop."""
        self.edges = tuple(Pair(edge) for edge in edges)
        problems = [f"{edge} is named twice" for edge in dict.fromkeys(self.edges) if self.edges.count(edge) > 1]
        sorter: TopologicalSorter[str] = TopologicalSorter()
        for edge in self.edges:
            sorter.add(edge.base, edge.quote)
        try:
            order = list(sorter.static_order())
        except CycleError as error:
            problems.append(f"a loop: {' → '.join(reversed(error.args[1]))}")
            order = []
        if problems:
            raise ConfigurationError(problems, "the conversion graph")
        self._rank = {currency: rank for rank, currency in enumerate(order)}
        self._paths: dict[tuple[str, str], tuple[tuple[Pair, ...], ...]] = {}

    def rank(self, currency: str) -> int:
        """A currency becomes only currencies of a lower rank, and its rates depend on no others. Unknown: -1."""
        return self._rank.get(currency, -1)

    def convertible(self, target: str) -> tuple[str, ...]:
        """The currencies that can become `target`, nearest first, then in the order of the edges."""
        found: dict[str, None] = {}
        frontier = [target]
        while frontier:
            frontier = [edge.base for near in frontier for edge in self.edges if edge.quote == near]
            found.update(dict.fromkeys(frontier))
        return tuple(found)

    def paths(self, source: str, target: str) -> tuple[tuple[Pair, ...], ...]:
        """Every way from `source` to `target` as the legs to multiply, shortest first. To itself: the one empty way."""
        if source == target:
            return ((),)
        known = self._paths.get((source, target))
        if known is not None:
            return known
        found = [(edge, *rest) for edge in self.edges if edge.base == source for rest in self.paths(edge.quote, target)]
        ways = tuple(sorted(found, key=len))
        if source in self._rank and target in self._rank:  # what the graph does not know is not remembered: a bound
            self._paths[source, target] = ways
        return ways

    def convert(
        self,
        price: Decimal,
        as_of_ms: int,
        source: str,
        target: str,
        rates: Mapping[Pair, Rate],
        oldest_ms: int = 0,
    ) -> Converted:
        """`price`, in `source` at `as_of_ms`, in `target`, by one path; never by a mean of several.

        Which one, of those for which every leg has a rate: one whose legs are all of `oldest_ms` or later before one
        with an older leg; then the shortest, since each leg adds its own error and its own age; then the one whose edge
        was given first. Raises `ConversionError` naming the rates that are missing.
        """
        if source == target:
            return Converted(price=price, as_of_ms=as_of_ms)
        return along(price, as_of_ms, self.legs(source, target, rates, oldest_ms))

    def legs(self, source: str, target: str, rates: Mapping[Pair, Rate], oldest_ms: int = 0) -> tuple[Rate, ...]:
        """The path that `convert` goes: none from a currency to itself. Raises `ConversionError` as it does."""
        if source == target:
            return ()
        paths = self.paths(source, target)
        whole = [tuple(rates[leg] for leg in path) for path in paths if all(leg in rates for leg in path)]
        if whole:
            young = (legs for legs in whole if all(leg.as_of_ms >= oldest_ms for leg in legs))
            return next(young, whole[0])
        if not paths:
            raise ConversionError(f"nothing leads from {source} to {target}")
        missing = sorted({leg for path in paths for leg in path if leg not in rates})
        raise ConversionError(f"no live rate {' or '.join(missing)} to bring {source} to {target}")


def along(price: Decimal, as_of_ms: int, legs: tuple[Rate, ...]) -> Converted:
    """`price` multiplied by each of `legs`, as old as the oldest of them all."""
    for leg in legs:
        price *= leg.value
        as_of_ms = min(as_of_ms, leg.as_of_ms)
    return Converted(price=price, as_of_ms=as_of_ms, legs=legs)


DOLLARS = ("USDT/USD", "USDC/USD", "USDC/USDT")
"""The edges Fairmark lives with: a market in USD before one in USDT before one in USDC."""
