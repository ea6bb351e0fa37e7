"""Reading and governing the compiled contract: what each reader returns and when it refuses; the Chainlink adapter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from eth_utils.crypto import keccak
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.artifacts import load
from contracts.errors import CallRevertedError
from contracts.report import bytes32
from tests.support.oracle_kit import FEEDS, GUARDIAN, ORACLE, OWNER, STRANGER, Lab, ascending, feed_config, signer

ADAPTER = load("FairmarkFeedAdapter").abi
BTC, ETH, DOGE = (bytes32(pair) for pair in FEEDS)
UNSET, FRESH, STALE, HALTED, UNKNOWN = range(5)
STALE_AFTER = 60 + 60
"""Heartbeat, and the age up to which the round that renews it is still accepted."""


@pytest.fixture(scope="module")
def shared() -> Lab:
    return Lab()


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    assert shared.chain is not None
    before, now = shared.chain.snapshot(), shared.clock.now_ms()
    yield shared
    shared.chain.revert(before)
    shared.clock.advance(now - shared.clock.now_ms())


@pytest.fixture
def updated_at(lab: Lab) -> int:
    """A round has set BTC/USD to 100, and nothing else; when."""
    lab.submit(lab.reports([(100, 0, 0)] * 3))
    return lab.clock.now_ms() // 1000


def refused(name: str, *arguments: object):
    return pytest.raises(CallRevertedError, match=rf"^{name}\(" + ", ".join(map(str, arguments)))


def hexed(id_: bytes) -> str:
    return "0x" + id_.hex()


# ------------------------------------------------------------------------------------------------ readers


def test_a_fresh_price(lab: Lab, updated_at: int):
    assert lab.read("getPrice", BTC) == (100, updated_at)
    assert lab.read("tryGetPrice", BTC) == (FRESH, 100, updated_at, 0, 3)
    assert lab.read("getPriceNoOlderThan", BTC, 0) == (100, updated_at)
    assert lab.read("getRoundData", BTC, 1) == (100, updated_at, 0, 3)
    assert lab.read("latestAnswer", BTC) == (FRESH, 100, updated_at, updated_at, 1)


def test_a_price_that_never_was_is_no_zero(lab: Lab, updated_at: int):
    for reader in (("getPrice", ETH), ("getPriceNoOlderThan", ETH, 10**9)):
        with refused("UnsetFeed", hexed(ETH)):
            lab.read(*reader)
    with refused("NoAnswer", hexed(ETH), 1):
        lab.read("getRoundData", ETH, 1)
    assert lab.read("tryGetPrice", ETH) == (UNSET, 0, 0, 0, 0)


def test_an_unknown_feed_is_named(lab: Lab):
    nobody = bytes32("XXX/USD")
    readers: list[tuple[Any, ...]] = [
        ("getPrice", nobody),
        ("getPriceNoOlderThan", nobody, 60),
        ("getRoundData", nobody, 1),
        ("latestAnswer", nobody),
        ("feedInfo", nobody),
    ]
    for reader in readers:
        with refused("UnknownFeed", hexed(nobody)):
            lab.read(*reader)
    assert lab.read("tryGetPrice", nobody) == (UNKNOWN, 0, 0, 0, 0)
    for reader in ("groupInfo", "readGroup"):
        with refused("UnknownGroup"):
            lab.read(reader, bytes32("nobody"))


def test_a_price_is_stale_one_second_after_heartbeat_and_grace(lab: Lab, updated_at: int):
    lab.clock.advance(STALE_AFTER * 1000)
    assert lab.read("getPrice", BTC) == (100, updated_at)
    lab.clock.advance(1000)
    with refused("StaleFeed", hexed(BTC), updated_at, STALE_AFTER):
        lab.read("getPrice", BTC)
    assert lab.read("tryGetPrice", BTC)[:3] == (STALE, 100, updated_at)
    assert lab.read("getPriceNoOlderThan", BTC, STALE_AFTER + 1) == (100, updated_at)
    with refused("TooOld", hexed(BTC), updated_at, STALE_AFTER):
        lab.read("getPriceNoOlderThan", BTC, STALE_AFTER)
    assert lab.read("getRoundData", BTC, 1)[0] == 100


def test_a_paused_oracle_halts_its_answers_and_keeps_its_history(lab: Lab, updated_at: int):
    lab.do("pause", by=GUARDIAN)
    with refused("FeedHalted", hexed(BTC)):
        lab.read("getPrice", BTC)
    with refused("FeedHalted", hexed(BTC)):
        lab.read("getPriceNoOlderThan", BTC, 60)
    assert lab.read("tryGetPrice", BTC)[:2] == (HALTED, 100)
    assert lab.read("tryGetPrice", ETH)[0] == UNSET
    assert lab.read("getRoundData", BTC, 1)[0] == 100
    lab.do("unpause")
    assert lab.read("getPrice", BTC)[0] == 100


def test_a_feeds_parameters_are_readable(lab: Lab):
    group, config, stale_after = lab.read("feedInfo", BTC)
    assert (group, config, stale_after) == (bytes32("majors"), feed_config("BTC/USD"), STALE_AFTER)


def test_the_whole_group_in_one_call(lab: Lab, updated_at: int):
    info = lab.info
    (reading,) = lab.read("readGroup", bytes32("majors"))
    *head, feeds = reading
    assert head == [info.hash, 1, 1, info.moment, info.block, False, lab.clock.now_ms() // 1000]
    assert feeds == (
        (BTC, 8, FRESH, 60, STALE_AFTER, 100, 1, info.moment, updated_at, 0, 3),
        (ETH, 8, UNSET, 60, STALE_AFTER, 0, 0, 0, 0, 0, 0),
        (DOGE, 8, UNSET, 60, STALE_AFTER, 0, 0, 0, 0, 0, 0),
    )


def test_the_group_hash_commits_to_everything_that_reporters_rely_on(lab: Lab):
    seen = {lab.info.hash}
    signers = [one.address for one in lab.reporters]
    feeds = [feed_config(pair) for pair in FEEDS]
    for change in (
        {},
        {"threshold": 4},
        {"max_age_ms": 30_000},
        {"f": 0},
        {"signers": [one.address for one in ascending([*lab.reporters, signer(9)])]},
        {"feeds": [feed_config("BTC/USD", deviation_bps=51), *feeds[1:]]},
        {"feeds": [*feeds, feed_config("SOL/USD")], "signers": signers},
        {"feeds": [*feeds, feed_config("SOL/USD", heartbeat_s=61)]},
    ):
        lab.configure(**{"feeds": [*feeds, feed_config("SOL/USD")] if len(lab.info.feeds) == 4 else feeds, **change})
        seen.add(lab.info.hash)
    assert len(seen) == 9
    assert lab.info.version == 9


# ------------------------------------------------------------------------------------------------ adapter


@pytest.fixture
def adapter(lab: Lab) -> str:
    return lab.create("FairmarkFeedAdapter", lab.address, BTC)


def aggregator(lab: Lab, adapter: str, function: str, *arguments: object) -> tuple[Any, ...]:
    return ADAPTER.result(function, lab.run(ADAPTER.call(function, *arguments), to=adapter, abi=ADAPTER))


def test_the_adapter_describes_its_feed(lab: Lab, adapter: str):
    assert aggregator(lab, adapter, "description") == ("BTC / USD",)
    assert aggregator(lab, adapter, "decimals") == (8,)
    assert aggregator(lab, adapter, "version") == (1,)


def test_the_adapter_has_chainlinks_selectors():
    signatures = {
        "decimals": "decimals()",
        "description": "description()",
        "version": "version()",
        "latestRoundData": "latestRoundData()",
    }
    for name, signature in signatures.items():
        assert ADAPTER.call(name) == keccak(text=signature)[:4]
    assert ADAPTER.call("getRoundData", 1)[:4] == keccak(text="getRoundData(uint80)")[:4]


def test_the_adapter_answers_like_chainlinks(lab: Lab, adapter: str, updated_at: int):
    assert aggregator(lab, adapter, "latestRoundData") == (1, 100, updated_at, updated_at, 1)
    assert aggregator(lab, adapter, "getRoundData", 1) == (1, 100, updated_at, updated_at, 1)
    lab.round([(0, 5, 5)] * 3)  # a round in which this feed was not written
    assert aggregator(lab, adapter, "latestRoundData")[0] == 1
    with refused("NoDataPresent", 2):
        aggregator(lab, adapter, "getRoundData", 2)
    with refused("NoDataPresent", 2**64 + 1):
        aggregator(lab, adapter, "getRoundData", 2**64 + 1)


def test_the_adapter_returns_a_stale_answer_with_its_old_time(lab: Lab, adapter: str, updated_at: int):
    lab.clock.advance(3_600_000)
    assert aggregator(lab, adapter, "latestRoundData") == (1, 100, updated_at, updated_at, 1)


def test_the_adapter_reverts_where_there_is_nothing_to_return(lab: Lab):
    unset = lab.create("FairmarkFeedAdapter", lab.address, ETH)
    with refused("NoDataPresent", 0):
        aggregator(lab, unset, "latestRoundData")
    lab.submit(lab.reports([(1, 1, 1)] * 3))
    lab.do("pause")
    with refused("Halted"):
        aggregator(lab, unset, "latestRoundData")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(10, 90_000), st.integers(-5_000, 29_000)), min_size=1, max_size=5))
def test_what_chainlinks_consumers_check_holds(lab: Lab, adapter: str, steps: list[tuple[int, int]]):
    """answer > 0, updatedAt > 0 and not after the block, answeredInRound >= roundId, rounds and times never fall."""
    assert lab.chain is not None
    before, start = lab.chain.snapshot(), lab.clock.now_ms()
    last_round, last_time = 0, 0
    for pause_ms, ahead in steps:
        lab.clock.advance(pause_ms)
        moment = max(lab.clock.now_ms() + ahead, lab.info.moment + 1)
        if moment > lab.clock.now_ms() + 29_000:
            continue
        lab.submit(lab.reports([(100, 1, 1)] * 3, moment=moment))
        round_id, answer, started_at, updated_at, answered_in = aggregator(lab, adapter, "latestRoundData")
        assert answer > 0
        assert 0 < started_at <= updated_at <= lab.chain.head.timestamp
        assert answered_in >= round_id == last_round + 1
        assert updated_at >= last_time
        last_round, last_time = round_id, updated_at
    lab.chain.revert(before)
    lab.clock.advance(start - lab.clock.now_ms())


# ------------------------------------------------------------------------------------------------ governance


def test_ownership_passes_in_two_steps(lab: Lab):
    lab.do("transferOwnership", STRANGER.address)
    assert lab.read("owner") == (OWNER.address.lower(),)
    with refused("OwnableUnauthorizedAccount"):
        lab.do("setGuardian", STRANGER.address, by=STRANGER)
    lab.do("acceptOwnership", by=STRANGER)
    lab.do("setGuardian", STRANGER.address, by=STRANGER)
    with refused("OwnableUnauthorizedAccount"):
        lab.do("setGuardian", OWNER.address, by=OWNER)


def test_ownership_is_never_given_up(lab: Lab):
    with refused("OwnershipIsKept"):
        lab.do("renounceOwnership")


def test_the_guardian_may_pause_and_nothing_else(lab: Lab):
    with refused("NotGuardian", STRANGER.address.lower()):
        lab.do("pause", by=STRANGER)
    lab.do("pause", by=GUARDIAN)
    for function, *arguments in (("unpause",), ("setGuardian", GUARDIAN.address)):
        with refused("OwnableUnauthorizedAccount"):
            lab.do(function, *arguments, by=GUARDIAN)
    lab.do("unpause", by=OWNER)
    lab.do("pause", by=OWNER)


def test_only_the_owner_configures(lab: Lab):
    data = ORACLE.call("configureGroup", bytes32("x"), [], [], 0, 0, 0)
    with refused("OwnableUnauthorizedAccount"):
        lab.run(data, by=GUARDIAN)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"group": bytes(32)}, "name"),
        ({"max_age_ms": 0}, "maxAge"),
        ({"max_age_ms": 3_600_001}, "maxAge"),
        ({"signers": [signer(number).address for number in (1, 2, 3)]}, "signers"),
        ({"f": 2}, "signers"),
        ({"threshold": 2}, "threshold"),
        ({"threshold": 5}, "threshold"),
        ({"feeds": []}, "feeds"),
        ({"feeds": [feed_config("BTC/USD")]}, "feeds"),
        ({"feeds": [feed_config(f"A{number}/USD") for number in range(257)]}, "feeds"),
        ({"signers": [one.address for one in ascending([signer(n) for n in range(1, 5)])[::-1]]}, "signer order"),
        ({"signers": ["0x" + "00" * 20, *[one.address for one in ascending([signer(n) for n in range(1, 5)])]]},
         "signer order"),
        ({"signers": [one.address for one in ascending([signer(n) for n in (1, 2, 3, 4, 4)])]}, "signer order"),
    ],
)  # fmt: skip
def test_a_group_that_breaks_a_rule_is_refused(lab: Lab, change: dict[str, Any], reason: str):
    with pytest.raises(CallRevertedError) as caught:
        lab.configure(**change)
    assert (caught.value.name, caught.value.arguments[1]) == ("BadGroup", reason)


BTC_ETH = [feed_config("BTC/USD"), feed_config("ETH/USD")]


@pytest.mark.parametrize(
    ("feeds", "reason"),
    [
        ([*BTC_ETH[::-1], feed_config("DOGE/USD")], "place"),
        ([*BTC_ETH, feed_config("SOL/USD")], "place"),
        ([*BTC_ETH, feed_config("DOGE/USD", decimals=6)], "decimals"),
        ([*BTC_ETH, feed_config("DOGE/USD"), feed_config("BTC/USD")], "taken"),
        ([*BTC_ETH, feed_config("DOGE/USD"), (bytes(32), 8, 3, 50, 60, 0, 0)], "name"),
        ([*BTC_ETH, feed_config("DOGE/USD", least=2)], "minContributors"),
        ([*BTC_ETH, feed_config("DOGE/USD", least=5)], "minContributors"),
        ([*BTC_ETH, feed_config("DOGE/USD", heartbeat_s=0)], "heartbeat"),
        ([*BTC_ETH, feed_config("DOGE/USD", heartbeat_s=366 * 86_400)], "heartbeat"),
    ],
)
def test_a_feed_that_breaks_a_rule_is_refused(lab: Lab, feeds: list[Any], reason: str):
    with pytest.raises(CallRevertedError) as caught:
        lab.configure(feeds=feeds)
    assert (caught.value.name, caught.value.arguments[1]) == ("BadFeed", reason)


def test_a_feed_belongs_to_one_group(lab: Lab):
    with pytest.raises(CallRevertedError) as caught:
        lab.configure(group=bytes32("minors"))
    assert caught.value.arguments == (BTC, "taken")


def test_answers_survive_a_new_version(lab: Lab, updated_at: int):
    lab.configure(feeds=[*[feed_config(pair, heartbeat_s=90) for pair in FEEDS], feed_config("SOL/USD")])
    assert lab.read("getPrice", BTC) == (100, updated_at)
    assert lab.read("feedInfo", BTC)[2] == 90 + 60
    lab.submit(lab.reports([(101, 1, 1, 7)] * 3, moment=lab.moment() + 10))
    assert lab.read("getPrice", bytes32("SOL/USD"))[0] == 7
    assert lab.read("latestAnswer", BTC)[1::3] == (101, 2)
