"""The fast check of a message's depth says what the careful one says, and deep messages do not hold the event loop."""

from __future__ import annotations

import json
import time

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from core.codec import MAX_DEPTH, check_depth
from sources.stream_shape import check_depth_fast

TREES = st.recursive(
    st.sampled_from([1, "[{", "]}", '"', None]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=8,
)


def passes(check: object, raw: bytes) -> bool:
    try:
        check(raw)  # type: ignore[operator]
    except msgspec.DecodeError:
        return False
    return True


@given(TREES, st.integers(0, MAX_DEPTH + 5), st.integers(1, 900))
def test_it_agrees_with_the_careful_check(tree: object, deep: int, wide: int) -> None:
    for _ in range(deep):
        tree = [tree]
    raw = json.dumps([tree] * wide).encode()
    assert passes(check_depth_fast, raw) == passes(check_depth, raw)


def test_a_deep_message_costs_no_more_than_fifty_times_a_wide_one() -> None:
    """Some fifty are heard before a connection is given up: at 300 times a wide one, little else would be."""
    deep = b"[" * 50_000 + b"]" * 50_000
    wide = json.dumps([["65000.1", "0.5"]] * 5_000).encode()

    def least(raw: bytes) -> float:
        taken = []
        for _ in range(5):
            started = time.perf_counter()
            passes(check_depth_fast, raw)
            taken.append(time.perf_counter() - started)
        return min(taken)

    assert not passes(check_depth_fast, deep)
    assert passes(check_depth_fast, wide)
    assert least(deep) < 50 * least(wide)
