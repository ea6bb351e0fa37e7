"""A plain path is looked up step by step, and finds what JMESPath itself would find."""

from __future__ import annotations

from decimal import Decimal

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources import load_catalogue
from sources.paths import _Plain, compile_path

PLAIN = ("last", "data[0].last", 'result."A".c[0]', "[0]", "[-1][1]", "a[1].b[0].last", "data[-2]")
OTHER = ("a || b", "code != '0' && msg", "data[*].last", "data[?a].b", "length(data)", "@", "a.[b, c]")
NAMES = st.sampled_from(["a", "b", "c", "A", "data", "last", "result"])
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("path", PLAIN)
@given(tree=TREES)
def test_a_plain_path_finds_what_jmespath_finds(path: str, tree: object) -> None:
    compiled = compile_path(path)
    assert isinstance(compiled, _Plain)
    assert compiled.search(tree) == jmespath.compile(path).search(tree)


@pytest.mark.parametrize("path", OTHER)
def test_every_other_path_is_left_to_jmespath(path: str) -> None:
    assert not isinstance(compile_path(path), _Plain)


def test_every_price_of_the_catalogue_is_a_plain_path() -> None:
    for entry in load_catalogue().values():
        for pair in entry.pairs:
            assert isinstance(entry.expressions(pair).last, _Plain), (entry.name, pair)


def test_a_plain_path_by_value() -> None:
    tree = {"data": [{"last": Decimal("1.5")}]}
    assert compile_path("data[0].last").search(tree) == Decimal("1.5")
    assert compile_path("data[1].last").search(tree) is None
    assert compile_path("data.last").search(tree) is None
