"""With any f of 3f + 1 reporters lying, in whatever way, and a relayer who chooses among their reports as it likes:
what the contract accepts lies within the honest reporters' range, and nothing moves back in time.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from contracts.errors import CallRevertedError
from contracts.report import NO_MEDIAN, bytes32, in_signer_order
from core.types import SignedReport
from tests.support.oracle_kit import ORACLE, Lab, feed_config

PAIRS = ("BTC/USD", "ETH/USD")
IDS = [bytes32(pair) for pair in PAIRS]
UNCHANGED = None
QUICK = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
LABS: dict[int, Lab] = {}


def lab_for(f: int) -> Lab:
    """n = 3f + 1, threshold and minima 2f + 1; one feed with a breaker, one without."""
    if f not in LABS:
        lab = Lab(n=3 * f + 1, f=f, threshold=2 * f + 1, least=2 * f + 1, pairs=PAIRS)
        limited = feed_config(PAIRS[0], least=2 * f + 1, limit_bps=300, max_spread_bps=2_000)
        lab.configure(feeds=[limited, feed_config(PAIRS[1], least=2 * f + 1)])
        LABS[f] = lab
    return LABS[f]


honest = st.one_of(st.integers(990, 1_010), st.integers(990, 1_010), st.just(0), st.just(UNCHANGED))
lie = st.one_of(
    st.just(0), st.just(UNCHANGED), st.just(1), st.just(2**64 - 1), st.integers(1, 2**64 - 1), st.integers(900, 1_100)
)


@dataclass(frozen=True)
class Step:
    """One round: who lies, what each observes for each feed, how the time goes, what the relayer takes and whose lies
    are about the time, too."""

    rows: tuple[tuple[int | None, ...], ...]
    liars: frozenset[int]
    taken: tuple[int, ...]
    pause_ms: int
    ahead_ms: int


@st.composite
def step(draw: st.DrawFn, f: int) -> Step:
    n = 3 * f + 1
    liars = frozenset(draw(st.permutations(range(n)))[:f])
    rows = tuple(tuple(draw(lie if who in liars else honest) for _ in PAIRS) for who in range(n))
    size = draw(st.integers(2 * f + 1, n))
    taken = tuple(sorted(draw(st.permutations(range(n)))[:size]))
    return Step(rows, liars, taken, draw(st.integers(10, 120_000)), draw(st.integers(-30_000, 29_000)))


def signed(lab: Lab, one: Step, moment: int) -> dict[int, SignedReport]:
    return {
        who: lab.report(
            lab.reporters[who],
            [price or 0 for price in row],
            unchanged=sum(1 << index for index, price in enumerate(row) if price is UNCHANGED),
            moment=moment,
        )
        for who, row in enumerate(one.rows)
        if who in one.taken
    }


def fates(lab: Lab, reports: Sequence[SignedReport]) -> tuple[int, int]:
    """Submit; which feeds were written and which attested, as bits."""
    mined = lab.submit(reports)
    accepted = mined.logs[-1]
    return int.from_bytes(accepted.data[32:64], "big"), int.from_bytes(accepted.data[64:96], "big")


def check(lab: Lab, one: Step, standing: list[int], taken: Sequence[int], fate: tuple[int, int]) -> None:
    """What was accepted lies within what honest reporters observed among the reports taken."""
    for index, id_ in enumerate(IDS):
        price = lab.read("latestAnswer", id_)[1]
        if not (fate[0] | fate[1]) >> index & 1:
            assert price == standing[index]
            continue
        observed = [standing[index] if one.rows[who][index] is UNCHANGED else one.rows[who][index]
                    for who in taken if who not in one.liars]  # fmt: skip
        present = [value for value in observed if value]
        if not standing[index] and not present:
            # all of them called a feed unchanged that never had an answer: nothing is attested by that
            assert price == 0
            continue
        assert present and min(present) <= price <= max(present)


def follow(f: int, steps: Sequence[Step]) -> None:
    lab = lab_for(f)
    assert lab.chain is not None
    before, start = lab.chain.snapshot(), lab.clock.now_ms()
    times, round_, last_moment = [0, 0], 0, 0
    try:
        for one in steps:
            lab.clock.advance(one.pause_ms)
            moment = max(lab.clock.now_ms() + one.ahead_ms, lab.info.moment + 1)
            if moment > lab.clock.now_ms() + 29_000:
                continue
            standing = [lab.read("latestAnswer", id_)[1] for id_ in IDS]
            reports = in_signer_order({report.reporter: report for report in signed(lab, one, moment).values()})
            try:
                fate = fates(lab, reports)
            except CallRevertedError as error:
                assert error.name == "NothingAccepted"
                continue
            check(lab, one, standing, one.taken, fate)
            info = lab.info
            assert (info.round, info.moment) == (round_ + 1, moment)
            assert moment > last_moment
            round_, last_moment = info.round, moment
            for index, id_ in enumerate(IDS):
                _, price, started, updated, of_round = lab.read("latestAnswer", id_)
                if price:
                    assert times[index] <= updated <= lab.chain.head.timestamp
                    assert started <= updated
                    assert of_round <= round_
                    times[index] = updated
    finally:
        lab.chain.revert(before)
        lab.clock.advance(start - lab.clock.now_ms())


@settings(QUICK, max_examples=15)
@given(steps=st.lists(step(1), min_size=2, max_size=6))
def test_one_liar_of_four(steps: list[Step]):
    follow(1, steps)


@settings(QUICK, max_examples=10)
@given(steps=st.lists(step(2), min_size=2, max_size=5))
def test_two_liars_of_seven(steps: list[Step]):
    follow(2, steps)


@settings(QUICK, max_examples=6)
@given(steps=st.lists(step(4), min_size=2, max_size=4))
def test_four_liars_of_thirteen(steps: list[Step]):
    follow(4, steps)


@pytest.mark.parametrize(("f", "examples"), [(1, 8), (2, 2)])
def test_every_subset_that_a_relayer_may_choose(f: int, examples: int):
    """All subsets of a quorum or more: 5 for four reporters, 29 for seven."""

    @settings(QUICK, max_examples=examples)
    @given(setting=step(f), one=step(f))
    def each(setting: Step, one: Step) -> None:
        lab = lab_for(f)
        assert lab.chain is not None
        before = lab.chain.snapshot()
        start = lab.clock.now_ms()
        try:
            lab.submit(lab.reports([(1_000, 1_000)] * (2 * f + 1)))
            lab.clock.advance(10_000)
            everyone = Step(one.rows, one.liars, tuple(range(3 * f + 1)), 0, 0)
            reports = signed(lab, everyone, lab.moment())
            stands = lab.chain.snapshot()
            for size in range(2 * f + 1, 3 * f + 2):
                for taken in itertools.combinations(range(3 * f + 1), size):
                    ordered = in_signer_order({reports[who].reporter: reports[who] for who in taken})
                    try:
                        fate = fates(lab, ordered)
                    except CallRevertedError as error:
                        assert error.name == "NothingAccepted"
                        continue
                    check(lab, one, [1_000, 1_000], taken, fate)
                    lab.chain.revert(stands)
        finally:
            lab.chain.revert(before)
            lab.clock.advance(start - lab.clock.now_ms())

    each()


def test_one_liar_too_many_is_one_too_many():
    """So the bound is tight, and these tests would see it crossed: f + 1 liars of 2f + 1 reports set the answer."""
    lab = lab_for(1)
    assert lab.chain is not None
    before = lab.chain.snapshot()
    try:
        one = Step(((1_000, 1_000), (5_000, 5_000), (5_000, 5_000), (0, 0)), frozenset({1, 2}), (0, 1, 2), 0, 0)
        ordered = in_signer_order({report.reporter: report for report in signed(lab, one, lab.moment()).values()})
        fate = fates(lab, ordered)
        with pytest.raises(AssertionError):
            check(lab, one, [0, 0], one.taken, fate)
    finally:
        lab.chain.revert(before)


@pytest.mark.parametrize("f", [1, 2, 4])
def test_whatever_the_relayer_names_only_medians_are_accepted(f: int):
    """Every hint for every feed: one that is taken leaves the same answer as the honest one."""
    lab = lab_for(f)
    assert lab.chain is not None
    before = lab.chain.snapshot()
    try:
        lab.submit(lab.reports([(1_000, 1_000)] * (2 * f + 1)))
        lab.clock.advance(10_000)
        rows = [(995 + 3 * who, 2**64 - 1 if who < f else 1_000 + who) for who in range(2 * f + 1)]
        reports = lab.reports(rows)
        right = lab.hints(reports)
        order = [rows[lab.reporters.index(next(r for r in lab.reporters if r.address == report.reporter))]
                 for report in reports]  # fmt: skip
        for index in range(2):
            for hint in [*range(2 * f + 1), NO_MEDIAN, 2 * f + 1]:
                named = bytes(hint if at == index else right[at] for at in range(2))
                if hint < 2 * f + 1 and order[hint][index] == order[right[index]][index]:
                    lab.run(lab.calldata(reports, named))
                    continue
                with pytest.raises(CallRevertedError, match=r"NotTheMedian|FeedLeftOut|NoSuchReport"):
                    lab.run(lab.calldata(reports, named))
    finally:
        lab.chain.revert(before)
        lab.clock.advance(-10_000)


@pytest.mark.parametrize("f", [1, 2, 4])
def test_a_lie_about_the_time_spoils_only_the_liars_report(f: int):
    """A report of another moment, or after another round, is nobody's in this one; the honest go on without it."""
    lab = lab_for(f)
    assert lab.chain is not None
    before = lab.chain.snapshot()
    row = (1_000, 1_000)
    now = lab.moment()
    try:
        honest_ones = {by.address: lab.report(by, row, moment=now) for by in lab.reporters[f:]}
        for lies in ({"moment": now + 10}, {"moment": now - 10}, {"moment": now, "previous_moment": 1}):
            liars = {by.address: lab.report(by, row, **lies) for by in lab.reporters[:f]}
            both = list(in_signer_order(liars | honest_ones))
            payload = lab.payload(in_signer_order(honest_ones))
            whole = lab.payload([honest_ones.get(one.reporter) or _as_if(one, now) for one in both], bytes(2))
            with pytest.raises(CallRevertedError, match=r"^UnknownSigner\(0, "):
                lab.run(ORACLE.call("submit", whole))
            lab.run(ORACLE.call("submit", payload))
    finally:
        lab.chain.revert(before)


def _as_if(report: SignedReport, moment: int) -> SignedReport:
    """The liar's signature under the round's times, as a relayer has to pack it."""
    fields = {name: getattr(report, name) for name in report.__struct_fields__}
    return SignedReport(**fields | {"moment": moment, "previous_moment": 0})
