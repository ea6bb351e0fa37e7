"""Faults: what may be asked for, and which request they strike."""

from __future__ import annotations

from decimal import Decimal

import pytest

from core.types import Pair
from simulator.errors import InvalidControlError, UnknownVenueError
from simulator.faults import (
    CALM,
    Delay,
    Empty,
    FaultTable,
    Hang,
    Outlier,
    RateLimited,
    Refused,
    Stale,
    Strike,
    Zero,
    parse_faults,
)

BTC, ETH = Pair("BTC/USD"), Pair("ETH/USD")


def test_one_fault_is_an_object() -> None:
    assert parse_faults({"kind": "delay", "ms": 250}) == (Delay(kind="delay", ms=250),)


def test_several_faults_are_a_list() -> None:
    assert parse_faults([{"kind": "429", "retry_after_s": 2}, {"kind": "outlier"}]) == (
        RateLimited(kind="429", retry_after_s=2),
        Outlier(kind="outlier", factor=Decimal(10)),
    )


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"kind": "delai"}, "does not match any of the expected tags"),
        ({"kind": "delay"}, "ms: Field required"),
        ({"kind": "delay", "ms": -1}, "greater than or equal to 0"),
        ({"kind": "delay", "ms": 5, "sec": 1}, "sec: Extra inputs are not permitted"),
        ({"kind": "zero", "probability": 1.5}, "less than or equal to 1"),
        ({"kind": "zero", "pair": "btcusd"}, "'btcusd' is not a pair"),
        ({"kind": "outlier", "factor": "NaN"}, "finite number"),
        ({"kind": "refused", "pair": "BTC/USD"}, "pair: Extra inputs are not permitted"),
        ([], "give 1 to 8 faults, not 0"),
        ([{"kind": "zero"}] * 9, "give 1 to 8 faults, not 9"),
        ("hang", "fault: "),
    ],
)
def test_a_wrong_fault_is_refused_naming_what_is_wrong(value: object, says: str) -> None:
    with pytest.raises(InvalidControlError) as caught:
        parse_faults(value)
    assert says in str(caught.value)


def test_every_problem_is_named() -> None:
    with pytest.raises(InvalidControlError) as caught:
        parse_faults([{"kind": "delay"}, {"kind": "nope"}])
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["0.delay.ms", "1.fault"]


def test_a_venue_without_faults_is_calm() -> None:
    assert FaultTable(["a"], seed=1).strike("a", BTC) == CALM


def test_delays_add_up_and_the_first_other_fault_decides() -> None:
    table = FaultTable(["a"], seed=1)
    table.set("a", parse_faults([{"kind": "delay", "ms": 10}, {"kind": "delay", "ms": 5}, {"kind": "empty"}]))
    assert table.strike("a", BTC) == Strike(15, Empty(kind="empty"))
    table.set("a", parse_faults([{"kind": "zero"}, {"kind": "hang"}, {"kind": "delay", "ms": 5}]))
    assert table.strike("a", BTC) == Strike(0, Zero(kind="zero"))


def test_a_fault_for_one_pair_leaves_the_others_alone() -> None:
    table = FaultTable(["a"], seed=1)
    table.set("a", parse_faults({"kind": "hang", "pair": "BTC/USD"}))
    assert table.strike("a", BTC).fault == Hang(kind="hang", pair="BTC/USD")
    assert table.strike("a", ETH) == CALM
    assert table.strike("a", None) == CALM


def test_a_probable_fault_strikes_its_share_of_requests_and_the_same_ones_again() -> None:
    def struck(seed: int) -> list[bool]:
        table = FaultTable(["a"], seed)
        table.set("a", parse_faults({"kind": "500", "probability": 0.25}))
        return [table.strike("a", BTC).fault is not None for _ in range(1000)]

    assert struck(1) == struck(1)
    assert struck(1) != struck(2)
    assert 200 < sum(struck(1)) < 300


def test_probability_zero_never_strikes() -> None:
    table = FaultTable(["a"], seed=1)
    table.set("a", parse_faults({"kind": "500", "probability": 0}))
    assert all(table.strike("a", BTC) == CALM for _ in range(100))


def test_refused_is_about_the_listener_not_about_a_request() -> None:
    table = FaultTable(["a", "b"], seed=1)
    table.set("a", (Refused(kind="refused"), Stale(kind="stale", seconds=5)))
    assert table.refused("a")
    assert not table.refused("b")
    assert table.strike("a", BTC).fault == Stale(kind="stale", seconds=5)


def test_only_venues_with_faults_are_active() -> None:
    table = FaultTable(["a", "b"], seed=1)
    table.set("b", (Refused(kind="refused"),))
    assert table.active() == {"b": (Refused(kind="refused"),)}
    table.set("b", ())
    assert table.active() == {}


def test_an_unknown_venue_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownVenueError, match="'c' is no simulated venue; there are: a, b"):
        FaultTable(["a", "b"], seed=1).set("c", ())
