"""With any f of 3f + 1 reporters lying in whatever way, round after round, through the aggregator and the contract
together: the honest always get their round, its answers lie within what they saw, and both sides agree on them.

The reports go the way they go in service: as messages, in any order, into a collection; through the rules; what these
include is submitted to the contract, which counts for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from aggregator.collection import Collection
from aggregator.edges import Known
from aggregator.validation import Expected, Fault, Validation, identify, validate
from broker.messages import Report
from contracts.readings import FeedOnChain
from contracts.report import LocalSigner, bytes32
from core.types import Feed, Group, Mode, Pair, Quote
from tests.support.aggregator import DEPLOYMENT, report
from tests.support.oracle_kit import Lab, feed_config

PAIRS = (Pair("BTC/USD"), Pair("ETH/USD"))
LIMIT_BPS, MAX_SPREAD_BPS, HEARTBEAT_S = 300, 2_000, 60
"""Of the first feed's breaker; the second has none."""
TOP = 2**62
QUICK = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

LIES = (
    "honest",  # for once
    "value",
    "extreme",
    "missing",
    "silent",
    "twice",
    "twice_honest_first",
    "later",
    "earlier",
    "previous",
    "hash",
    "replay",
    "unchanged",
    "both",
    "short",
    "forged_self",
    "forged_other",
)
"""All that a reporter can do, alone or with what he overhears."""


@dataclass(frozen=True)
class Liar:
    """One lie in one round. values, bits: where the kind takes some."""

    kind: str
    values: tuple[int, int]
    bits: int


@dataclass(frozen=True)
class Step:
    """One round. honest: what each honest reporter sees of each feed; the same as stands, and he calls it unchanged.

    late: so many honest reporters, of whom a quorum is not short, come after the collection has ended.
    """

    honest: tuple[tuple[int, int], ...]
    liars: tuple[Liar, ...]
    order: tuple[int, ...]
    pause_ms: int
    late: int = 0


