"""Attestation, the breaker, rotation, roles, evidence, pulling, adapters: each by its rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from eth_utils.crypto import keccak

from contracts.artifacts import load
from contracts.errors import CallRevertedError
from contracts.report import bytes32, in_signer_order
from contracts.rounds import pack_round
from core.types import SignedReport
from tests.support.oracle_kit import FEEDS, GUARDIAN, ORACLE, OWNER, STRANGER, Lab, ascending, feed_config, signer

BTC, ETH, DOGE = (bytes32(pair) for pair in FEEDS)
MAJORS = bytes32("majors")
FRESH, STALE, HALTED, PENDING = 1, 2, 3, 5
ROWS = [(1_000, 500, 10)] * 3
QUIET = [(None, None, None)] * 3
ZERO = "0x" + "00" * 20


@pytest.fixture(scope="module")
def shared() -> Lab:
    lab = Lab()
    lab.configure(feeds=[feed_config(pair, limit_bps=500, max_spread_bps=1_000) for pair in FEEDS])
    return lab


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    assert shared.chain is not None
    before, now = shared.chain.snapshot(), shared.clock.now_ms()
    yield shared
    shared.chain.revert(before)
    shared.clock.advance(now - shared.clock.now_ms())


def refused(name: str, *arguments: object):
    return pytest.raises(CallRevertedError, match=rf"^{name}\(" + ", ".join(map(str, arguments)))


def quiet(lab: Lab, rows: Any = QUIET, after_ms: int = 10_000) -> None:
    lab.clock.advance(after_ms)
    lab.submit(lab.mixed(rows))


def asked(lab: Lab, contract: str, at: str, function: str, *arguments: Any) -> tuple[Any, ...]:
    abi = load(contract).abi
    return abi.result(function, lab.run(abi.call(function, *arguments), to=at, abi=abi))


# ------------------------------------------------------------------------------------------------ unchanged


def test_an_attested_feed_stays_fresh_unwritten(lab: Lab):
    lab.submit(lab.reports(ROWS))
    started = lab.clock.now_ms() // 1000
    for _ in range(30):
        quiet(lab)
    now = lab.clock.now_ms() // 1000
    assert lab.read("latestAnswer", BTC) == (FRESH, 1_000, started, now, 1)
    assert lab.read("getPrice", BTC) == (1_000, now)
    assert lab.read("getPriceNoOlderThan", BTC, 0) == (1_000, now)
    assert lab.info.round == 31


def test_an_attestation_is_kept_when_a_feed_is_missed(lab: Lab):
    lab.submit(lab.reports(ROWS))
    quiet(lab, after_ms=50_000)
    attested = lab.clock.now_ms() // 1000
    quiet(lab, [(None, None, 0)] * 3)
    assert lab.read("latestAnswer", DOGE)[1:4] == (10, attested - 50, attested)
    assert lab.read("latestAnswer", BTC)[3] == attested + 10


def test_prices_and_unchanged_bits_mix_over_reports_and_feeds(lab: Lab):
    lab.submit(lab.reports(ROWS))
    quiet(lab, [(1_010, None, 11), (None, 501, 0), (990, 499, 12), (1_005, None, 12)])
    assert lab.read("latestAnswer", BTC)[1::3] == (1_000, 1)  # 990, 1000, 1005, 1010: attested
    assert lab.read("latestAnswer", ETH)[1::3] == (500, 1)
    assert lab.read("tryGetPrice", DOGE)[1] == 10  # 11, 12, 12: beyond a twentieth
    assert lab.read("candidate", DOGE)[0] == 12


def test_unchanged_says_nothing_of_a_feed_that_never_had_an_answer(lab: Lab):
    lab.submit(lab.reports([(1_000, 500, 0)] * 3))
    lab.clock.advance(10)
    reports = lab.mixed([(1_000, 500, None), (1_000, 500, None), (1_000, 500, 10)])
    lab.submit(reports)
    assert lab.read("tryGetPrice", DOGE)[0] == 0


def test_a_bit_beyond_the_feeds_is_refused(lab: Lab):
    lab.submit(lab.reports(ROWS))
    lab.clock.advance(10)
    payload = bytearray(lab.payload(lab.mixed([(None, None, 10)] * 3)))
    payload[16 + 98 + 31] |= 8
    with refused("BadReport", 0):
        lab.run(ORACLE.call("submit", bytes(payload)))


# ------------------------------------------------------------------------------------------------ the breaker


def test_a_jump_waits_and_a_later_median_near_it_confirms_it(lab: Lab):
    lab.submit(lab.reports(ROWS))
    quiet(lab, [(1_100, 500, 10)] * 3)
    assert lab.read("tryGetPrice", BTC)[:2] == (PENDING, 1_000)
    assert lab.read("tryGetPrice", ETH)[:2] == (FRESH, 500)
    with refused("FeedPending"):
        lab.read("getPriceChecked", BTC, 600, 1_000, 3)
    quiet(lab, [(1_101, 500, 10)] * 3, after_ms=20_000)  # too early
    assert lab.read("tryGetPrice", BTC)[1] == 1_000
    quiet(lab, [(1_102, 500, 10)] * 3)
    assert lab.read("tryGetPrice", BTC)[:2] == (FRESH, 1_102)
    assert lab.read("candidate", BTC)[0] == 0


def test_a_median_near_the_standing_answer_clears_the_candidate_and_any_other_replaces_it(lab: Lab):
    lab.submit(lab.reports(ROWS))
    quiet(lab, [(1_100, 500, 10)] * 3)
    quiet(lab, [(1_300, 500, 10)] * 3)
    assert lab.read("candidate", BTC)[0] == 1_300
    quiet(lab)
    assert lab.read("tryGetPrice", BTC)[:2] == (FRESH, 1_000)
    assert lab.read("candidate", BTC)[0] == 0


def test_prices_too_far_apart_wait_too(lab: Lab):
    lab.submit(lab.reports(ROWS))
    quiet(lab, [(900, 500, 10), (1_001, 500, 10), (1_100, 500, 10)])
    assert lab.read("tryGetPrice", BTC)[:2] == (PENDING, 1_000)


def test_the_limit_grows_with_the_root_of_the_time_since(lab: Lab):
    lab.submit(lab.reports(ROWS))
    quiet(lab, [(1_099, 500, 10)] * 3, after_ms=240_000)  # four heartbeats: twice the limit
    assert lab.read("tryGetPrice", BTC)[:2] == (FRESH, 1_099)


def test_the_owner_confirms_or_discards_what_it_saw(lab: Lab):
    lab.submit(lab.reports(ROWS))
    quiet(lab, [(1_100, 600, 10)] * 3)
    seen = lab.clock.now_ms() // 1000
    with refused("NoCandidate"):
        lab.do("resolveCandidate", BTC, 1_101, True)
    with refused("OwnableUnauthorizedAccount"):
        lab.do("resolveCandidate", BTC, 1_100, True, by=GUARDIAN)
    lab.do("resolveCandidate", BTC, 1_100, True)
    lab.do("resolveCandidate", ETH, 600, False)
    assert lab.read("latestAnswer", BTC) == (FRESH, 1_100, seen, seen, 2)
    assert lab.read("tryGetPrice", ETH)[:2] == (FRESH, 500)
    assert lab.read("priceAt", BTC, seen - 1)[0] == 1_000


# ------------------------------------------------------------------------------------------------ readers


def test_several_feeds_at_one_round(lab: Lab):
    lab.submit(lab.reports(ROWS))
    quiet(lab, [(None, 510, 0)] * 3)
    now = lab.clock.now_ms() // 1000
    assert lab.read("getPrices", [BTC, ETH]) == ((1_000, 510), 2, now)
    assert lab.read("crossRate", BTC, ETH, 4) == (1_000 * 10**4 // 510, now)
    with refused("NotOneRound"):
        lab.read("getPrices", [BTC, DOGE])
    statuses, prices, _ = lab.read("tryGetPrices", [BTC, DOGE, bytes32("X/USD")])
    assert (statuses, prices) == ((FRESH, FRESH, 4), (1_000, 10, 0))


def test_what_a_consumer_asks_of_a_price_is_checked(lab: Lab):
    lab.submit(lab.reports([(1_000, 500, 10), (1_010, 500, 10), (1_020, 500, 10)]))
    assert lab.read("getPriceChecked", BTC, 60, 198, 3)[0] == 1_010
    for arguments, error in (((60, 197, 3), "SpreadTooWide"), ((60, 198, 4), "TooFewContributors")):
        with refused(error):
            lab.read("getPriceChecked", BTC, *arguments)
    lab.clock.advance(61_000)
    with refused("TooOld"):
        lab.read("getPriceChecked", BTC, 60, 198, 3)


def test_history_of_more_than_the_ring_is_gone_and_the_rest_is_right(lab: Lab):
    for number in range(70):
        lab.clock.advance(1_000)
        lab.submit(lab.reports([(1_000 + number, 500, 10)] * 3))
    with refused("NoAnswer"):
        lab.read("getRoundData", BTC, 6)
    assert [lab.read("getRoundData", BTC, number)[0] for number in (7, 40, 70)] == [1_006, 1_039, 1_069]
    now = lab.clock.now_ms() // 1000
    assert lab.read("twap", BTC, 10) == (sum(range(1_059, 1_069)) // 10,)
    assert lab.read("priceAt", BTC, now - 63)[0] == 1_006
    with refused("HistoryTooShort"):
        lab.read("priceAt", BTC, now - 64)


# ------------------------------------------------------------------------------------------------ evidence, pulling


def leaf_of(*values: bytes) -> bytes:
    return keccak(keccak(b"".join(values)))


def test_an_observation_is_verified_against_what_its_reporter_signed(lab: Lab):
    leaves = [leaf_of(bytes32(f"quote {number}")) for number in range(2)]
    root = keccak(b"".join(sorted(leaves)))
    roots = [root, keccak(b"b"), keccak(b"c")]
    reports = in_signer_order(
        {
            by.address: lab.report(by, ROWS[0], evidence_root="0x" + one.hex())
            for by, one in zip(lab.reporters[:3], roots, strict=True)
        }
    )
    lab.submit(reports)
    pairs = [(report.reporter, bytes.fromhex(report.evidence_root[2:])) for report in reports]
    first, second = pairs[0][0], pairs[1][0]

    def verified(reporter: str, leaf: bytes, proof: list[bytes], listed: Any = pairs, round_: int = 1) -> bool:
        return bool(lab.read("verifyObservation", MAJORS, round_, reporter, listed, leaf, proof)[0])

    assert verified(first, leaves[0], [leaves[1]])
    assert not verified(second, leaves[0], [leaves[1]])
    assert not verified(first, leaf_of(bytes32("a lie")), [leaves[1]])
    assert not verified(STRANGER.address, leaves[0], [leaves[1]])
    with refused("WrongRoots"):
        verified(first, leaves[0], [leaves[1]], listed=pairs[:2])
    with refused("UnknownRound"):
        verified(first, leaves[0], [leaves[1]], round_=2)


def test_pulling_is_idempotent(lab: Lab):
    reports = lab.reports(ROWS)
    call = lab.calldata(reports, function="submitIfNewer")
    assert ORACLE.result("submitIfNewer", lab.run(call)) == (True,)
    lab.submit(reports)
    assert ORACLE.result("submitIfNewer", lab.run(call)) == (False,)
    lab.clock.advance(10)
    with refused("UnknownSigner"):
        lab.run(lab.calldata(forged(lab), function="submitIfNewer"))


def forged(lab: Lab) -> list[SignedReport]:
    first, *rest = lab.reports(ROWS)
    other = lab.reports([(1_001, 500, 10)] * 3)[0]
    return [
        SignedReport(**{**{f: getattr(first, f) for f in first.__struct_fields__}, "signature": other.signature}),
        *rest,
    ]


# ------------------------------------------------------------------------------------------------ rotation


def newcomers(lab: Lab) -> list[Any]:
    return ascending([*lab.reporters[1:], signer(50)])


def by_set(lab: Lab, place: int, signers: list[Any], group_hash: bytes, rows: Any = ROWS) -> bytes:
    signed = {
        by.address: lab.report(by, row, group_hash="0x" + group_hash.hex())
        for by, row in zip(signers, rows, strict=False)
    }
    reports = in_signer_order(signed)
    info = lab.info
    info.signers, info.place = [one.address for one in signers], place
    return ORACLE.call(
        "submit", pack_round(lab.known(info), reports, [r.reporter for r in reports], lab.hints(reports))
    )


def send(lab: Lab, data: bytes) -> None:
    lab.run(data)
    assert lab.transact(bytes.fromhex(lab.address[2:]), data, STRANGER).ok


def test_a_rotation_overlaps_and_ends_with_the_new_sets_first_late_round(lab: Lab):
    lab.submit(lab.reports(ROWS))
    old, new = lab.reporters[:3], newcomers(lab)
    standing = lab.info.hash
    with refused("BadGroup"):
        lab.configure(signers=[one.address for one in new])  # only by rotation, once rounds are made
    lab.do("rotate", MAJORS, [one.address for one in new], 1, 3)
    coming, _, _, begin, until = lab.read("rotationInfo", MAJORS)
    lab.clock.advance(10)
    send(lab, by_set(lab, 0, lab.reporters, standing))
    lab.clock.advance(10)
    with refused("BadPayload", 2):
        lab.run(by_set(lab, 1, new, coming))
    lab.clock.advance(begin * 1000 - lab.clock.now_ms())
    assert (lab.info.hash, lab.info.place) == (coming, 1)
    send(lab, by_set(lab, 1, new, coming))
    lab.clock.advance(10)
    send(lab, by_set(lab, 0, lab.reporters, standing))  # both count, each in rounds of its own
    lab.clock.advance(until * 1000 - lab.clock.now_ms() + 60_000)
    send(lab, by_set(lab, 0, lab.reporters, standing))  # the new one is silent: the old one goes on
    lab.clock.advance(10)
    send(lab, by_set(lab, 1, new, coming))
    lab.clock.advance(10)
    assert (lab.info.hash, lab.info.place) == (coming, 0)
    with refused("UnknownSigner"):
        lab.run(by_set(lab, 0, old, standing))
    send(lab, by_set(lab, 0, new, coming))


def test_a_rotation_can_be_cancelled_and_is_nobody_elses(lab: Lab):
    who = [one.address for one in newcomers(lab)]
    with refused("NotAllowed"):
        lab.do("rotate", MAJORS, who, 1, 3, by=GUARDIAN)
    lab.do("setManagers", ZERO, STRANGER.address)
    lab.do("rotate", MAJORS, who, 1, 3, by=STRANGER)
    with refused("RotationUnderWay"):
        lab.do("rotate", MAJORS, who, 1, 3)
    with refused("NoRotationDue"):
        lab.do("concludeRotation", MAJORS)
    lab.do("cancelRotation", MAJORS, by=STRANGER)
    assert lab.read("rotationInfo", MAJORS)[3] == 0
    lab.submit(lab.reports(ROWS))


def test_revoking_is_immediate_and_too_few_halt_the_group():
    lab = Lab(n=5)
    lab.submit(lab.reports(ROWS))
    gone = lab.reporters[0]
    lab.do("revoke", MAJORS, gone.address)
    lab.clock.advance(10)
    assert gone.address.lower() not in lab.info.signers
    kept = lab.reporters[1:]
    send(lab, by_set(lab, 0, kept, lab.info.hash))
    lab.do("revoke", MAJORS, kept[0].address)
    assert lab.info.paused
    with refused("FeedHalted"):
        lab.read("getPrice", BTC)
    lab.clock.advance(10)
    with refused("OraclePaused"):
        lab.run(by_set(lab, 0, kept[1:], lab.info.hash))
    with refused("BadGroup"):
        lab.do("setFeeds", MAJORS, [feed_config(pair) for pair in FEEDS])  # that would end the halt
    lab.reporters = ascending([*kept[1:], signer(60)])
    lab.configure(signers=[one.address for one in lab.reporters])
    lab.submit(lab.reports(ROWS))
    assert lab.read("getPrice", BTC)[0] == 1_000


def test_roles_are_split(lab: Lab):
    feeds = [feed_config(pair, heartbeat_s=90) for pair in FEEDS]
    with refused("NotAllowed"):
        lab.do("setFeeds", MAJORS, feeds, by=STRANGER)
    lab.do("setManagers", STRANGER.address, ZERO)
    lab.do("setFeeds", MAJORS, feeds, by=STRANGER)
    lab.do("describeFeed", BTC, "Bitcoin", by=STRANGER)
    assert lab.read("feedDescription", BTC) == ("Bitcoin",)
    with refused("NotAllowed"):
        lab.do("revoke", MAJORS, lab.reporters[0].address, by=STRANGER)
    lab.submit(lab.reports(ROWS))
    lab.do("haltFeed", BTC, True, by=GUARDIAN)
    with refused("FeedHalted"):
        lab.read("getPrice", BTC)
    assert lab.read("getPrice", ETH)[0] == 500
    with refused("NotGuardian"):
        lab.do("haltFeed", BTC, False, by=GUARDIAN)
    lab.clock.advance(10)
    lab.submit(lab.reports([(1_001, 500, 10)] * 3))
    lab.do("haltFeed", BTC, False)
    assert lab.read("getPrice", BTC)[0] == 1_001


# ------------------------------------------------------------------------------------------------ around it


def test_the_interface_is_all_there():
    own = {ORACLE.call(name)[:4] for name in ("paused", "guardian", "owner")}
    assert len(own) == 3
    entries = {entry["name"] for entry in load("FairmarkOracle").entries if entry["type"] == "function"}
    asked_for = {entry["name"] for entry in load("IFairmarkOracle").entries if entry["type"] == "function"}
    assert asked_for <= entries


def test_the_governing_half_owns_nothing_by_itself(lab: Lab):
    (half,) = lab.read("governance")
    with pytest.raises(CallRevertedError, match="OwnableUnauthorizedAccount"):
        lab.run(ORACLE.call("setGuardian", STRANGER.address), by=OWNER, to=half)


def test_quotes_by_erc_7726(lab: Lab):
    lab.submit(lab.reports([(7_250_000_000_000, 500, 10)] * 3))
    wbtc, usd = "0x" + "11" * 20, "0x" + "00" * 18 + "0348"
    adapter = lab.create("FairmarkQuoteAdapter", lab.address, BTC, wbtc, 8, usd, 6, 60)
    quote = lambda *a: asked(lab, "FairmarkQuoteAdapter", adapter, "getQuote", *a)  # noqa: E731
    assert quote(2 * 10**8, wbtc, usd) == (145_000 * 10**6,)
    assert quote(145_000 * 10**6, usd, wbtc) == (2 * 10**8,)
    with pytest.raises(CallRevertedError, match="OracleUnsupportedPair"):
        quote(1, wbtc, wbtc)


def test_the_directory_announces_a_move(lab: Lab):
    directory = lab.create("FairmarkDirectory", OWNER.address)
    abi = load("FairmarkDirectory").abi

    def move(to: str) -> None:
        assert lab.transact(bytes.fromhex(directory[2:]), abi.call("move", BTC, to), OWNER).ok

    first, second = "0x" + "11" * 20, "0x" + "22" * 20
    move(first)
    move(second)
    assert asked(lab, "FairmarkDirectory", directory, "oracleOf", BTC) == (first,)
    assert asked(lab, "FairmarkDirectory", directory, "moveOf", BTC)[0] == second
    lab.clock.advance(2 * 86_400_000)
    assert asked(lab, "FairmarkDirectory", directory, "oracleOf", BTC) == (second,)


def test_the_gate_gives_no_answer_until_the_sequencer_has_been_up_for_a_while(lab: Lab):
    """An adapter of the oracle's stands in for the uptime feed: any answer but zero means "down"."""
    lab.submit(lab.reports(ROWS))
    uptime = lab.create("FairmarkFeedAdapter", lab.address, ETH)
    gated = lab.create("FairmarkGatedFeedAdapter", lab.address, BTC, uptime, 3_600)
    with pytest.raises(CallRevertedError, match="SequencerDown"):
        asked(lab, "FairmarkGatedFeedAdapter", gated, "latestRoundData")


