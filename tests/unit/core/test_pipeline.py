"""Rules in a row."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigurationError
from core.pipeline import Pipeline

Sifted = tuple[Sequence[int], Sequence[tuple[str, int]]]


def above(left: Sequence[int], limit: int, _rejected: Sequence[tuple[str, int]]) -> Sifted:
    return [each for each in left if each <= limit], [("above", each) for each in left if each > limit]


def odd(left: Sequence[int], _limit: int, _rejected: Sequence[tuple[str, int]]) -> Sifted:
    return [each for each in left if each % 2 == 0], [("odd", each) for each in left if each % 2]


def lonely(left: Sequence[int], _limit: int, rejected: Sequence[tuple[str, int]]) -> Sifted:
    """Sees what is left, and what went before it."""
    return (left, ()) if len(left) >= len(rejected) else ((), [("lonely", each) for each in left])


RULES: Pipeline[int, int, tuple[str, int]] = Pipeline({"above": above, "odd": odd, "lonely": lonely})


def test_the_first_rule_that_fails_an_item_names_it() -> None:
    assert RULES.sift([1, 2, 4, 11], 10) == ([2, 4], [("above", 11), ("odd", 1)])
    turned = RULES.ordered(["odd", "above", "lonely"])
    assert turned.sift([1, 2, 4, 11], 10) == ([2, 4], [("odd", 1), ("odd", 11)])


def test_a_rule_judges_by_what_is_left_and_by_what_went_before() -> None:
    assert RULES.sift([1, 3, 2], 10) == ([], [("odd", 1), ("odd", 3), ("lonely", 2)])
    assert RULES.ordered(["lonely", "above", "odd"]).sift([1, 3, 2], 10)[0] == [2]


def test_a_rule_can_be_passed_over() -> None:
    assert RULES.sift([1, 2, 11], 10, without=("odd",)) == ([1, 2], [("above", 11)])


@given(st.lists(st.integers(0, 30)), st.integers(0, 30), st.permutations(RULES.order))
def test_accepted_and_rejected_together_are_all_there_was_in_any_order_of_rules(
    items: list[int], limit: int, order: list[str]
) -> None:
    accepted, rejected = RULES.ordered(order).sift(items, limit)
    assert sorted([*accepted, *(item for _, item in rejected)]) == sorted(items)


@pytest.mark.parametrize(
    ("order", "says"),
    [
        (["above", "odd"], "lonely is missing"),
        (["above", "odd", "lonely", "odd"], "odd is named twice"),
        (["above", "odd", "lonely", "even"], "even is no rule"),
    ],
)
def test_an_order_names_every_rule_once(order: list[str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        RULES.ordered(order)