@st.composite
def step(draw: st.DrawFn, f: int) -> Step:
    base = draw(st.integers(1_000_000, 1_500_000))
    seen = st.integers(base, base + base // 100)
    values = st.one_of(seen, st.integers(1, TOP), st.just(0))
    liar = st.builds(Liar, st.sampled_from(LIES), st.tuples(values, values), st.integers(0, 3))
    return Step(
        honest=tuple(draw(st.tuples(seen, seen)) for _ in range(2 * f + 1)),
        liars=tuple(draw(liar) for _ in range(f)),
        order=tuple(draw(st.permutations(range(5 * f + 1)))),
        pause_ms=draw(st.integers(10, 120_000)),
        late=draw(st.integers(0, f)),
    )


@dataclass
class Town:
    """n = 3f + 1 reporters, a contract in this process, and the messages of former rounds that liars kept."""

    f: int
    lab: Lab = field(init=False)
    group: Group = field(init=False)
    kept: list[Report] = field(default_factory=list)

    def __post_init__(self) -> None:
        f, quorum = self.f, 2 * self.f + 1
        self.lab = Lab(n=3 * f + 1, f=f, threshold=quorum, least=quorum, pairs=PAIRS)
        limited = {"limit_bps": LIMIT_BPS, "max_spread_bps": MAX_SPREAD_BPS, "heartbeat_s": HEARTBEAT_S}
        self.lab.configure(feeds=[feed_config(PAIRS[0], least=quorum, **limited), feed_config(PAIRS[1], least=quorum)])
        feeds = tuple(Feed(pair=p, min_contributors=quorum, max_price=Decimal(TOP).scaleb(-8)) for p in PAIRS)
        self.group = Group(name="majors", feeds=feeds, f=f, threshold=quorum)

    def known(self) -> Known:
        info = self.lab.info
        (reading,) = self.lab.read("readGroup", bytes32("majors"))
        feeds = reading[-1]
        return Known(
            group_hash="0x" + info.hash.hex(),
            last_moment=info.moment,
            round=info.round,
            paused=False,
            f=self.f,
            threshold=2 * self.f + 1,
            signers=frozenset(by.address.lower() for by in self.lab.reporters),
            feeds=(
                FeedOnChain(PAIRS[0], 8, 2 * self.f + 1, 50, HEARTBEAT_S, LIMIT_BPS, MAX_SPREAD_BPS),
                FeedOnChain(PAIRS[1], 8, 2 * self.f + 1, 50, HEARTBEAT_S),
            ),
            standing=tuple(feed[5] for feed in feeds),
            observed_ms=tuple(feed[7] for feed in feeds),
        )

    def said(self, by: LocalSigner, prices: Sequence[int], known: Known, **changes: object) -> Report:
        plain: dict[str, object] = {
            "moment": self.lab.moment(),
            "previous_moment": known.last_moment,
            "group_hash": known.group_hash,
            "domain": self.lab.domain,
            "standing": known.standing,
        }
        return report(by, prices, self.group, **{**plain, **changes})  # type: ignore[arg-type]

    def honest(self, by: LocalSigner, seen: tuple[int, int], known: Known) -> Report:
        """As `fetchers.reporter` does: what is the standing answer is called unchanged."""
        bits = sum(1 << i for i in range(2) if known.standing[i] and seen[i] == known.standing[i])
        return self.said(by, [0 if bits >> i & 1 else seen[i] for i in range(2)], known, unchanged=bits)

    def lies(self, by: LocalSigner, liar: Liar, known: Known, overheard: Sequence[Report]) -> list[Report]:
        now, values = self.lab.moment(), liar.values
        bits = liar.bits if all(known.standing) else 0
        bare = [0 if bits >> i & 1 else values[i] for i in range(2)]
        match liar.kind:
            case "honest":
                return [self.honest(by, (1_000_000, 1_000_000), known)]
            case "value":
                return [self.said(by, values, known)]
            case "extreme":
                return [self.said(by, (1, TOP), known)]
            case "missing":
                return [self.said(by, (0, values[1]), known)]
            case "twice":
                return [self.said(by, values, known), self.said(by, (values[1], values[0] + 1), known)]
            case "twice_honest_first":
                return [self.honest(by, (1_000_000, 1_000_000), known), self.said(by, values, known)]
            case "later" | "earlier":
                return [self.said(by, values, known, moment=now + (10 if liar.kind == "later" else -10))]
            case "previous":
                return [self.said(by, values, known, previous_moment=known.last_moment + 1)]
            case "hash":
                return [self.said(by, values, known, group_hash="0x" + "ee" * 32)]
            case "replay":
                return list(self.kept[-3:])
            case "unchanged":
                return [self.said(by, bare, known, unchanged=bits)]
            case "both":
                return [self.said(by, values, known, unchanged=bits)]
            case "short":
                return [self.said(by, values[:1], known)]
            case "forged_self" | "forged_other":
                own = liar.kind == "forged_self" or not overheard
                around = self.said(by, values, known) if own else overheard[liar.bits % len(overheard)]
                mars = Quote(pair=PAIRS[0], source="mars", price=Decimal(1), received_ms=now)
                return [msgspec.structs.replace(around, quotes=(mars,), observed={PAIRS[0]: (0,)})]
        return []  # silent

    def round(self, one: Step) -> None:
        lab = self.lab
        lab.clock.advance(one.pause_ms)
        known, moment = self.known(), max(lab.moment(), 10)
        if moment <= known.last_moment:
            return
        quorum = 2 * self.f + 1
        good = [self.honest(by, seen, known) for by, seen in zip(lab.reporters[self.f :], one.honest, strict=True)]
        bad = [
            lie for by, liar in zip(lab.reporters, one.liars, strict=False) for lie in self.lies(by, liar, known, good)
        ]
        messages = [*good, *bad]
        arrived = [messages[at] for at in one.order if at < len(messages)]
        arrived += [message for at, message in enumerate(messages) if at not in one.order]
        late = {id(message) for message in good[: one.late]}
        outcome = self.judged([message for message in arrived if id(message) not in late], known, moment)
        if outcome.reason is not None:  # the liars do not make a quorum whole
            assert late
            outcome = self.judged(arrived, known, moment)
        assert outcome.reason is None, outcome.detail  # the honest get their round, whatever the others do
        assert len(outcome.included) >= quorum
        self.check_equivocation(one, outcome)
        lab.submit([included.report.signed for included in outcome.included], outcome.hints)
        self.check(one, known, outcome, moment)
        self.kept += messages

    def judged(self, messages: Sequence[Report], known: Known, moment: int) -> Validation:
        collection = Collection(Expected(DEPLOYMENT.id, Mode.TEST, self.group, moment, known))
        for message in messages:
            collection.add(identify(message, self.lab.domain, 1))
        return validate(collection.received, collection.expected, self.lab.clock.now_ms())

    def check_equivocation(self, one: Step, outcome: Validation) -> None:
        """Whoever signed two different reports has neither of them counted, and both kept."""
        included = {received.signer for received in outcome.included}
        for by, liar in zip(self.lab.reporters, one.liars, strict=False):
            if liar.kind == "twice":
                codes = [each.code for each in outcome.judged if each.received.signer == by.address.lower()]
                assert codes.count(Fault.EQUIVOCATION) == 2
                assert by.address.lower() not in included

    def check(self, one: Step, known: Known, outcome: Validation, moment: int) -> None:
        after = self.known()
        assert after.last_moment == moment
        included = {received.signer for received in outcome.included}
        counted = [
            values
            for by, values in zip(self.lab.reporters[self.f :], one.honest, strict=True)
            if by.address.lower() in included
        ]
        for index, pair in enumerate(PAIRS):
            seen = [values[index] for values in counted]
            answer = outcome.answers.get(pair)
            if answer is None:  # late ones, and liars without a price: too few for this feed alone
                assert one.late
                assert after.standing[index] == known.standing[index]
                continue
            ours = int(answer.price.scaleb(8))
            assert min(seen) <= ours <= max(seen), pair
            stands = after.standing[index]
            if answer.held:
                # it waits on chain, or confirms what waited there: nothing else than these two can stand
                assert stands in (known.standing[index], ours)
            else:
                assert stands == ours, pair
                assert after.observed_ms[index] == moment


TOWNS: dict[int, Town] = {}


def follow(f: int, steps: Sequence[Step]) -> None:
    if f not in TOWNS:
        TOWNS[f] = Town(f)
    town = TOWNS[f]
    assert town.lab.chain is not None
    before, start = town.lab.chain.snapshot(), town.lab.clock.now_ms()
    try:
        for one in steps:
            town.round(one)
    finally:
        town.kept.clear()
        town.lab.chain.revert(before)
        town.lab.clock.advance(start - town.lab.clock.now_ms())


@settings(QUICK, max_examples=12)
@given(steps=st.lists(step(1), min_size=2, max_size=5))
def test_one_liar_of_four(steps: list[Step]) -> None:
    follow(1, steps)


@settings(QUICK, max_examples=7)
@given(steps=st.lists(step(2), min_size=2, max_size=4))
def test_two_liars_of_seven(steps: list[Step]) -> None:
    follow(2, steps)


@settings(QUICK, max_examples=5)
@given(steps=st.lists(step(3), min_size=2, max_size=3))
def test_three_liars_of_ten(steps: list[Step]) -> None:
    follow(3, steps)


@settings(QUICK, max_examples=4)
@given(steps=st.lists(step(4), min_size=2, max_size=3))
def test_four_liars_of_thirteen(steps: list[Step]) -> None:
    follow(4, steps)


@pytest.mark.parametrize("kind", LIES)
def test_each_lie_by_all_the_liars_at_once(kind: str) -> None:
    """Twice, so that there is something to replay, and an answer that can be called unchanged."""
    liar = Liar(kind, (1, TOP), 0b01)
    seen = tuple((1_000_000 + who, 1_000_000 - who) for who in range(5))
    for late in (0, 2):
        one = Step(seen, (liar, liar), tuple(range(11)), 1_000, late)
        follow(2, [one, one, one])


def test_one_liar_too_many_is_one_too_many() -> None:
    """So the bound is tight, and these tests would see it crossed."""
    town = Town(1)
    town.lab.clock.advance(1_000)
    known, by = town.known(), town.lab.reporters
    messages = [town.said(by[0], (TOP, TOP), known), town.said(by[1], (TOP, TOP), known)]
    messages.append(town.honest(by[2], (1_000_000, 1_000_000), known))
    expected = Expected(DEPLOYMENT.id, Mode.TEST, town.group, town.lab.moment(), known)
    outcome = validate([identify(each, town.lab.domain, 1) for each in messages], expected, town.lab.clock.now_ms())
    assert int(outcome.answers[PAIRS[1]].price.scaleb(8)) == TOP