def test_the_examples_of_the_page_for_consumers_work(lab: Lab):
    lab.submit(lab.reports(ROWS))
    adapter = lab.create("FairmarkFeedAdapter", lab.address, BTC)
    consumer = lab.create("ExampleConsumers", lab.address, adapter)
    example = lambda name, *a: asked(lab, "ExampleConsumers", consumer, name, *a)  # noqa: E731
    assert example("checked") == (1_000,)
    assert example("chainlink") == (1_000,)
    lab.clock.advance(1_000)
    assert example("pulled", lab.payload(lab.reports([(1_001, 500, 10)] * 3))) == (1_001,)
    abi = load("ExampleConsumers").abi
    leaves = [leaf_of(bytes32(f"quote {number}")) for number in range(2)]
    root = keccak(b"".join(sorted(leaves)))
    lab.submit(lab.reports(ROWS, evidence_root="0x" + root.hex()))
    roots = [(by.address, root) for by in lab.reporters[:3]]
    assert example("seen", 2, roots[0][0], roots, leaves[0], [leaves[1]]) == ()
    with pytest.raises(CallRevertedError, match="NotSeen"):
        lab.run(abi.call("seen", 2, roots[0][0], roots, bytes(32), [leaves[1]]), to=consumer, abi=abi)
    lab.clock.advance(121_000)
    for name, error in (("checked", "TooOld"), ("pulled", "TooOld")):
        arguments = () if name == "checked" else (lab.payload(lab.reports(ROWS, previous_moment=0, moment=1)),)
        with pytest.raises(CallRevertedError, match=error):
            lab.run(abi.call(name, *arguments), to=consumer, abi=ORACLE)
    lab.clock.advance(3_600_000)
    with refused("Old"):
        lab.run(abi.call("chainlink"), to=consumer, abi=abi)
