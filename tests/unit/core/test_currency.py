"""The conversion graph: explicit, acyclic, and as old as its oldest leg."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.currency import DOLLARS, ConversionGraph, Rate
from core.errors import ConfigurationError, ConversionError
from core.types import Pair

CURRENCIES = ("AAA", "BBB", "CCC", "DDD", "EEE")
prices = st.decimals(min_value=Decimal("0.0001"), max_value=Decimal("1000000"), places=4)
times = st.integers(min_value=0, max_value=2**41)


def rate(pair: str, value: str, as_of_ms: int = 0) -> Rate:
    return Rate(pair=Pair(pair), value=Decimal(value), as_of_ms=as_of_ms, sources=("kraken",))


def rates(*listed: Rate) -> dict[Pair, Rate]:
    return {each.pair: each for each in listed}


def test_a_price_in_its_own_currency_is_itself() -> None:
    converted = ConversionGraph(DOLLARS).convert(Decimal("73369.84"), 7, "USD", "USD", {})
    assert (converted.price, converted.as_of_ms, converted.legs) == (Decimal("73369.84"), 7, ())


def test_usdt_becomes_usd_by_its_rate() -> None:
    leg = rate("USDT/USD", "0.9995", as_of_ms=90)
    converted = ConversionGraph(DOLLARS).convert(Decimal(100), 100, "USDT", "USD", rates(leg))
    assert (converted.price, converted.as_of_ms, converted.legs) == (Decimal("99.95"), 90, (leg,))


def test_usdc_takes_the_direct_rate_when_there_is_one() -> None:
    listed = rates(rate("USDC/USD", "0.86"), rate("USDC/USDT", "0.9"), rate("USDT/USD", "1.01"))
    assert ConversionGraph(DOLLARS).convert(Decimal(100), 0, "USDC", "USD", listed).price == 86


def test_usdc_goes_through_usdt_when_there_is_no_direct_rate() -> None:
    first, second = rate("USDC/USDT", "0.9", 70), rate("USDT/USD", "1.01", 80)
    converted = ConversionGraph(DOLLARS).convert(Decimal(100), 75, "USDC", "USD", rates(first, second))
    assert (converted.price, converted.as_of_ms, converted.legs) == (Decimal("90.9"), 70, (first, second))


def test_a_missing_rate_is_named() -> None:
    with pytest.raises(ConversionError, match="no live rate USDT/USD to bring USDT to USD"):
        ConversionGraph(DOLLARS).convert(Decimal(1), 0, "USDT", "USD", {})


def test_a_rate_never_works_backwards() -> None:
    with pytest.raises(ConversionError, match="nothing leads from USD to USDT"):
        ConversionGraph(DOLLARS).convert(Decimal(1), 0, "USD", "USDT", rates(rate("USDT/USD", "1")))


def test_a_dollar_market_is_preferred_over_usdt_over_usdc() -> None:
    assert ConversionGraph(DOLLARS).convertible("USD") == ("USDT", "USDC")


def test_a_loop_is_refused_when_the_graph_is_made() -> None:
    with pytest.raises(ConfigurationError, match="a loop"):
        ConversionGraph(("USDT/USD", "USD/USDC", "USDC/USDT"))


def test_an_edge_named_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="USDT/USD is named twice"):
        ConversionGraph(("USDT/USD", "USDT/USD"))


@given(st.lists(st.sampled_from(CURRENCIES), min_size=2, max_size=5, unique=True))
def test_every_ring_of_currencies_is_refused(ring: list[str]) -> None:
    with pytest.raises(ConfigurationError):
        ConversionGraph(Pair.of(base, quote) for base, quote in pairwise([*ring, ring[0]]))


@st.composite
def acyclic(draw: st.DrawFn) -> list[Pair]:
    """Edges from a later currency to an earlier one only, in any order: never a loop."""
    possible = [Pair.of(b, a) for i, a in enumerate(CURRENCIES) for b in CURRENCIES[i + 1 :]]
    return draw(st.lists(st.sampled_from(possible), unique=True, max_size=10))


@given(acyclic(), st.data())
def test_conversion_multiplies_its_legs_and_is_as_old_as_the_oldest(edges: list[Pair], data: st.DataObject) -> None:
    graph = ConversionGraph(edges)
    known = {
        edge: Rate(pair=edge, value=data.draw(prices), as_of_ms=data.draw(times))
        for edge in edges
        if data.draw(st.booleans())
    }
    source, target = data.draw(st.sampled_from(CURRENCIES)), data.draw(st.sampled_from(CURRENCIES))
    price, as_of = data.draw(prices), data.draw(times)
    usable = [path for path in graph.paths(source, target) if all(leg in known for leg in path)]
    if not usable:
        with pytest.raises(ConversionError):
            graph.convert(price, as_of, source, target, known)
        return
    converted = graph.convert(price, as_of, source, target, known)
    assert len(converted.legs) == min(len(path) for path in usable)
    product = price
    for leg in converted.legs:
        product *= leg.value
    assert converted.price == product
    assert converted.as_of_ms == min([as_of, *(leg.as_of_ms for leg in converted.legs)])


@given(acyclic())
def test_a_currency_ranks_above_whatever_it_can_become(edges: list[Pair]) -> None:
    graph = ConversionGraph(edges)
    for target in CURRENCIES:
        for source in graph.convertible(target):
            assert graph.rank(source) > graph.rank(target)
            assert graph.paths(source, target)
