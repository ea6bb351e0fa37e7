"""How much stands behind an answer."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.quality import Quality, confidence, quality

few = st.integers(0, 20)


@pytest.mark.parametrize(
    ("have", "state", "sure"),
    [
        (0, Quality.UNAVAILABLE, "0"),
        (2, Quality.UNAVAILABLE, "0"),
        (3, Quality.DEGRADED, "0.42"),
        (6, Quality.DEGRADED, "0.85"),
        (7, Quality.OK, "1"),
        (9, Quality.OK, "1"),
    ],
)
def test_between_required_and_wanted_an_answer_is_degraded(have: int, state: Quality, sure: str) -> None:
    assert quality(have, required=3, wanted=7) is state
    assert confidence(have, required=3, wanted=7) == Decimal(sure)


@given(few, few, few)
def test_confidence_is_all_exactly_where_the_state_is_ok_and_none_where_it_is_unavailable(
    have: int, required: int, wanted: int
) -> None:
    state, sure = quality(have, required=required, wanted=wanted), confidence(have, required=required, wanted=wanted)
    assert (sure == 1) == (state is Quality.OK)
    assert (sure == 0) == (state is Quality.UNAVAILABLE)


@given(few, few, few)
def test_one_witness_more_never_makes_it_worse(have: int, required: int, wanted: int) -> None:
    asked = {"required": required, "wanted": wanted}
    assert confidence(have + 1, **asked) >= confidence(have, **asked)
