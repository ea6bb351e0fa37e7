"""Prices of something else: the pair turned over, another unit; named, never corrected."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources.mixups import mix_up

PRICES = st.decimals("0.00001", "100000", places=8).filter(lambda price: price > 0)


@pytest.mark.parametrize(
    ("price", "expected", "says"),
    [
        ("0.0000143", "70000", "the inverse"),
        ("69900", "0.0000143", "the inverse"),
        ("0.0118", "0.0000118", "1000SHIB"),
        ("0.0000118", "0.0118", "1000SHIB"),
        ("7000100", "70000", "a hundredth"),
        ("7000010000000", "70000", "satoshis"),
        ("11.9", "0.0000118", "1MBABYDOGE"),
    ],
)
def test_what_it_looks_like(price: str, expected: str, says: str) -> None:
    found = mix_up(Decimal(price), Decimal(expected))
    assert found is not None
    assert says in found


@pytest.mark.parametrize(("price", "expected"), [("77000", "70000"), ("700000", "70000"), ("1.0004", "0.9996")])
def test_what_is_merely_wrong_looks_like_nothing(price: str, expected: str) -> None:
    assert mix_up(Decimal(price), Decimal(expected)) is None


@given(PRICES, st.decimals("0.5", "2", places=4))
def test_no_price_near_the_expected_one_is_ever_called_a_mix_up(expected: Decimal, factor: Decimal) -> None:
    assert mix_up(expected * factor, expected) is None
