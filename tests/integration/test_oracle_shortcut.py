"""Most medians take a shortcut in the contract, the others the long way: both give what Python does, and refuse alike.

The same reports go to two feeds: one whose limits let nearly everything pass at once, and one without limits, which the
shortcut leaves to the whole rule.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.errors import CallRevertedError
from contracts.report import NO_MEDIAN, bytes32
from core.median import lower_median, spread_bps
from tests.support.oracle_kit import Lab, feed_config

PAIRS = ("BTC/USD", "ETH/USD")
SHORT, LONG = (bytes32(pair) for pair in PAIRS)
STARTED = 1_000_000
ONE = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    lab = Lab(n=7, f=1, threshold=3, pairs=PAIRS)
    lab.configure(feeds=[feed_config(PAIRS[0], limit_bps=65_535, max_spread_bps=65_535), feed_config(PAIRS[1])])
    lab.submit(lab.reports([(STARTED, STARTED)] * 3))
    lab.clock.advance(10_000)
    yield lab


prices = st.one_of(st.integers(999_990, 1_000_010), st.integers(700_000, 1_500_000), st.just(0), st.just(2**64 - 1))


@ONE
@given(column=st.lists(prices, min_size=3, max_size=7))
def test_both_ways_give_the_median_the_spread_and_the_contributors(lab: Lab, column: list[int]):
    present = [price for price in column if price]
    reports = lab.reports([(price, price) for price in column])
    assert lab.chain is not None
    before = lab.chain.snapshot()
    if len(present) < 3:
        with pytest.raises(CallRevertedError, match="NothingAccepted"):
            lab.submit(reports)
        return
    lab.submit(reports)
    now = lab.clock.now_ms() // 1000
    expected = (1, lower_median(present), now, min(65_535, spread_bps(present)), len(present))
    assert lab.read("tryGetPrice", LONG) == expected
    away = abs(expected[1] - STARTED) * 10_000
    if away <= 65_535 * STARTED:
        assert lab.read("tryGetPrice", SHORT) == expected
        assert lab.read("getRoundData", SHORT, 2) == lab.read("getRoundData", LONG, 2)
        assert lab.read("twap", SHORT, 10) == lab.read("twap", LONG, 10) == (STARTED,)
    else:
        assert lab.read("tryGetPrice", SHORT)[:2] == (5, STARTED)
    lab.chain.revert(before)


@ONE
@given(column=st.lists(prices, min_size=3, max_size=7), hint=st.integers(0, 8))
def test_both_ways_refuse_what_is_not_the_median_by_the_same_name(lab: Lab, column: list[int], hint: int):
    reports = lab.reports([(price, price) for price in column])
    right = lab.hints(reports)
    outcomes = []
    for at in range(2):
        named = bytes(hint if index == at else right[index] for index in range(2))
        try:
            lab.run(lab.calldata(reports, named))
            outcomes.append("accepted")
        except CallRevertedError as error:
            assert error.name == "NothingAccepted" or error.arguments[0] == at
            outcomes.append(error.name)
    assert outcomes[0] == outcomes[1]
    present = [price for price in column if price]
    if hint < len(column) and len(present) >= 3:
        named_price = reports[hint].prices[0]
        fine = named_price == lower_median(present)
        assert outcomes[0] == ("accepted" if fine else "MedianMissing" if not named_price else "NotTheMedian")


@pytest.mark.parametrize("count", [1, 32, 33, 70])
def test_every_feed_of_a_group_gets_its_own(count: int):
    """Positions are packed by 32: each feed's advances alone, and halts stay where they were."""
    pairs = tuple(f"F{number}/USD" for number in range(count))
    lab = Lab(pairs=pairs)
    lab.configure(feeds=[feed_config(pair, limit_bps=2_000, max_spread_bps=2_000) for pair in pairs])
    first = [1_000 + 7 * index for index in range(count)]
    lab.submit(lab.reports([first] * 3), bytes(count))
    halted = bytes32(pairs[count // 2])
    lab.do("haltFeed", halted, True)
    for turn in range(1, 4):  # feeds take turns to be missed
        lab.clock.advance(1_000)
        row = [0 if index % 3 == turn % 3 and count > 1 else price + turn for index, price in enumerate(first)]
        lab.submit(lab.reports([row] * 3), bytes(0 if price else NO_MEDIAN for price in row))
    statuses, found, _ = lab.read("tryGetPrices", [bytes32(pair) for pair in pairs])
    last = [next(turn for turn in (3, 2, 1, 0) if turn == 0 or index % 3 != turn % 3 or count == 1)
            for index in range(count)]  # fmt: skip
    assert list(found) == [price + turn for price, turn in zip(first, last, strict=True)]
    assert [status == 3 for status in statuses] == [bytes32(pair) == halted for pair in pairs]
    lab.do("haltFeed", halted, False)
    assert lab.read("tryGetPrice", halted)[0] == 1
