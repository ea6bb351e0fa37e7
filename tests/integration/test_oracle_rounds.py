"""Rounds, on the compiled contract: what is accepted, and the name of every refusal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.errors import CallRevertedError
from contracts.report import NO_MEDIAN, Domain, bytes32, in_signer_order
from contracts.secp256k1 import HALF_ORDER
from core.median import lower_median, spread_bps
from core.types import Mode
from tests.support.oracle_kit import FEEDS, GUARDIAN, ORACLE, OWNER, Lab, feed_config, signer

ROW = (7_250_000_000_000, 398_512_000_000, 16_400_000)
ROWS = [ROW] * 3


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


def refused(name: str, *arguments: object):
    """The contract refuses with exactly this error."""
    return pytest.raises(CallRevertedError, match=rf"^{name}\(" + ", ".join(map(str, arguments)))


# ------------------------------------------------------------------------------------------------ accepted


def test_a_round_sets_every_feed_to_the_median_and_says_so_once(lab: Lab):
    rows = [(100, 7, 50), (300, 9, 50), (200, 8, 50)]
    mined = lab.submit(lab.reports(rows))
    assert [lab.read("tryGetPrice", bytes32(pair)) for pair in FEEDS] == [
        (1, 200, lab.clock.now_ms() // 1000, 10_000, 3),
        (1, 8, lab.clock.now_ms() // 1000, 2_500, 3),
        (1, 50, lab.clock.now_ms() // 1000, 0, 3),
    ]
    (log,) = mined.logs
    assert log.topics == (bytes.fromhex(ORACLE.topic("RoundAccepted")[2:]), bytes32("majors"), (1).to_bytes(32, "big"))
    moment, written, attested = (int.from_bytes(log.data[at : at + 32], "big") for at in (0, 32, 64))
    assert (moment, written, attested) == (lab.moment(), 0b111, 0)
    info = lab.info
    assert (info.round, info.moment, info.block) == (1, lab.moment(), mined.number)
    assert lab.read("roundInfo", bytes32("majors"), 1)[:2] == (lab.moment(), mined.number)


def test_with_an_even_number_the_lower_middle_is_the_median(lab: Lab):
    lab.submit(lab.reports([(40, 1, 1), (10, 1, 1), (30, 1, 1), (20, 1, 1)]))
    assert lab.read("getPrice", bytes32("BTC/USD"))[0] == 20


def test_a_feed_below_its_minimum_is_left_alone_and_the_others_go_on(lab: Lab):
    lab.round(ROWS)
    lab.round([(2, 0, 0), (2, 5, 0), (2, 5, 0)])
    assert lab.read("latestAnswer", bytes32("BTC/USD"))[1::3] == (2, 2)
    assert lab.read("latestAnswer", bytes32("ETH/USD"))[1::3] == (ROW[1], 1)
    assert lab.read("latestAnswer", bytes32("DOGE/USD"))[1::3] == (ROW[2], 1)


def test_a_feed_below_its_minimum_ignores_its_hint(lab: Lab):
    reports = lab.reports([(2, 0, 0), (2, 5, 0), (2, 5, 0)])
    lab.submit(reports, hints=bytes([0, 1, NO_MEDIAN]))
    assert lab.read("tryGetPrice", bytes32("ETH/USD"))[0] == 0


def test_prices_up_to_64_bits_are_taken_whole(lab: Lab):
    lab.submit(lab.reports([(2**64 - 1, 1, 1), (2**64 - 1, 1, 1), (1, 1, 2**64 - 1)]))
    assert lab.read("getPrice", bytes32("BTC/USD"))[0] == 2**64 - 1
    assert lab.read("tryGetPrice", bytes32("DOGE/USD"))[3] == 65_535  # the spread is capped, not wrapped


def test_anyone_may_relay_and_history_stays(lab: Lab):
    for price in (10, 20, 30):
        lab.round([(price, 1, 1)] * 3)
    answers = [lab.read("getRoundData", bytes32("BTC/USD"), number)[0] for number in (1, 2, 3)]
    assert answers == [10, 20, 30]


def test_rounds_go_on_when_a_reporter_is_silent(lab: Lab):
    lab.submit(in_signer_order({by.address: lab.report(by, ROW) for by in lab.reporters[1:]}))
    assert lab.read("tryGetPrice", bytes32("BTC/USD"))[4] == 3


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(*[st.one_of(st.just(0), st.integers(1, 9), st.integers(1, 2**64 - 1))] * 3), min_size=3, max_size=4
    )
)
def test_the_contracts_median_is_pythons(lab: Lab, rows: list[tuple[int, ...]]):
    """Even and odd numbers of reports, equal prices, missing prices: the same value, spread and contributors."""
    assert lab.chain is not None
    before = lab.chain.snapshot()
    columns = [[row[index] for row in rows if row[index]] for index in range(3)]
    reports = lab.reports(rows)
    if not any(len(column) >= lab.least for column in columns):
        with refused("NothingAccepted"):
            lab.submit(reports)
        return
    lab.submit(reports)
    for pair, column in zip(FEEDS, columns, strict=True):
        status, price, _, spread, contributors = lab.read("tryGetPrice", bytes32(pair))
        if len(column) < lab.least:
            assert (status, price, contributors) == (0, 0, 0)
        else:
            assert (price, contributors) == (lower_median(column), len(column))
            assert spread == min(65_535, spread_bps(column))
    lab.chain.revert(before)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(column=st.lists(st.one_of(st.just(0), st.integers(1, 5)), min_size=4, max_size=4), hint=st.integers(0, 5))
def test_only_a_report_with_the_median_may_be_named(lab: Lab, column: list[int], hint: int):
    """Whatever the relayer claims: the median passes, anything else reverts by name."""
    rows = [(price, 1, 1) for price in column]
    reports = lab.reports(rows)
    present = [price for price in column if price]
    named = reports[hint].prices[0] if hint < len(reports) else None
    data = lab.calldata(reports, hints=bytes([hint, 0, 0]))
    if named is None:
        expected = refused("NoSuchReport", 0, hint)
    elif named == 0:
        expected = refused("MedianMissing", 0, hint)
    elif len(present) < lab.least or named == lower_median(present):
        lab.run(data)
        return
    else:
        expected = refused("NotTheMedian", 0, hint)
    with expected:
        lab.run(data)


# ------------------------------------------------------------------------------------------------ moments


def test_a_round_must_follow_the_last_one(lab: Lab):
    lab.round(ROWS)
    last = lab.info.moment
    lab.clock.advance(1_000)
    with refused("UnexpectedPreviousMoment", last, 0):
        lab.submit(lab.reports(ROWS, previous_moment=0))
    with refused("MomentNotLater", last, last):
        lab.submit(lab.reports(ROWS, moment=last))
    with refused("MomentNotLater", last, last - 10):
        lab.submit(lab.reports(ROWS, moment=last - 10))


def test_a_round_cannot_be_submitted_twice(lab: Lab):
    reports = lab.reports(ROWS)
    lab.submit(reports)
    with refused("UnexpectedPreviousMoment"):
        lab.submit(reports)


def test_a_moment_may_lie_30_seconds_ahead_and_no_more(lab: Lab):
    block_ms = lab.clock.now_ms() // 1000 * 1000
    with refused("MomentInFuture", block_ms + 30_001, block_ms):
        lab.submit(lab.reports(ROWS, moment=block_ms + 30_001))
    lab.submit(lab.reports(ROWS, moment=block_ms + 30_000))


def test_a_moment_may_be_as_old_as_the_group_allows_and_no_older(lab: Lab):
    block_ms = lab.clock.now_ms() // 1000 * 1000
    with refused("StaleMoment", block_ms - 60_001, block_ms):
        lab.submit(lab.reports(ROWS, moment=block_ms - 60_001))
    lab.submit(lab.reports(ROWS, moment=block_ms - 60_000))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ahead=st.integers(-60_000, 29_000))
def test_no_time_returned_is_later_than_the_block(lab: Lab, ahead: int):
    assert lab.chain is not None
    before = lab.chain.snapshot()
    mined = lab.submit(lab.reports(ROWS, moment=lab.clock.now_ms() + ahead))
    updated_at = lab.read("getRoundData", bytes32("BTC/USD"), 1)[1]
    assert updated_at == min(mined.header.timestamp, (lab.clock.now_ms() + ahead) // 1000)
    assert lab.read("roundInfo", bytes32("majors"), 1)[0] == lab.clock.now_ms() + ahead
    lab.chain.revert(before)


# ------------------------------------------------------------------------------------------------ signatures


def test_fewer_reports_than_the_threshold_are_refused(lab: Lab):
    with refused("TooFewReports", 2, 3):
        lab.submit(lab.reports(ROWS[:2]))
    payload = lab.payload(lab.reports(ROWS))
    with refused("TooFewReports", 0, 3):
        lab.run(ORACLE.call("submit", payload[:15] + b"\0"))


def test_a_reporter_counts_once(lab: Lab):
    first, second, third = lab.reports(ROWS)
    with refused("SignersNotAscending", 1, 0, 0):
        lab.submit([first, first, second, third])
    with refused("SignersNotAscending", 1, 1, 0):
        lab.submit([second, first, third])


def test_a_stranger_does_not_count(lab: Lab):
    """Whoever's place a stranger's report is given, and in whatever place that there is none of."""
    signed = [lab.report(by, ROW) for by in [*lab.reporters[:2], signer(77)]]
    who = [one.address for one in lab.reporters[:3]]
    with refused("UnknownSigner", 2, signer(77).address.lower()):
        lab.run(lab.calldata(signed, signers=who))
    payload = bytearray(lab.payload(signed, signers=who))
    payload[16 + 2 * (98 + 24)] = 4
    with refused("NoSuchSigner", 2, 4):
        lab.run(ORACLE.call("submit", bytes(payload)))


def test_a_changed_report_is_nobodys(lab: Lab):
    reports = lab.reports(ROWS)
    data = lab.calldata(reports)
    changed = data.replace(ROW[0].to_bytes(8, "big"), (ROW[0] + 1).to_bytes(8, "big"), 1)
    assert changed != data
    with refused("UnknownSigner", 0):
        lab.run(changed)


def test_a_malleable_signature_is_refused(lab: Lab):
    reports = list(lab.reports(ROWS))
    data = lab.calldata(reports)
    vs = bytes.fromhex(reports[0].signature[66:])
    assert data.count(vs) == 1
    with refused("MalleableSignature", 0):
        lab.run(data.replace(vs, (HALF_ORDER + 1).to_bytes(32, "big")))
    r = bytes.fromhex(reports[0].signature[2:66])
    with refused("UnknownSigner", 0, "0x" + "00" * 20):
        lab.run(data.replace(r + vs, bytes(64)))


@pytest.mark.parametrize("what", ["chain", "contract", "mode"])
def test_a_report_for_another_deployment_is_refused(lab: Lab, what: str):
    other = {
        "chain": Domain(lab.mode, lab.chain_id + 1, lab.address),
        "contract": Domain(lab.mode, lab.chain_id, "0x" + "22" * 20),
        "mode": Domain(Mode.LIVE, lab.chain_id, lab.address),
    }[what]
    with refused("UnknownSigner", 0):
        lab.submit(lab.reports(ROWS, domain=other))


def test_a_test_modes_report_never_enters_a_live_oracle():
    live = Lab(mode=Mode.LIVE)
    simulated = Domain(Mode.TEST, live.chain_id, live.address)
    with refused("UnknownSigner", 0):
        live.submit(live.reports(ROWS, domain=simulated))
    live.submit(live.reports(ROWS))
    assert live.read("testMode") == (False,)
    assert live.read("eip712Domain")[1:3] == ("Fairmark", "1")


def test_a_report_for_an_earlier_version_of_the_group_is_refused(lab: Lab):
    before = lab.reports(ROWS)
    lab.configure()  # nothing but the version changes
    with refused("UnknownSigner", 0):
        lab.submit(before)
    lab.submit(lab.reports(ROWS))


def test_a_report_for_another_group_is_refused(lab: Lab):
    lab.configure(group=bytes32("minors"), feeds=[feed_config(f"{name}/USD") for name in ("A1", "B1", "C1")])
    with refused("UnknownSigner", 0):
        lab.submit(lab.reports(ROWS), number=2)


def test_a_removed_signer_no_longer_counts_nor_does_a_mixed_set(lab: Lab):
    newcomer = signer(5)
    kept = sorted([*lab.reporters[1:], newcomer], key=lambda one: int(one.address, 16))
    lab.configure(signers=[one.address for one in kept])
    old = in_signer_order({by.address: lab.report(by, ROW) for by in lab.reporters[:3]})
    with refused("UnknownSigner"):
        lab.run(lab.calldata(old, signers=[one.address for one in kept[:3]]))
    lab.submit(in_signer_order({by.address: lab.report(by, ROW) for by in kept[:3]}))


# ------------------------------------------------------------------------------------------------ shapes


def test_a_payload_has_no_byte_too_few_or_too_many(lab: Lab):
    payload = lab.payload(lab.reports(ROWS))
    with pytest.raises(CallRevertedError):
        lab.run(ORACLE.call("submit", payload[:-20]))
    for wrong in (payload[:15], payload[:-1], payload + b"\0"):
        with refused("BadPayload"):
            lab.run(ORACLE.call("submit", wrong))
    for place in (1, 2):
        with refused("BadPayload", 2):
            lab.run(ORACLE.call("submit", payload[:2] + bytes([place]) + payload[3:]))
    shape = 16 + 97
    with refused("BadReport", 0):
        lab.run(ORACLE.call("submit", payload[:shape] + b"\3" + payload[shape + 1 :]))


def test_a_feed_with_enough_prices_cannot_be_left_out(lab: Lab):
    with refused("FeedLeftOut", 1, 3):
        lab.submit(lab.reports(ROWS), hints=bytes([0, NO_MEDIAN, 0]))


def test_a_round_that_changes_nothing_is_refused(lab: Lab):
    with refused("NothingAccepted"):
        lab.submit(lab.reports([(0, 0, 0)] * 3))


def test_an_unknown_group_is_refused(lab: Lab):
    with refused("UnknownGroup"):
        lab.submit(lab.reports(ROWS), number=7)


def test_a_paused_oracle_takes_no_rounds(lab: Lab):
    reports = lab.reports(ROWS)
    lab.do("pause", by=GUARDIAN)
    with refused("OraclePaused"):
        lab.submit(reports)
    lab.do("unpause", by=OWNER)
    lab.submit(reports)


# ------------------------------------------------------------------------------------------------ honesty


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    honest=st.lists(st.integers(990, 1010), min_size=3, max_size=3),
    lie=st.one_of(st.just(0), st.integers(1, 2**64 - 1)),
    liar=st.integers(0, 3),
    left_out=st.one_of(st.none(), st.integers(0, 3)),
)
def test_one_liar_of_four_never_moves_the_answer_beyond_the_honest(
    lab: Lab, honest: list[int], lie: int, liar: int, left_out: int | None
):
    """f = 1 of n = 4, whichever reports the relayer leaves out."""
    assert lab.chain is not None
    before = lab.chain.snapshot()
    prices = [*honest[:liar], lie, *honest[liar:]]
    signed = {
        by.address: lab.report(by, (price, 1, 1))
        for number, (by, price) in enumerate(zip(lab.reporters, prices, strict=True))
        if number != left_out
    }
    lab.submit(in_signer_order(signed))
    status, price, *_ = lab.read("tryGetPrice", bytes32("BTC/USD"))
    assert (status, price) == (0, 0) or min(honest) <= price <= max(honest)
    lab.chain.revert(before)
