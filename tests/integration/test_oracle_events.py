"""Every event of the oracle and the directory, with its arguments; none of them is one that no test has seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import decode

from contracts.artifacts import load
from contracts.devchain.chain import Log, Mined
from contracts.report import bytes32
from tests.support.oracle_kit import FEEDS, GUARDIAN, OWNER, STRANGER, Lab, ascending, feed_config, signer

BTC, ETH, DOGE = (bytes32(pair) for pair in FEEDS)
MAJORS = bytes32("majors")
ZERO = "0x" + "00" * 20
DAY, HOUR = 86_400, 3_600
CONFIG = feed_config("BTC/USD")
DECLARED = {
    entry["name"]: entry
    for contract in ("FairmarkOracle", "FairmarkDirectory")
    for entry in load(contract).entries
    if entry["type"] == "event"
}


@pytest.fixture(scope="module")
def shared() -> Lab:
    lab = Lab(n=5)
    lab.configure(feeds=[feed_config(pair, limit_bps=500) for pair in FEEDS])
    return lab


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    assert shared.chain is not None
    before, now = shared.chain.snapshot(), shared.clock.now_ms()
    yield shared
    shared.chain.revert(before)
    shared.clock.advance(now - shared.clock.now_ms())


def _kind(item: dict[str, Any]) -> str:
    if item["type"].startswith("tuple"):
        return "(" + ",".join(_kind(part) for part in item["components"]) + ")" + item["type"][5:]
    return str(item["type"])


def said(mined: Mined, contract: str = "FairmarkOracle") -> list[tuple[str, tuple[Any, ...]]]:
    """The events of a transaction: name and arguments, in their declared order."""
    by_topic = {
        load(contract).abi.topic(entry["name"]): entry for entry in load(contract).entries if entry["type"] == "event"
    }
    return [_decoded(log, by_topic["0x" + log.topics[0].hex()]) for log in mined.logs]


def _decoded(log: Log, entry: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
    topics = list(log.topics[1:])
    plain = list(decode([_kind(item) for item in entry["inputs"] if not item["indexed"]], log.data))
    values = [decode([_kind(item)], topics.pop(0))[0] if item["indexed"] else plain.pop(0) for item in entry["inputs"]]
    return entry["name"], tuple(values)


def low(address: str) -> str:
    return address.lower()


# ------------------------------------------------------------------------------------------------ groups


def test_configuring(lab: Lab):
    feeds = [feed_config(pair, limit_bps=500) for pair in FEEDS]
    changed = [feed_config("BTC/USD", limit_bps=500, heartbeat_s=90), *feeds[1:], feed_config("SOL/USD")]
    mined = lab.do("setFeeds", MAJORS, changed)
    assert said(mined) == [
        ("FeedConfigured", (MAJORS, BTC, 0, changed[0])),
        ("FeedConfigured", (MAJORS, bytes32("SOL/USD"), 3, changed[3])),
        ("GroupConfigured", (MAJORS, 3, lab.info.hash)),
    ]
    assert said(lab.do("describeFeed", BTC, "Bitcoin in dollars")) == [("FeedDescribed", (BTC, "Bitcoin in dollars"))]


def test_making_an_oracle_names_owner_and_guardian(lab: Lab):
    artifact = load("FairmarkOracle")
    mined = lab.transact(b"", artifact.bytecode + artifact.abi.construct(True, OWNER.address, GUARDIAN.address), OWNER)
    assert mined.created
    own = Mined(**{**mined.__dict__, "logs": tuple(log for log in mined.logs if log.address == mined.created)})
    assert said(own) == [
        ("OwnershipTransferred", (ZERO, low(OWNER.address))),
        ("GuardianSet", (low(GUARDIAN.address),)),
    ]


# ------------------------------------------------------------------------------------------------ signers


def test_rotating(lab: Lab):
    new = [one.address for one in ascending([*lab.reporters[1:], signer(50)])]
    now = lab.clock.now_ms() // 1000
    mined = lab.do("rotate", MAJORS, new, 1, 3)
    coming, version, signers, begin, until = lab.read("rotationInfo", MAJORS)
    assert (version, begin, until) == (3, now + DAY, now + DAY + HOUR)
    assert list(signers) == [low(one) for one in new]
    assert said(mined) == [("RotationStarted", (MAJORS, 3, coming, begin, until))]
    assert said(lab.do("cancelRotation", MAJORS)) == [("RotationCancelled", (MAJORS,))]


def test_a_rotation_ends_by_hand_or_by_the_new_sets_round(lab: Lab):
    lab.submit(lab.reports([(1_000, 500, 10)] * 3))
    newcomers = ascending([*lab.reporters[1:], signer(50)])
    lab.do("rotate", MAJORS, [one.address for one in newcomers], 1, 3)
    coming, version, _, _, until = lab.read("rotationInfo", MAJORS)
    lab.clock.advance(until * 1000 - lab.clock.now_ms())
    assert lab.chain is not None
    due = lab.chain.snapshot()
    assert said(lab.do("concludeRotation", MAJORS)) == [
        ("RotationConcluded", (1,)),
        ("GroupConfigured", (MAJORS, version, coming)),
    ]
    lab.chain.revert(due)
    lab.clock.advance(10)
    old, lab.reporters = lab.reporters, newcomers
    try:
        mined = lab.submit(lab.reports([(1_001, 500, 10)] * 3))
    finally:
        lab.reporters = old
    names = said(mined)
    assert names == [("RotationConcluded", (1,)), ("RoundAccepted", (MAJORS, 2, lab.info.moment, 0b111, 0))]


def test_revoking(lab: Lab):
    first, second = (one.address for one in lab.reporters[:2])
    mined = lab.do("revoke", MAJORS, first)
    assert said(mined) == [
        ("SignerRevoked", (MAJORS, low(first), False)),
        ("GroupConfigured", (MAJORS, 3, lab.info.hash)),
    ]
    lab.do("rotate", MAJORS, [one.address for one in lab.reporters[1:]], 1, 3)
    mined = lab.do("revoke", MAJORS, second)
    assert said(mined) == [
        ("RotationCancelled", (MAJORS,)),
        ("SignerRevoked", (MAJORS, low(second), True)),
        ("GroupConfigured", (MAJORS, 5, lab.info.hash)),
    ]


# ------------------------------------------------------------------------------------------------ halting, candidates


def test_halting(lab: Lab):
    assert said(lab.do("pause", by=GUARDIAN)) == [("Paused", (low(GUARDIAN.address),))]
    assert said(lab.do("unpause")) == [("Unpaused", (low(OWNER.address),))]
    assert said(lab.do("haltFeed", ETH, True, by=GUARDIAN)) == [("FeedHaltSet", (ETH, True, low(GUARDIAN.address)))]
    assert said(lab.do("haltFeed", ETH, False)) == [("FeedHaltSet", (ETH, False, low(OWNER.address)))]


def test_candidates(lab: Lab):
    lab.submit(lab.reports([(1_000, 500, 10)] * 3))
    lab.clock.advance(10_000)
    mined = lab.submit(lab.reports([(1_100, 600, 10)] * 3))
    assert said(mined) == [
        ("CandidatesChanged", (MAJORS, 2, 0b011)),
        ("RoundAccepted", (MAJORS, 2, lab.info.moment, 0b100, 0)),
    ]
    assert said(lab.do("resolveCandidate", BTC, 1_100, True)) == [("CandidateResolved", (BTC, True, 1_100, 2))]
    assert said(lab.do("resolveCandidate", ETH, 600, False)) == [("CandidateResolved", (ETH, False, 600, 2))]


# ------------------------------------------------------------------------------------------------ roles


def test_roles(lab: Lab):
    assert said(lab.do("setGuardian", STRANGER.address)) == [("GuardianSet", (low(STRANGER.address),))]
    assert said(lab.do("setManagers", GUARDIAN.address, STRANGER.address)) == [
        ("ManagersSet", (low(GUARDIAN.address), low(STRANGER.address)))
    ]
    pair = (low(OWNER.address), low(STRANGER.address))
    assert said(lab.do("transferOwnership", STRANGER.address)) == [("OwnershipTransferStarted", pair)]
    assert said(lab.do("acceptOwnership", by=STRANGER)) == [("OwnershipTransferred", pair)]


def test_the_directory(lab: Lab):
    directory = lab.create("FairmarkDirectory", OWNER.address)
    abi = load("FairmarkDirectory").abi
    first, second = "0x" + "11" * 20, "0x" + "22" * 20
    seen = []
    for to in (first, second):
        mined = lab.transact(bytes.fromhex(directory[2:]), abi.call("move", BTC, to), OWNER)
        assert mined.ok
        seen += said(mined, "FairmarkDirectory")
    now = lab.clock.now_ms() // 1000
    assert seen == [("FeedMoved", (BTC, ZERO, first, now)), ("FeedMoved", (BTC, first, second, now + 2 * DAY))]


NEVER = {"EIP712DomainChanged"}
"""ERC-5267's, for domains that change: ours cannot."""


def test_every_event_is_asserted_here():
    named = set(re.findall(r'\("([A-Z]\w+)", (?:\(|pair)', Path(__file__).read_text(encoding="utf-8")))
    assert set(DECLARED) - named == NEVER
