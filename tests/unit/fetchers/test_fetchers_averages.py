"""A fetcher's answer: the lower median, or one weighted by volume or by trust."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.currency import Converted
from core.median import lower_median, weighted_lower_median
from core.types import Aggregate, Feed, Quote
from fetchers.averages import MAX_WEIGHT, answer_of, weights
from fetchers.rules import Accepted
from tests.support.fetchers import BTC, NOW

MEDIAN = Feed(pair=BTC)
VOLUME = msgspec.structs.replace(MEDIAN, aggregate=Aggregate.VOLUME)
TRUST = msgspec.structs.replace(MEDIAN, aggregate=Aggregate.TRUST)

prices = st.decimals(min_value=1, max_value=10**6, places=2)
volumes = st.one_of(st.none(), st.decimals(min_value=0, max_value=10**9, places=8))
books = st.lists(st.tuples(prices, volumes), min_size=1, max_size=12)
positive = st.decimals(min_value="0.00000001", max_value=10**12, places=8)


def accepted(*quoted: tuple[Decimal | int, Decimal | int | None]) -> list[Accepted]:
    return [
        Accepted(
            quote=Quote(
                pair=BTC,
                source=f"source-{index}",
                price=Decimal(price),
                received_ms=NOW,
                volume=None if volume is None else Decimal(volume),
            ),
            converted=Converted(price=Decimal(price), as_of_ms=NOW),
            fresh=True,
        )
        for index, (price, volume) in enumerate(quoted)
    ]


def quotes(*quoted: tuple[Decimal | int, Decimal | int | None]) -> list[Quote]:
    return [each.quote for each in accepted(*quoted)]


def test_the_greater_volume_pulls_the_answer_to_its_price() -> None:
    book = accepted((100, 1), (101, 1), (102, 1), (103, 3), (104, 3))
    assert answer_of(book, MEDIAN) == 102
    assert answer_of(book, VOLUME) == 103


def test_trust_is_the_feeds_own_word_and_one_where_it_says_nothing() -> None:
    feed = msgspec.structs.replace(TRUST, trust={"source-2": Decimal(3)})
    assert answer_of(accepted((100, None), (101, None), (102, None)), feed) == 102
    assert weights(quotes((100, 9), (101, 9), (102, 9)), feed) == [1, 1, 3]


def test_a_source_that_tells_no_volume_weighs_what_the_least_does() -> None:
    assert weights(quotes((1, 5), (2, None), (3, 7), (4, 0)), VOLUME) == [5, 5, 7, 5]
    assert weights(quotes((1, None), (2, None)), VOLUME) == [1, 1]


def test_a_great_volume_is_capped_so_that_one_source_cannot_name_the_answer() -> None:
    liar = (500, 10**12)
    assert answer_of(accepted((100, 1), (101, 1), (102, 1), (103, 1), (104, 1), (105, 1), liar), VOLUME) == 104
    assert max(weights(quotes((100, 1), (101, 1), liar), VOLUME)) == MAX_WEIGHT


@given(books)
def test_every_answer_is_one_of_the_prices(book: list[tuple[Decimal, Decimal | None]]) -> None:
    quotes = accepted(*book)
    assert {answer_of(quotes, feed) for feed in (MEDIAN, VOLUME, TRUST)} <= {price for price, _ in book}


@given(books, st.permutations(range(12)))
def test_the_order_of_the_quotes_is_no_matter(book: list[tuple[Decimal, Decimal | None]], order: list[int]) -> None:
    quotes = accepted(*book)
    turned = [quotes[index] for index in order if index < len(quotes)]
    assert answer_of(turned, VOLUME) == answer_of(quotes, VOLUME)


@given(st.lists(prices, min_size=1, max_size=13), positive)
def test_at_equal_weights_it_is_the_lower_median_also_of_an_even_number(values: list[Decimal], each: Decimal) -> None:
    assert weighted_lower_median(values, [each] * len(values)) == lower_median(values)
    assert answer_of(accepted(*((value, each) for value in values)), VOLUME) == lower_median(values)


@given(st.lists(st.tuples(prices, st.integers(1, 5)), min_size=1, max_size=8))
def test_whole_weights_are_so_many_copies(book: list[tuple[Decimal, int]]) -> None:
    copies = [price for price, count in book for _ in range(count)]
    found = weighted_lower_median([price for price, _ in book], [Decimal(count) for _, count in book])
    assert found == lower_median(copies)


@given(st.lists(st.tuples(prices, positive), min_size=1, max_size=8))
def test_it_lies_between_the_prices_and_the_scale_of_the_weights_is_no_matter(
    book: list[tuple[Decimal, Decimal]],
) -> None:
    values = [price for price, _ in book]
    ours = weighted_lower_median(values, [weight for _, weight in book])
    assert weighted_lower_median(values, [weight.scaleb(7) for _, weight in book]) == ours
    assert min(values) <= ours <= max(values)


@pytest.mark.parametrize("weight", [Decimal(0), Decimal(-1)])
def test_a_weight_is_above_zero(weight: Decimal) -> None:
    with pytest.raises(ValueError, match="above zero"):
        weighted_lower_median([Decimal(1)], [weight])
