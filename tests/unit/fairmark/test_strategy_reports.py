"""From a strategy's decision to a signed report, as they are composed: what is signed, and what is a coded failure."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from broker import Job, Refusal, Report
from contracts.report import recover, report_digest
from core.clock import FixedClock
from core.currency import DOLLARS, ConversionGraph
from core.reporting import Schedule, Trouble, TroubleCode
from core.settings import FeedSettings, SignalSettings, feed_of
from core.types import FailureCode, Group, Mode, Pair
from fetchers.candidates import make_plans
from fetchers.clocks import ClockWatch
from fetchers.fetch import Fetcher
from fetchers.jobs import JobDesk
from fetchers.metrics import FetcherMetrics
from fetchers.reader import PoolReader
from signals.decisions import Decisions
from signals.producer import Made
from tests.support.fetchers import DEPLOYMENT, DOMAIN, NOW, QUIET, SIGNER, FakeChain, MemoryReportStore

PAIR = Pair("RISK/INDEX")
SIGNAL = SignalSettings(decimals=4, minimum=Decimal("0.5"), maximum=Decimal(90), period_s=Decimal(5))
GROUP = Group(
    name="risk", feeds=(feed_of(FeedSettings(pair=PAIR, signal="risk"), 2, 3, SIGNAL),), f=0, threshold=2, grid_ms=1
)


async def answered(made: Made, *, standing: int = 0) -> Report | Refusal:
    """What a strategy that has made this answers to a job of now."""

    async def make(_slot: int) -> Made:
        return made

    clock, graph = FixedClock(NOW), ConversionGraph(DOLLARS)
    decisions = Decisions("alpha", PAIR, Schedule(SIGNAL.period_ms), make, clock)
    chain = FakeChain(GROUP, decimals=4)
    if standing:
        chain.last_moment, chain.standing = NOW - 1_000, {PAIR: standing}
    desk = JobDesk(
        name="alpha",
        instance="one",
        mode=Mode.TEST,
        groups=[GROUP],
        plans={"risk": make_plans(GROUP.feeds, ["alpha"], {"alpha": decisions}, graph)},
        fetcher=Fetcher(PoolReader(decisions), graph, QUIET),
        chain=chain,
        signer=SIGNER,
        store=MemoryReportStore(),
        clock=clock,
        logger=QUIET,
        new_id=lambda: "an id",
        saw=lambda _group, _observation: None,
        watch=ClockWatch(dict, FetcherMetrics(CollectorRegistry()), QUIET),
    )
    await desk.start()
    return await desk.answer(
        Job(
            id="job",
            attempt="attempt",
            deployment=DEPLOYMENT.id,
            mode=Mode.TEST,
            group="risk",
            moment=NOW,
            budget_ms=20_000,
        )
    )


def decided(value: str, age_ms: int = 0) -> Made:
    return Made(depends=("gen-1",), value=Decimal(value), data_ms=NOW - age_ms)


@given(st.integers(5_000, 900_000), st.integers(0, 900_000))
async def test_a_decision_is_signed_to_the_digit_however_far_it_jumped(scaled: int, standing: int) -> None:
    report = await answered(decided(str(Decimal(scaled).scaleb(-4))), standing=standing)
    assert isinstance(report, Report), report
    signed = report.signed
    unchanged = scaled == standing
    assert (signed.prices, signed.unchanged) == ((0 if unchanged else scaled,), int(unchanged))
    assert report.answers == {PAIR: Decimal(scaled).scaleb(-4)}
    assert [(quote.source, quote.pair, quote.price) for quote in report.quotes] == [
        ("alpha", PAIR, Decimal(scaled).scaleb(-4))
    ]
    assert recover(report_digest(DOMAIN, signed), signed.signature) == SIGNER.address


def trouble(code: TroubleCode) -> Made:
    return Made(depends=(), trouble=Trouble(who="gen-1", code=code, since_ms=NOW - 9, detail="it is down"))


@pytest.mark.parametrize(
    ("made", "code", "says"),
    [
        (decided("7", 15_001), FailureCode.EXPIRED, "15001 ms old at the moment, 15000 at most"),
        (decided("0.4999"), FailureCode.OUT_OF_RANGE, "0.4999 is not between 0.5 and 90"),
        (decided("90.0001"), FailureCode.OUT_OF_RANGE, "90.0001 is not between 0.5 and 90"),
        (decided("-1"), FailureCode.OUT_OF_RANGE, "-1 is not between 0.5 and 90"),
        (trouble(TroubleCode.UNREACHABLE), FailureCode.CONNECTION, "gen-1: signal_unreachable"),
        (trouble(TroubleCode.OUTDATED), FailureCode.EXPIRED, "gen-1: data_outdated"),
    ],
)
async def test_what_is_old_out_of_range_or_in_trouble_is_no_price(made: Made, code: FailureCode, says: str) -> None:
    refusal = await answered(made)
    assert isinstance(refusal, Refusal), refusal
    assert refusal.code == "no_prices"
    (failure,) = refusal.failures
    assert (failure.source, failure.pair, failure.code) == ("alpha", PAIR, code)
    assert failure.detail.startswith(says)


@pytest.mark.parametrize("age_ms", [0, 14_999, 15_000])
async def test_data_at_its_limit_still_counts(age_ms: int) -> None:
    assert isinstance(await answered(decided("7", age_ms)), Report)
