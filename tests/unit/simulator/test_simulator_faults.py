"""Faults: what may be asked for, and which request they strike."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal

import pytest

from core.types import Pair
from simulator.errors import InvalidControlError, UnknownVenueError
from simulator.faults import (
    CALM,
    Bomb,
    Delay,
    Duplicate,
    Empty,
    FaultTable,
    Hang,
    Hostile,
    Million,
    Outlier,
    RateLimited,
    Refused,
    Stale,
    Strike,
    Zero,
    parse_faults,
)
from simulator.hostile import ELEMENTS, UNPACKED_BYTES, hostile
from simulator.reply import Reply

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


SOUND = Reply(200, b'{"last":"1","list":[{"a":2}]}', "ok", last=Decimal(1))


@pytest.mark.parametrize(
    ("kind", "status", "starts", "ends"),
    [
        ("429", 429, b"{", b"}"),
        ("500", 500, b"{", b"}"),
        ("empty", 200, b"", b""),
        ("html", 200, b"<!DOCTYPE html>", b"</html>"),
        ("plain_text", 200, SOUND.body, SOUND.body),
        ("malformed", 200, b'{"last":"1"', b',"l'),
        ("duplicate_keys", 200, b'{"last":"1","list":[{"a":2}],"more":{"key":1,', b'"key":2}}'),
        ("not_utf8", 200, b'{"last":"1","list":[{"a":2}],"more":"\xff', b'"}'),
        ("million", 200, b'{"last":"1","list":[{"a":2}],"more":[0,0,', b"0]}"),
        ("deep", 200, b'{"last":"1","list":[{"a":2}],"more":[[[', b"]]]}"),
        ("redirect", 302, b"", b""),
        ("gzip_bomb", 200, b"\x1f\x8b", b""),
    ],
)
def test_what_a_hostile_venue_sends(kind: str, status: int, starts: bytes, ends: bytes) -> None:
    [fault] = parse_faults({"kind": kind})
    assert isinstance(fault, Hostile)
    reply = hostile(fault, SOUND)
    assert (reply.status, reply.outcome) == (status, kind)
    assert reply.body.startswith(starts)
    assert reply.body.endswith(ends)


def test_a_bomb_is_small_and_says_that_it_is_packed() -> None:
    reply = hostile(Bomb(kind="gzip_bomb"), SOUND)
    assert reply.headers == {"Content-Encoding": "gzip"}
    assert len(reply.body) < 100_000
    assert len(gzip.decompress(reply.body)) == UNPACKED_BYTES


def test_a_list_gets_its_odd_value_at_its_end() -> None:
    listed = Reply(200, b"[1,2]", "ok")
    assert hostile(Duplicate(kind="duplicate_keys"), listed).body == b'[1,2,{"key":1,"key":2}]'
    million = hostile(Million(kind="million"), listed).body
    assert len(json.loads(million)[2]) == ELEMENTS
