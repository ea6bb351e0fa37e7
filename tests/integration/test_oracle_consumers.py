"""What well-known consumers of Chainlink check, made of an adapter while its feed is fresh, attested, pending, missed.

The consumers are compiled here (`fixtures/solidity/Consumers.sol`); a rollup's uptime feed stands beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from contracts.abi import Abi
from contracts.artifacts import load
from contracts.errors import CallRevertedError
from contracts.report import bytes32
from tests.support.oracle_kit import FEEDS, GUARDIAN, OWNER, Lab, feed_config
from tests.support.solidity import compile_fixture

pytestmark = pytest.mark.needs_solc

BTC = bytes32(FEEDS[0])
HEARTBEAT = 3_600
ROWS = [(1_000, 500, 10)] * 3
QUIET = [(None, None, None)] * 3
GATED = load("FairmarkGatedFeedAdapter").abi


@pytest.fixture(scope="module")
def shared() -> Lab:
    lab = Lab()
    lab.configure(feeds=[feed_config(pair, heartbeat_s=HEARTBEAT - 60, limit_bps=500) for pair in FEEDS])
    return lab


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    assert shared.chain is not None
    before, now = shared.chain.snapshot(), shared.clock.now_ms()
    yield shared
    shared.chain.revert(before)
    shared.clock.advance(now - shared.clock.now_ms())


def put(lab: Lab, contract: str, *arguments: Any) -> tuple[str, Abi]:
    abi, code = compile_fixture("Consumers")[contract]
    mined = lab.transact(b"", code + abi.construct(*arguments), OWNER)
    assert mined.ok and mined.created
    return "0x" + mined.created.hex(), abi


class Consumer:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.adapter = lab.create("FairmarkFeedAdapter", lab.address, BTC)
        self.address, self.abi = put(lab, "Consumers", self.adapter)

    def __getattr__(self, check: str) -> Any:
        def ask(*arguments: Any) -> Any:
            found = self.abi.result(
                check, self.lab.run(self.abi.call(check, *arguments), to=self.address, abi=self.abi)
            )
            return found[0] if len(found) == 1 else found

        return ask


@pytest.fixture
def consumer(lab: Lab) -> Consumer:
    return Consumer(lab)


def fails(reason: str):
    return pytest.raises(CallRevertedError, match=reason)


def later(lab: Lab, rows: Any, after_ms: int = 10_000) -> None:
    lab.clock.advance(after_ms)
    lab.submit(lab.mixed(rows))


def test_a_fresh_answer_passes_every_check(lab: Lab, consumer: Consumer):
    lab.submit(lab.reports(ROWS))
    later(lab, [(1_010, 500, 10)] * 3)
    assert consumer.byHeartbeat(HEARTBEAT) == 1_010
    assert consumer.byRound() == 1_010
    assert consumer.byTwoRounds(HEARTBEAT, 500) == (False, False, False, 1_010)
    assert consumer.byTwoRounds(HEARTBEAT, 50) == (False, False, True, 1_010)
    assert consumer.inWad() == 1_010 * 10**10


def test_an_unset_feed_fails_every_check(lab: Lab, consumer: Consumer):
    for check in ((consumer.byHeartbeat, HEARTBEAT), (consumer.byRound,), (consumer.inWad,)):
        with pytest.raises(CallRevertedError):
            check[0](*check[1:])
    assert consumer.byTwoRounds(HEARTBEAT, 500) == (True, False, False, 0)


def test_the_age_is_counted_to_the_second_and_attestation_renews_it(lab: Lab, consumer: Consumer):
    lab.submit(lab.reports(ROWS))
    lab.clock.advance(HEARTBEAT * 1000)
    assert consumer.byHeartbeat(HEARTBEAT) == 1_000
    lab.clock.advance(1_000)
    with fails("stale"):
        consumer.byHeartbeat(HEARTBEAT)
    later(lab, QUIET)
    assert consumer.byHeartbeat(HEARTBEAT) == 1_000
    assert consumer.byHeartbeat(0) == 1_000  # attested in this very block
    assert consumer.byRound() == 1_000  # of the round in which it was accepted, and answered in that


def test_a_feed_that_rounds_miss_keeps_its_round_and_grows_old(lab: Lab, consumer: Consumer):
    lab.submit(lab.reports(ROWS))
    later(lab, [(1_010, 500, 10)] * 3)
    for _ in range(3):
        later(lab, [(0, 501, 10)] * 3, after_ms=1_200_000)
    assert consumer.byRound() == 1_010
    assert consumer.byHeartbeat(HEARTBEAT) == 1_010
    assert consumer.byTwoRounds(HEARTBEAT - 1, 500) == (False, True, False, 1_010)
    lab.clock.advance(1_000)
    with fails("stale"):
        consumer.byHeartbeat(HEARTBEAT)
    # Written again, its round follows one in which it was not: who asks for the round before finds none.
    later(lab, [(1_011, 500, 10)] * 3)
    assert consumer.byRound() == 1_011
    assert consumer.byTwoRounds(HEARTBEAT, 500) == (True, False, False, 0)


def test_while_a_candidate_waits_the_old_answer_stands_and_grows_old(lab: Lab, consumer: Consumer):
    lab.submit(lab.reports(ROWS))
    lab.clock.advance((HEARTBEAT - 20) * 1000)
    later(lab, [(1_300, 500, 10)] * 3)
    assert lab.read("tryGetPrice", BTC)[0] == 5
    assert consumer.byHeartbeat(HEARTBEAT) == 1_000
    assert consumer.byRound() == 1_000
    lab.clock.advance(11_000)
    with fails("stale"):
        consumer.byHeartbeat(HEARTBEAT)
    later(lab, [(1_301, 500, 10)] * 3, after_ms=20_000)
    assert consumer.byHeartbeat(HEARTBEAT) == 1_301
    assert consumer.byRound() == 1_301


def test_a_halt_reverts_and_a_fallback_sees_a_broken_feed(lab: Lab, consumer: Consumer):
    lab.submit(lab.reports(ROWS))
    later(lab, [(1_010, 500, 10)] * 3)
    lab.do("haltFeed", BTC, True, by=GUARDIAN)
    with pytest.raises(CallRevertedError):
        consumer.byHeartbeat(HEARTBEAT)
    assert consumer.byTwoRounds(HEARTBEAT, 500) == (True, False, False, 0)
    lab.do("haltFeed", BTC, False)
    assert consumer.byTwoRounds(HEARTBEAT, 500) == (False, False, False, 1_010)


# ------------------------------------------------------------------------------------------------ rollups

GRACE = 3_600


def test_the_sequencers_gate_waits_out_the_grace_period(lab: Lab, consumer: Consumer):
    """The consumer's own check of the uptime feed, and the adapter that makes it: the same at every second."""
    lab.submit(lab.reports(ROWS))
    uptime, abi = put(lab, "Uptime")
    gated = lab.create("FairmarkGatedFeedAdapter", lab.address, BTC, uptime, GRACE)
    now = lab.clock.now_ms() // 1000

    def sequencer(answer: int, since: int) -> None:
        assert lab.transact(bytes.fromhex(uptime[2:]), abi.call("set", answer, since), OWNER).ok

    def gate() -> tuple[Any, ...]:
        return GATED.result("latestRoundData", lab.run(GATED.call("latestRoundData"), to=gated, abi=GATED))

    with pytest.raises(CallRevertedError, match="SequencerDown"):
        gate()  # nobody knows
    sequencer(1, now)
    with pytest.raises(CallRevertedError, match="SequencerDown"):
        gate()
    with fails("down"):
        consumer.bySequencer(uptime, GRACE)
    sequencer(0, now)  # just up
    for wait_s in (0, GRACE - 1, 1):
        lab.clock.advance(wait_s * 1000)
        with pytest.raises(CallRevertedError, match=rf"GracePeriodNotOver\({now}\)"):
            gate()
        with fails("grace"):
            consumer.bySequencer(uptime, GRACE)
    lab.clock.advance(1_000)
    assert gate() == (1, 1_000, now, now, 1)
    assert consumer.bySequencer(uptime, GRACE) == 1_000
    sequencer(0, lab.clock.now_ms() // 1000 + 5)  # an uptime feed whose clock runs ahead
    with pytest.raises(CallRevertedError, match="GracePeriodNotOver"):
        gate()
    sequencer(1, lab.clock.now_ms() // 1000)
    with pytest.raises(CallRevertedError, match="SequencerDown"):
        gate()
