"""Whatever a round's reports say and call unchanged: what the aggregator makes of them is what the contract does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from aggregator.edges import Known
from aggregator.validation import Expected, Received, validate
from broker.messages import Report
from contracts.errors import CallRevertedError
from contracts.readings import FeedOnChain
from contracts.report import bytes32, recover_reporter, report_digest
from core.types import Feed, Group, Mode, Pair, SignedReport
from tests.support.oracle_kit import Lab, feed_config

PAIRS = ("BTC/USD", "ETH/USD", "DOGE/USD")
LEAST = (3, 3, 4)
GROUP = Group(
    name="majors",
    feeds=tuple(Feed(pair=Pair(p), min_contributors=least) for p, least in zip(PAIRS, LEAST, strict=True)),
)


@pytest.fixture(scope="module")
def shared() -> Lab:
    lab = Lab(pairs=PAIRS)
    lab.configure(feeds=[feed_config(pair, least=least) for pair, least in zip(PAIRS, LEAST, strict=True)])
    return lab


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    assert shared.chain is not None
    before, now = shared.chain.snapshot(), shared.clock.now_ms()
    yield shared
    shared.chain.revert(before)
    shared.clock.advance(now - shared.clock.now_ms())


def standing(lab: Lab) -> list[tuple[int, int, int]]:
    """(value, updatedAt, round) of each feed."""
    return [(value, updated, round_) for _, value, _, updated, round_ in (
        lab.read("latestAnswer", bytes32(pair)) for pair in PAIRS
    )]  # fmt: skip


def judged(lab: Lab, reports: tuple[SignedReport, ...]) -> tuple[Expected, list[Received]]:
    info = lab.info
    known = Known(
        group_hash="0x" + info.hash.hex(),
        last_moment=info.moment,
        round=info.round,
        paused=False,
        f=1,
        threshold=3,
        signers=frozenset(by.address.lower() for by in lab.reporters),
        feeds=tuple(FeedOnChain(Pair(p), 8, least, 50, 60) for p, least in zip(PAIRS, LEAST, strict=True)),
        standing=tuple(value for value, _, _ in standing(lab)),
    )
    found = [
        Received(
            Report(
                id="r", attempt="a", deployment="d", mode=Mode.TEST, fetcher="f", instance="1", signed=one, answers={},
                quotes=(), failures=(), observed={}, elapsed_ms=1,
            ),
            1,
            recover_reporter(lab.domain, one).lower(),
            report_digest(lab.domain, one),
        )
        for one in reports
    ]  # fmt: skip
    return Expected("d", Mode.TEST, GROUP, reports[0].moment, known), found


price = st.one_of(st.none(), st.none(), st.just(0), st.integers(10**8, 10**8 + 3))
rows = st.lists(st.tuples(price, price, price), min_size=3, max_size=4)


@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rounds=st.lists(rows, min_size=1, max_size=4))
def test_off_chain_and_on_chain_agree(lab: Lab, rounds: list[list[tuple[int | None, ...]]]) -> None:
    assert lab.chain is not None
    before, start = lab.chain.snapshot(), lab.clock.now_ms()
    try:
        for matrix in rounds:
            lab.clock.advance(2_000)
            follow(lab, matrix)
    finally:
        lab.chain.revert(before)
        lab.clock.advance(start - lab.clock.now_ms())


def follow(lab: Lab, matrix: list[tuple[int | None, ...]]) -> None:
    reports, stood = lab.mixed(matrix), standing(lab)
    expected, found = judged(lab, reports)
    outcome = validate(found, expected, lab.clock.now_ms())
    assert [one.code for one in outcome.judged] == [None] * len(matrix)
    included = [one.report.signed for one in outcome.included]
    if not outcome.answers:
        whole = any(all(row[index] is None for row in matrix) for index in range(3)) and len(matrix) >= max(LEAST)
        if not whole:  # else it "attests" a feed without an answer, which nobody can tell from nothing
            with pytest.raises(CallRevertedError, match="NothingAccepted"):
                lab.submit(included, outcome.hints)
        return
    lab.submit(included, outcome.hints)
    round_, time = lab.info.round, reports[0].moment // 1000
    for pair, then, now in zip(PAIRS, stood, standing(lab), strict=True):
        answer = outcome.answers.get(Pair(pair))
        if answer is None:
            assert now == then, pair
        elif answer.attested:
            assert now == (then[0], time, then[2]), pair
            assert int(answer.price.scaleb(8)) == then[0]
        else:
            assert now == (int(answer.price.scaleb(8)), time, round_), pair
            _, spread, contributors = lab.read("getRoundData", bytes32(pair), round_)[1:]
            assert (answer.spread_bps, answer.contributors) == (spread, contributors)
