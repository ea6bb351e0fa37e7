"""Which of several sound quotes count: echoes once, fresh before old, the last answer, agreement, mix-ups named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.currency import DOLLARS, ConversionGraph
from core.median import is_lower_median
from core.types import FailureCode, Feed, Quote
from fetchers.candidates import Candidate, Plan, candidates, make_plans
from fetchers.evaluate import Verdict, evaluate
from fetchers.families import families
from fetchers.jumps import Standing, far_from, jumps
from sources import load_catalogue
from tests.support.fetchers import BTC, NOW, Entry, catalogue, feed

GRAPH = ConversionGraph(DOLLARS)
FEED = feed("BTC/USD", wanted_sources=8)
LAST = Standing(value=Decimal(70_000), observed_ms=NOW - 1_000)


def entries(sources: str, **relays: str) -> dict[str, Entry]:
    made = catalogue(**dict.fromkeys(sources.split(), "BTC/USD"))
    for name, others in relays.items():
        made[name] = replace(made[name], relays=tuple(others.split()))
    return made


def verdict(
    known: Mapping[str, Entry],
    prices: Mapping[str, str | int],
    *,
    rules: Feed = FEED,
    ages: Mapping[str, int] | None = None,
    last: Standing | None = None,
) -> Verdict:
    [plan] = make_plans([rules], list(known), known, GRAPH)
    quotes = {
        Candidate(source, BTC): Quote(
            pair=BTC,
            source=source,
            price=Decimal(price),
            received_ms=NOW,
            source_time_ms=NOW - (ages or {}).get(source, 0),
        )
        for source, price in prices.items()
    }
    known_last = {} if last is None else {BTC: last}
    return evaluate([plan], {BTC: quotes}, GRAPH, NOW, None, known_last)[0]


def counted(found: Verdict) -> list[str]:
    return [each.quote.source for each in found.accepted]


def codes(found: Verdict) -> dict[str, str]:
    return {each.source: str(each.code) for each in found.rejected}


# independence


def test_a_source_that_relays_another_counts_once_with_it() -> None:
    known = entries("a b c", c="a")
    found = verdict(known, {"a": 70_000, "b": 70_010, "c": 70_001})
    assert (counted(found), codes(found)) == (["a", "b"], {"c": "dependent"})
    assert found.rejected[0].detail == "a speaks for both: they count once"


def test_two_that_relay_each_other_count_once_and_so_do_three_in_a_chain() -> None:
    assert codes(verdict(entries("a b", a="b", b="a"), {"a": 70_000, "b": 70_000})) == {"b": "dependent"}
    assert counted(verdict(entries("a b c", b="a", c="b"), {"a": 70_000, "b": 70_000, "c": 70_000})) == ["a"]


def test_a_relay_stands_in_where_the_source_itself_has_no_quote() -> None:
    found = verdict(entries("a b c", c="a"), {"b": 70_010, "c": 70_001})
    assert (counted(found), codes(found)) == (["b", "c"], {})


def test_of_a_family_a_fresh_quote_speaks_before_an_old_one() -> None:
    found = verdict(entries("a b c", c="a"), {"a": 70_000, "b": 70_010, "c": 70_001}, ages={"a": 40_000})
    assert (counted(found), codes(found)) == (["b", "c"], {"a": "dependent"})


def test_two_indexes_are_one_voice() -> None:
    known = load_catalogue()
    assert families(["coingecko", "kraken", "coinpaprika"], known) == {
        "coingecko": "coingecko",
        "coinpaprika": "coingecko",
    }


def test_an_echo_is_asked_only_after_everybody_else() -> None:
    known = entries("a relay b c", relay="a")
    assert [each.source for each in candidates(BTC, list(known), known, GRAPH)] == ["a", "b", "c", "relay"]


NAMES = st.sampled_from("abcdefgh")


@given(
    st.dictionaries(NAMES, st.lists(NAMES, max_size=2), min_size=2, max_size=8),
    st.dictionaries(NAMES, st.integers(69_990, 70_010), min_size=2, max_size=8),
)
def test_no_two_of_a_family_ever_count(tied: dict[str, list[str]], prices: dict[str, int]) -> None:
    known = entries("a b c d e f g h", **{name: " ".join(others) for name, others in tied.items()})
    kin = families(known, known)
    found = verdict(known, prices)
    voices = [kin.get(source, source) for source in counted(found)]
    assert len(set(voices)) == len(voices)
    assert {*counted(found), *codes(found)} == set(prices)
    if found.answer is not None:
        assert is_lower_median([each.converted.price for each in found.accepted], found.answer)


@given(
    st.lists(st.integers(69_990, 70_010), min_size=2, max_size=6),
    st.integers(0, 5),
    st.lists(st.integers(60_000, 80_000), min_size=1, max_size=9),
)
def test_however_many_relay_a_source_the_answer_is_the_same(prices: list[int], whom: int, echoes: list[int]) -> None:
    own = {f"s{index}": price for index, price in enumerate(prices)}
    relayed = f"s{whom % len(prices)}"
    names = [*own, *(f"r{index}" for index in range(len(echoes)))]
    known = entries(" ".join(names), **{name: relayed for name in names if name.startswith("r")})
    alone = verdict(known, own)
    together = verdict(known, own | {f"r{index}": price for index, price in enumerate(echoes)})
    assert together.answer == alone.answer


# freshness


def test_where_enough_are_fresh_the_others_are_left_out() -> None:
    rules = msgspec.structs.replace(FEED, wanted_sources=3)
    found = verdict(entries("a b c"), {"a": 70_000, "b": 69_900, "c": 70_002}, rules=rules, ages={"b": 40_000})
    assert (counted(found), codes(found), found.fresh) == (["a", "c"], {"b": "aging"}, 2)
    assert found.rejected[0].detail == "40000 ms old at the moment, and 2 others are fresher"


def test_where_they_are_not_enough_the_youngest_fill_up() -> None:
    rules = msgspec.structs.replace(FEED, wanted_sources=3)
    ages = {"a": 50_000, "b": 30_000, "c": 40_000}
    found = verdict(entries("a b c d"), {"a": 1, "b": 70_001, "c": 70_002, "d": 70_003}, rules=rules, ages=ages)
    assert (counted(found), codes(found), found.fresh) == (["b", "c", "d"], {"a": "aging"}, 1)


def test_one_fresh_quote_is_not_preferred_to_many_that_are_a_little_older() -> None:
    """Also where one source is all that the feed needs."""
    rules = msgspec.structs.replace(FEED, min_sources=1, wanted_sources=6)
    ages = dict.fromkeys("bcde", 20_000)
    prices = {"a": 69_900, "b": 70_000, "c": 70_001, "d": 70_002, "e": 70_003}
    found = verdict(entries("a b c d e"), prices, rules=rules, ages=ages)
    assert (found.answer, counted(found), found.fresh) == (Decimal(70_001), list("abcde"), 1)


def test_fresh_ones_that_disagree_do_not_cost_the_feed_its_price() -> None:
    """Two fresh quotes 3 % apart are no answer; with two older ones that agree with one of them there is one."""
    rules = msgspec.structs.replace(FEED, wanted_sources=3)
    prices = {"a": 70_000, "b": 72_100, "c": 70_010, "d": 70_020}
    found = verdict(entries("a b c d"), prices, rules=rules, ages={"c": 20_000, "d": 20_000})
    assert (found.answer, codes(found)) == (Decimal(70_010), {"b": "outlier"})


# the last answer


def test_of_two_camps_of_equal_size_the_last_answer_decides() -> None:
    prices = {"a": 70_000, "b": 70_010, "c": 77_000, "d": 77_010}
    assert verdict(entries("a b c d"), prices).answer is None
    found = verdict(entries("a b c d"), prices, last=LAST)
    assert (found.answer, codes(found)) == (Decimal(70_000), {"c": "jump", "d": "jump"})
    assert found.rejected[0].detail == "77000 BTC/USD is +1000 bps from the last answer 70000, and no majority is"


@pytest.mark.parametrize("market", [56_000, 84_000, 700, 7_000_000])
def test_a_true_jump_of_the_market_passes_at_once(market: int) -> None:
    """However far: when most agree on it, it is the price, and the contract's breaker has the next word."""
    prices = {"a": market, "b": market + market // 1000, "c": market, "d": 70_000}
    found = verdict(
        entries("a b c d"), prices, last=LAST, rules=msgspec.structs.replace(FEED, max_price=Decimal(10**7))
    )
    assert found.answer == market
    assert set(codes(found)) == {"d"}


def test_far_quotes_that_do_not_agree_are_no_market_and_those_near_too_few() -> None:
    prices = {"a": 70_000, "b": 70_010, "c": 84_000, "d": 49_000, "e": 105_000}
    found = verdict(entries("a b c d e"), prices, last=LAST)
    assert found.answer is None
    assert codes(found) == {"a": "outlier", "b": "outlier", "c": "jump", "d": "jump", "e": "jump"}


def test_the_limit_grows_with_the_square_root_of_the_time_and_ends_at_four_times() -> None:
    centre = Decimal(10_000)
    limits = {elapsed: next(bps for bps in range(1, 9_999) if far_from(centre, [centre + bps], FEED, elapsed)[0]) - 1
              for elapsed in (0, 60_000, 240_000, 540_000, 960_000, 86_400_000)}  # fmt: skip
    assert limits == {0: 500, 60_000: 500, 240_000: 1000, 540_000: 1500, 960_000: 2000, 86_400_000: 2000}


@given(st.lists(st.decimals(min_value=1, max_value=10**9, places=4), min_size=1, max_size=9), st.integers(0, 10**6))
def test_each_price_is_far_or_near_whatever_stands_beside_it(prices: list[Decimal], elapsed_ms: int) -> None:
    centre = prices[0]
    limit = FEED.max_jump_bps**2 * min(max(1, Fraction(elapsed_ms, FEED.heartbeat_ms)), 16)
    by_hand = [(Fraction(price - centre) * 10_000 / Fraction(centre)) ** 2 > limit for price in prices]
    assert far_from(centre, prices, FEED, elapsed_ms) == by_hand


@given(
    st.integers(1, 10**9),
    st.lists(st.integers(-200, 200), min_size=1, max_size=9),
    st.integers(1, 10**9),
    st.integers(0, 10**9),
)
def test_sources_that_agree_are_never_locked_out_by_any_last_answer(
    market: int, offs: list[int], last: int, elapsed_ms: int
) -> None:
    prices = [market + Decimal(market) * off / 10_000 for off in offs]
    standing = Standing(value=Decimal(last), observed_ms=NOW - elapsed_ms)
    refused = jumps(prices, standing, FEED, NOW)
    # what is left is always enough to speak: half of all, at least
    assert refused.count(False) * 2 >= len(prices)


@given(st.lists(st.integers(69_000, 71_000), min_size=1, max_size=9))
def test_quotes_near_the_last_answer_are_never_refused(prices: list[int]) -> None:
    assert not any(jumps([Decimal(price) for price in prices], LAST, FEED, NOW))


# mix-ups


def test_a_pair_turned_over_and_another_unit_are_named() -> None:
    rules = msgspec.structs.replace(FEED, min_price=Decimal("0.00000001"), max_price=Decimal(10**12))
    prices = {"a": 70_000, "b": 70_010, "c": 70_005, "d": "0.00001428", "e": 70_000_000, "f": 77_000, "g": 70_002}
    found = verdict(entries("a b c d e f g"), prices, rules=rules)
    assert codes(found) == {"d": "mix_up", "e": "mix_up", "f": "outlier"}
    assert "it looks like the inverse of the pair" in found.rejected[0].detail


def test_out_of_range_after_conversion_is_named_by_the_last_answer_where_there_is_no_price() -> None:
    rules = msgspec.structs.replace(FEED, min_price=Decimal(1000))
    found = verdict(entries("a"), {"a": "0.0000143"}, rules=rules, last=LAST)
    assert codes(found) == {"a": "mix_up"}
    assert verdict(entries("a"), {"a": "0.0000143"}, rules=rules).rejected[0].code is FailureCode.OUT_OF_RANGE


def test_a_plan_without_kin_knows_no_families() -> None:
    assert Plan(feed=FEED, candidates=()).families == {}
