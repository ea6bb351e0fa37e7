"""What would change on chain, and what a day of rounds costs."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from contracts.readings import FeedOnChain, GroupState
from core.errors import StartError
from core.types import Feed, Group, Pair
from fairmark.cli.chain import gas
from fairmark.gas import cost, read_table, round_gas
from fairmark.plan import Kind, changes

PROJECT = Path(__file__).resolve().parents[3]
LIMITS = ", limit_bps 1000, max_spread_bps 1000"
BTC, ETH, SOL = Pair("BTC/USD"), Pair("ETH/USD"), Pair("SOL/USD")
GROUP = Group(name="majors", feeds=(Feed(pair=BTC), Feed(pair=ETH)))
REPORTERS = {name: f"0x{number:040x}" for number, name in enumerate("abcd", start=1)}


def on_chain(feed: Feed) -> FeedOnChain:
    limits = (1_000, 1_000)
    numbers = feed.decimals, feed.min_contributors, feed.deviation_bps, feed.heartbeat_ms // 1000
    return FeedOnChain(feed.pair, *numbers, *limits)


STANDING = GroupState(
    group="majors",
    group_hash="0x" + "11" * 32,
    version=1,
    last_moment=0,
    round=0,
    accepted_block=0,
    paused=False,
    threshold=GROUP.threshold,
    f=GROUP.f,
    max_age_ms=GROUP.max_age_ms,
    signers=tuple(REPORTERS.values()),
    feeds=tuple(on_chain(feed) for feed in GROUP.feeds),
    block_timestamp=0,
)


def found(standing: GroupState | None = STANDING, group: Group = GROUP, reporters: dict[str, str] = REPORTERS):
    return [(change.kind, change.name, change.detail) for change in changes(standing, group, reporters)]


def test_where_all_stands_nothing_changes():
    assert found() == []
    assert found(reporters={name: address.upper().replace("X", "x") for name, address in REPORTERS.items()}) == []


def test_a_new_group_is_one_change():
    assert found(None) == [(Kind.GROUP_ADDED, "majors", "2 feeds, reporters a, b, c, d")]


def test_a_feed_added_changed_removed_or_moved():
    more = replace(GROUP, feeds=(*GROUP.feeds, Feed(pair=SOL, deviation_bps=75)))
    assert found(group=more) == [
        (Kind.FEED_ADDED, SOL, f"decimals 8, heartbeat_s 60, deviation_bps 75, min_contributors 3{LIMITS}")
    ]
    other = replace(GROUP, feeds=(replace(GROUP.feeds[0], deviation_bps=30, heartbeat_ms=90_000), GROUP.feeds[1]))
    assert found(group=other) == [(Kind.FEED_CHANGED, BTC, "heartbeat_s 60 to 90, deviation_bps 50 to 30")]
    assert found(group=replace(GROUP, feeds=GROUP.feeds[:1])) == [(Kind.FEED_REMOVED, ETH, "")]
    assert found(group=replace(GROUP, feeds=GROUP.feeds[::-1])) == [(Kind.ORDER_CHANGED, "majors", "of the feeds")]


def test_a_rotated_reporter_is_one_added_and_one_removed():
    new = {**REPORTERS, "d": "0x" + "ab" * 20}
    assert found(reporters=new) == [
        (Kind.REPORTER_ADDED, "0x" + "ab" * 20, "d"),
        (Kind.REPORTER_REMOVED, REPORTERS["d"], ""),
    ]


def test_numbers_of_people():
    assert found(group=replace(GROUP, threshold=4)) == [(Kind.NUMBERS_CHANGED, "majors", "threshold 3 to 4")]


TABLE = {3: {1: 76_000, 10: 162_000, 100: 1_040_000}, 5: {1: 88_000, 10: 182_000, 100: 1_130_000}}


@pytest.mark.parametrize(
    ("signatures", "feeds", "gas"),
    [(3, 1, 76_000), (3, 10, 162_000), (3, 55, 601_000), (4, 10, 172_000), (5, 100, 1_130_000), (7, 1, 100_000)],
)
def test_gas_between_and_beyond_the_measured_points(signatures: int, feeds: int, gas: int):
    assert round_gas(TABLE, signatures, feeds) == gas


def test_a_day_costs_its_rounds():
    one = cost(GROUP, TABLE, gwei=Decimal(2))
    assert (one.rounds, one.signatures, one.feeds) == (1_440, 3, 2)
    assert one.coin == Decimal(one.gas) * 1_440 * 2 / 10**9
    assert cost(GROUP, TABLE, gwei=Decimal(2), rounds=10).coin == Decimal(one.gas) * 20 / 10**9


def test_the_table_is_read_and_a_missing_one_says_how_to_make_it(tmp_path: Path):
    path = tmp_path / "gas.json"
    with pytest.raises(StartError, match="make gas"):
        read_table(path)
    path.write_text('{"k3": {"n1": 76000, "n10": 162000}, "attest256_k3": 58000, "get_price": {"fresh": 8000}}')
    assert read_table(path) == {3: {1: 76_000, 10: 162_000}}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"gwei": "-1"}, "not negative"),
        ({"gwei": "NaN"}, "not negative"),
        ({"gwei": "1", "coin": "Infinity"}, "not negative"),
        ({"gwei": "1", "rounds": -1}, "--rounds"),
        ({"gwei": "cheap"}, "decimal numbers"),
    ],
)
def test_a_price_that_is_none_is_refused(asked: dict[str, Any], said: str):
    with pytest.raises(StartError, match=said):
        gas(**asked, config=PROJECT / "fairmark.toml")
