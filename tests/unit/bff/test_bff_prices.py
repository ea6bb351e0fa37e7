"""What a client reads of an answer: exact digits, its age by our clock, and when not to act on it."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.documents import PriceStatus
from bff.prices import decimal_text, refreshed, view
from core.types import Mode
from tests.support.bff import BTC, ETH, MAJORS, NOW_MS, TON, answer, reading, transaction_of


def viewed(*answers, paused=False, transactions=None):
    return view(
        MAJORS,
        reading(7, *answers, paused=paused),
        mode=Mode.TEST,
        received_ms=NOW_MS,
        transactions=transactions or {},
    )


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (7_123_456_000_000, 8, "71234.56000000"),
        (1, 8, "0.00000001"),
        (100_000_000, 8, "1.00000000"),
        (99_999_999, 8, "0.99999999"),
        (42, 0, "42"),
        (2**64 - 1, 18, "18.446744073709551615"),
    ],
)
def test_a_price_is_written_in_plain_digits_with_all_its_decimals(value, decimals, text):
    assert decimal_text(value, decimals) == text


@given(st.integers(min_value=0, max_value=2**64 - 1), st.integers(min_value=0, max_value=18))
def test_the_text_is_the_price_exactly(value, decimals):
    text = decimal_text(value, decimals)
    assert Decimal(text) * 10**decimals == value
    whole, _, part = text.partition(".")
    assert len(part) == decimals
    assert str(int(whole)) == whole  # no leading zeros, no sign, no exponent
    assert "." not in text or decimals > 0


def test_the_whole_document_by_value():
    one = answer(observed_ms=NOW_MS - 3_217)
    document = viewed(one, transactions={(7, NOW_MS - 3_217): transaction_of(7)}).standing[BTC].at(NOW_MS)
    assert document.model_dump(mode="json") == {
        "pair": "BTC/USD",
        "price": "71234.56000000",
        "decimals": 8,
        "group": "majors",
        "round": 7,
        "observed_at": "2024-03-13T11:10:42.174Z",
        "updated_at": "2024-03-13T11:10:42.000Z",
        "age_seconds": 3.217,
        "contributors": 4,
        "spread_bps": 3,
        "mode": "test",
        "stale": False,
        "status": "ok",
        "confidence": 1.0,
        "troubles": [],
        "transaction": transaction_of(7),
    }


def test_an_answer_is_stale_once_it_is_older_than_the_contract_allows():
    standing = viewed(answer(observed_ms=NOW_MS, stale_after_s=120)).standing[BTC]
    at_the_limit, past_it = standing.at(NOW_MS + 120_000), standing.at(NOW_MS + 120_001)
    assert (at_the_limit.stale, at_the_limit.status, at_the_limit.age_seconds) == (False, PriceStatus.OK, 120.0)
    assert (past_it.stale, past_it.status, past_it.age_seconds) == (True, PriceStatus.STALE, 120.001)


@pytest.mark.parametrize(
    ("contributors", "status", "confidence"), [(3, PriceStatus.DEGRADED, 0.75), (4, PriceStatus.OK, 1.0)]
)
def test_fewer_reporters_than_wanted_degrade_an_answer_that_clients_can_tell(contributors, status, confidence):
    feeds = tuple(msgspec.structs.replace(feed, wanted_contributors=4) for feed in MAJORS.feeds)
    wanting = msgspec.structs.replace(MAJORS, feeds=feeds)
    one = reading(7, answer(observed_ms=NOW_MS, contributors=contributors))
    standing = view(wanting, one, mode=Mode.TEST, received_ms=NOW_MS, transactions={}).standing[BTC]
    fresh, old = standing.at(NOW_MS), standing.at(NOW_MS + 120_001)
    assert (fresh.status, fresh.confidence, fresh.stale) == (status, confidence, False)
    assert (old.status, old.confidence) == (PriceStatus.STALE, confidence)


def test_a_halted_group_is_stale_however_fresh():
    fresh = viewed(answer(observed_ms=NOW_MS), paused=True).standing[BTC].at(NOW_MS)
    assert (fresh.stale, fresh.status) == (True, PriceStatus.HALTED)


def test_a_superseded_answer_is_stale_however_fresh():
    fresh = viewed(answer(observed_ms=NOW_MS)).standing[BTC].at(NOW_MS, superseded=True)
    assert (fresh.stale, fresh.status, fresh.age_seconds) == (True, PriceStatus.STALE, 0.0)


@given(st.integers(min_value=-30_000, max_value=10**9), st.integers(min_value=1, max_value=10**5))
def test_age_is_never_negative_and_staleness_follows_it(age_ms, stale_after_s):
    standing = viewed(answer(observed_ms=NOW_MS, stale_after_s=stale_after_s)).standing[BTC]
    document = standing.at(NOW_MS + age_ms)
    assert document.age_seconds == max(0, age_ms) / 1000
    assert document.stale == (age_ms > stale_after_s * 1000)


def test_every_answer_keeps_the_round_that_it_was_accepted_in():
    old, new = answer(ETH, 400_001, decimals=2, round_=5, observed_ms=NOW_MS - 9_000), answer(round_=7)
    seen = viewed(old, new, transactions={(5, NOW_MS - 9_000): transaction_of(5)})
    assert seen.standing[ETH].document.round == 5
    assert seen.standing[ETH].document.price == "4000.01"
    assert seen.standing[ETH].document.transaction == transaction_of(5)
    assert seen.standing[BTC].document.round == 7
    assert seen.standing[BTC].document.transaction is None


def test_a_round_number_that_came_back_with_another_moment_is_another_round():
    seen = viewed(answer(round_=7, observed_ms=NOW_MS), transactions={(7, NOW_MS - 10): transaction_of(7)})
    assert seen.standing[BTC].document.transaction is None


def test_a_feed_that_was_never_priced_does_not_stand_there_as_zero():
    assert set(viewed(answer(), answer(ETH, 0, decimals=2)).standing) == {BTC}
    assert TON not in viewed(answer()).standing


def test_a_refreshed_price_is_the_price_and_its_attempt():
    price = viewed(answer()).standing[BTC].at(NOW_MS)
    assert refreshed(price, "a1").model_dump() == {**price.model_dump(), "attempt": "a1"}


def test_the_group_before_its_first_round_has_no_moment():
    empty = view(MAJORS, reading(0), mode=Mode.TEST, received_ms=NOW_MS, transactions={})
    assert empty.document().model_dump() == {
        "group": "majors",
        "round": 0,
        "observed_at": None,
        "halted": False,
        "read_at": "2024-03-13T11:10:45.391Z",
    }
