"""Which failures speak of a market only, and which market is probed."""

from __future__ import annotations

import pytest

from core.types import FailureCode, Pair
from sources.markets import NO_TICKER, Markets
from sources.quarantine import QuarantinePolicy, State
from sources.vitals import Vitals

BTC, ETH, DOGE = (Pair(f"{base}/USD") for base in ("BTC", "ETH", "DOGE"))
POLICY = QuarantinePolicy()


def rounds(vitals: Vitals, code: FailureCode, count: int = 20) -> int:
    """How often, BTC being well in every round, DOGE's failure with `code` quarantined the source."""
    began = 0
    for second in range(count):
        vitals.well(float(second), [BTC])
        began += vitals.ill(code, "", second + 0.5, [DOGE])
    return began


@pytest.mark.parametrize("code", sorted(NO_TICKER))
def test_a_dead_market_beside_a_sound_one_never_counts(code: FailureCode) -> None:
    vitals = Vitals(POLICY)
    assert rounds(vitals, code) == 0
    assert vitals.health == 1.0


@pytest.mark.parametrize("code", [FailureCode.SERVER_ERROR, FailureCode.TIMEOUT, FailureCode.CONNECTION])
def test_a_fault_of_the_source_counts_whichever_market_met_it(code: FailureCode) -> None:
    assert rounds(Vitals(POLICY), code) > 0


def test_markets_that_all_fail_at_once_vouch_for_none() -> None:
    vitals = Vitals(POLICY)
    for pair in (BTC, ETH, DOGE):
        vitals.well(0.0, [pair])
    asked = 0
    while vitals.quarantine.state is State.OK and asked < 50:
        vitals.ill(FailureCode.HTTP_STATUS, "HTTP 404", 1.0 + asked, [(BTC, ETH, DOGE)[asked % 3]])
        asked += 1
    assert asked <= POLICY.failures + 2, "each but the last may have been vouched for once"


def test_a_market_vouches_with_its_last_answer_since_the_other_was_well_and_not_for_long() -> None:
    markets = Markets((), recent_s=300.0)
    markets.well(BTC, 10.0)
    assert markets.vouched([DOGE], 310.0)
    assert not markets.vouched([DOGE], 310.1)
    assert not markets.vouched([BTC], 11.0), "not for itself"
    markets.well(DOGE, 20.0)
    assert not markets.vouched([DOGE], 21.0), "BTC was well only before"
    assert markets.vouched([BTC], 21.0)
    markets.failed([DOGE])
    assert not markets.vouched([BTC], 21.0)


def test_the_market_that_went_well_last_is_probed_and_else_the_one_that_failed() -> None:
    markets = Markets((BTC, ETH, DOGE), recent_s=300.0)
    assert markets.best == BTC
    markets.failed([DOGE])
    assert markets.best == DOGE
    markets.well(ETH, 1.0)
    markets.failed([DOGE])
    assert markets.best == ETH


def test_probes_that_find_a_market_at_fault_go_on_to_the_next_and_others_stay() -> None:
    vitals = Vitals(POLICY, (BTC, ETH, DOGE))
    vitals.well(0.0, [ETH])
    vitals.well(0.0, [BTC])
    for _ in range(POLICY.failures):
        vitals.ill(FailureCode.CONNECTION, "", 1.0, [BTC])
    assert vitals.quarantine.state is State.QUARANTINED
    found = []
    for code in (FailureCode.SERVER_ERROR, FailureCode.HTTP_STATUS, FailureCode.EMPTY, FailureCode.HTTP_STATUS):
        assert vitals.markets.best is not None
        found.append(vitals.markets.best)
        vitals.ill(code, "", 2.0, [found[-1]])
    assert found == [BTC, BTC, ETH, DOGE]
    assert vitals.markets.best == BTC
