"""Retry-After (RFC 9110, 10.2.3): seconds or a date, and never more than we are willing to wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources.retry_after import MAX_RETRY_AFTER_S, retry_after_s

NOW = 1_710_328_245_000  # Wed, 13 Mar 2024 11:10:45 GMT


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("0", 0),
        ("3", 3),
        (" 3 ", 3),
        ("Wed, 13 Mar 2024 11:10:50 GMT", 5),
        ("Wednesday, 13-Mar-24 11:10:50 GMT", 5),
        ("Wed, 13 Mar 2024 11:10:40 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER_S),
        ("99999999999999999999", MAX_RETRY_AFTER_S),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("²", 0),
    ],
)
def test_it_is_read(header: str | None, seconds: float) -> None:
    assert retry_after_s(header, NOW) == seconds


@given(st.text(max_size=40))
def test_nothing_in_it_breaks_us_or_makes_us_wait_longer_than_we_would(header: str) -> None:
    assert 0 <= retry_after_s(header, NOW) <= MAX_RETRY_AFTER_S
