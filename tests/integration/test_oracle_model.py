"""Random sequences of rounds against a model in Python: medians, attestation, the breaker, history, averages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from contracts.errors import CallRevertedError
from contracts.report import NO_MEDIAN, bytes32
from core.median import spread_bps
from tests.support.oracle_kit import Lab, feed_config

FEEDS = ("BTC/USD", "ETH/USD")
LIMIT, SPREAD, HEARTBEAT = 500, 2_000, 60
UNSET, FRESH, STALE, HALTED, UNKNOWN, PENDING = range(6)


@dataclass
class Feed:
    """What the contract should know. answers: (value, moment, time, round, spread, contributors)."""

    answers: list[tuple[int, int, int, int, int, int]] = field(default_factory=list)
    attested: tuple[int, int] | None = None  # moment and time
    candidate: tuple[int, int] | None = None  # value and moment

    @property
    def standing(self) -> int:
        return self.answers[-1][0] if self.answers else 0

    def within(self, value: int, anchor: int, elapsed_ms: int) -> bool:
        factor = min(max(Fraction(1), Fraction(elapsed_ms, HEARTBEAT * 1000)), Fraction(16))
        return Fraction(abs(value - anchor) * 10_000, anchor) ** 2 <= LIMIT**2 * factor

    def take(self, prices: list[int | None], hint: int, moment: int, time: int, round_: int) -> None:
        observed = [(self.standing if price is None else price) for price in prices]
        present = [price for price in observed if price]
        if len(present) < 3:
            return
        value = sorted(present)[(len(present) - 1) // 2]
        assert observed[hint] == value
        spread = min(65_535, spread_bps(present))
        fresh = self.attested[0] if self.attested else (self.answers[-1][1] if self.answers else 0)
        fine = (not self.standing or self.within(value, self.standing, moment - fresh)) and spread <= SPREAD
        if not fine:
            if self.candidate and self.within(value, self.candidate[0], moment - self.candidate[1]):
                if moment - self.candidate[1] < 30_000:
                    return
            else:
                self.candidate = (value, moment)
                return
        self.candidate = None
        if fine and prices[hint] is None:
            self.attested = (moment, time)
            return
        self.attested = None
        self.answers.append((value, moment, time, round_, spread, len(present)))

    def at(self, time: int) -> int:
        return next((answer[0] for answer in reversed(self.answers) if answer[2] <= time), 0)

    def average(self, start: int, end: int) -> int:
        return sum(self.at(second) for second in range(start, end)) // (end - start)


@pytest.fixture(scope="module")
def shared() -> Lab:
    lab = Lab(pairs=FEEDS)
    lab.configure(feeds=[feed_config(p, heartbeat_s=HEARTBEAT, limit_bps=LIMIT, max_spread_bps=SPREAD) for p in FEEDS])
    return lab


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    assert shared.chain is not None
    before, now = shared.chain.snapshot(), shared.clock.now_ms()
    yield shared
    shared.chain.revert(before)
    shared.clock.advance(now - shared.clock.now_ms())


price = st.one_of(st.just(0), st.none(), st.integers(1_000, 1_060), st.sampled_from([1_000, 1_030, 1_200, 2_000]))
step = st.tuples(
    st.integers(10, 90_000),  # ms since the last
    st.integers(-5_000, 25_000),  # how far the moment lies ahead
    st.lists(st.tuples(price, price), min_size=3, max_size=4),
)


@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(step, min_size=1, max_size=9))
def test_the_contract_is_the_model(lab: Lab, steps: list[tuple[int, int, list[tuple[int | None, int | None]]]]):
    assert lab.chain is not None
    before, start = lab.chain.snapshot(), lab.clock.now_ms()
    try:
        follow(lab, steps)
    finally:
        lab.chain.revert(before)
        lab.clock.advance(start - lab.clock.now_ms())


def follow(lab: Lab, steps: list[tuple[int, int, list[tuple[int | None, int | None]]]]) -> None:
    assert lab.chain is not None
    model = [Feed(), Feed()]
    last_times = [0, 0]
    for pause_ms, ahead, rows in steps:
        lab.clock.advance(pause_ms)
        info = lab.info
        moment = max(lab.clock.now_ms() + ahead, info.moment + 1)
        if moment > lab.clock.now_ms() + 28_000:
            continue
        reports = [
            lab.report(
                by,
                [one or 0 for one in row],
                unchanged=sum(1 << i for i, one in enumerate(row) if one is None),
                moment=moment,
            )
            for by, row in zip(lab.reporters, rows, strict=False)
        ]
        hints = lab.hints(reports)
        everyone = [all(row[index] is None for row in rows) for index in range(2)]
        idle = all(hint == NO_MEDIAN and not whole for hint, whole in zip(hints, everyone, strict=True))
        if idle and not any(lab.read("candidate", bytes32(pair))[0] for pair in FEEDS):
            with pytest.raises(CallRevertedError, match="NothingAccepted"):
                lab.submit(reports, hints)
            continue
        mined = lab.submit(reports, hints)
        time = min(moment // 1000, mined.header.timestamp)
        for index, feed in enumerate(model):
            feed.take([row[index] for row in rows], hints[index], moment, time, info.round + 1)
        for index, (pair, feed) in enumerate(zip(FEEDS, model, strict=True)):
            id_ = bytes32(pair)
            status, value, started, updated, round_ = lab.read("latestAnswer", id_)
            assert value == feed.standing
            assert lab.read("candidate", id_)[:2] == (feed.candidate or (0, 0))
            if not feed.answers:
                assert status == UNSET
                continue
            now = lab.clock.now_ms() // 1000
            assert (started, round_) == feed.answers[-1][2:4]
            assert updated == (feed.attested[1] if feed.attested else started)
            assert last_times[index] <= updated <= now
            last_times[index] = updated
            stale = now - updated > HEARTBEAT + 60
            assert status == (STALE if stale else PENDING if feed.candidate else FRESH)
    now = lab.clock.now_ms() // 1000
    for pair, feed in zip(FEEDS, model, strict=True):
        id_ = bytes32(pair)
        for value, _, time, round_, spread, contributors in feed.answers:
            assert lab.read("getRoundData", id_, round_) == (value, time, spread, contributors)
            assert lab.read("priceAt", id_, time)[0] == feed.at(time)
            if now > time:
                assert lab.read("twap", id_, now - time) == (feed.average(time, now),)
        if feed.answers:
            first = feed.answers[0][2]
            with pytest.raises(CallRevertedError, match="HistoryTooShort"):
                lab.read("priceAt", id_, first - 1)
            with pytest.raises(CallRevertedError, match="HistoryTooShort"):
                lab.read("twap", id_, now - first + 1)
