"""Pins over the simulated market, and the log of what was served."""

from __future__ import annotations

from decimal import Decimal

import pytest

from core.types import Pair
from simulator.board import Board
from simulator.errors import InvalidControlError
from simulator.prices import PriceModel
from simulator.served import Served, ServedLog

SERVED = {"kraken": (Pair("BTC/USD"), Pair("USDT/USD")), "okx": (Pair("BTC/USDT"),)}


def board() -> Board:
    return Board(PriceModel(1), tick_ms=500, served=SERVED)


def test_prices_move_once_a_tick() -> None:
    here = board()
    first = here.quote("kraken", Pair("BTC/USD"), 1_000)
    assert here.quote("kraken", Pair("BTC/USD"), 1_499) == first
    assert here.quote("kraken", Pair("BTC/USD"), 1_500) != first


def test_currencies_are_those_of_the_pairs_served() -> None:
    assert board().currencies() == ["BTC", "USDT"]


def test_a_pin_holds_until_it_is_lifted() -> None:
    here = board()
    here.pin({"BTC/USD": "65000.12"})
    assert here.true_usd("BTC", 10**12) == Decimal("65000.12")
    here.pin({"kraken:USDT/USD": 1})
    assert here.pins == {"BTC/USD": Decimal("65000.12"), "kraken:USDT/USD": Decimal(1)}
    here.unpin()
    assert here.pins == {}
    assert here.true_usd("BTC", 10**12) == board().true_usd("BTC", 10**12)


def test_every_change_of_a_pin_has_a_version_of_its_own() -> None:
    here = board()
    here.pin({"BTC/USD": 1})
    here.unpin()
    assert here.version == 2


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("BTC/USD", "0", "not positive"),
        ("BTC/USD", "-1", "not positive"),
        ("BTC/USD", "NaN", "not a finite number"),
        ("BTC/USD", "1e30", "absurd"),
        ("BTC/USD", "much", "'much' is not a number"),
        ("BTC/USD", True, "True is not a decimal string"),
        ("BTC/USD", None, "None is not a decimal string"),
        ("BTC", "1", "'BTC' is not a pair"),
        ("BTC/USDT", "1", "a true price is in USD"),
        ("mtgox:BTC/USD", "1", "'mtgox' is no simulated venue"),
        ("okx:BTC/USD", "1", "okx does not serve BTC/USD"),
    ],
)
def test_a_wrong_pin_is_refused_and_none_of_the_others_is_set(name: str, value: object, says: str) -> None:
    here = board()
    with pytest.raises(InvalidControlError, match=says):
        here.pin({"USDT/USD": "1", name: value})
    assert here.pins == {}


def entry(at_ms: int) -> Served:
    return Served(at_ms, "kraken", Pair("BTC/USD"), "ok", Decimal(1), None, None, None)


def test_the_log_gives_what_was_served_since() -> None:
    log = ServedLog()
    for at_ms in (1, 2, 3):
        log.add(entry(at_ms))
    assert [served.at_ms for served in log.since(2)] == [2, 3]


def test_the_log_is_bounded_and_says_what_it_dropped() -> None:
    log = ServedLog(capacity=2)
    for at_ms in range(5):
        log.add(entry(at_ms))
    assert [served.at_ms for served in log.since(0)] == [3, 4]
    assert log.dropped == 3
