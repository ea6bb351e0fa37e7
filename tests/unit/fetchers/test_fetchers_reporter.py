"""The checks before signing, and what is signed."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import Job
from contracts import FeedOnChain
from contracts.evidence import Statement
from contracts.report import hint_digest, recover, recover_reporter
from core.median import to_scaled
from core.types import Mode
from fetchers.errors import RefusalCode, Refused
from fetchers.reporter import Observations, check_chain, check_job, deviates, observations, sign, sign_hint
from tests.support.fetchers import BTC, DEPLOYMENT, DOMAIN, ETH, NOW, SIGNER, FakeChain, group

MAJORS = group("BTC/USD", "ETH/USD")
JOB = Job(
    id="job",
    attempt="attempt",
    deployment=DEPLOYMENT.id,
    mode=Mode.TEST,
    group="majors",
    moment=NOW,
    budget_ms=800,
)

EVIDENCE = Statement(
    deployment=DEPLOYMENT.id,
    mode=Mode.TEST,
    fetcher="fetcher-a",
    instance="one",
    answers={},
    quotes=(),
    failures=(),
    observed={},
    elapsed_ms=5,
)


def refused(job: Job, now_ms: int = NOW) -> RefusalCode | None:
    try:
        check_job(job, {"majors": MAJORS}, deployment=DEPLOYMENT.id, mode=Mode.TEST, now_ms=now_ms)
    except Refused as error:
        return error.reason
    return None


def changed(**fields: object) -> Job:
    return msgspec.structs.replace(JOB, **fields)


def test_a_job_for_this_fetcher_and_for_now_is_taken() -> None:
    assert check_job(JOB, {"majors": MAJORS}, deployment=DEPLOYMENT.id, mode=Mode.TEST, now_ms=NOW) is MAJORS


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (changed(deployment="1:0xabc:0x1"), RefusalCode.WRONG_DEPLOYMENT),
        (changed(mode=Mode.LIVE), RefusalCode.WRONG_MODE),
        (changed(group="minors"), RefusalCode.UNKNOWN_GROUP),
        (changed(moment=NOW + 1), RefusalCode.MOMENT_INVALID),
        (changed(moment=NOW + 260), RefusalCode.MOMENT_TOO_FAR),
        (changed(moment=NOW - 2010), RefusalCode.MOMENT_TOO_FAR),
        (changed(moment=NOW + 250), None),
        (changed(moment=NOW - 2000), None),
    ],
)
def test_a_job_for_another_fetcher_or_another_time_is_refused(job: Job, reason: RefusalCode | None) -> None:
    assert refused(job) == reason


async def chain_refuses(chain: FakeChain, reporter: str = SIGNER.address) -> RefusalCode | None:
    try:
        check_chain(await chain.group_state("majors"), MAJORS, reporter, NOW)
    except Refused as error:
        return error.reason
    return None


async def test_the_contract_decides_who_reports_what() -> None:
    assert await chain_refuses(FakeChain(MAJORS)) is None
    assert await chain_refuses(FakeChain(MAJORS), SIGNER.address.lower()) is None
    assert await chain_refuses(FakeChain(MAJORS, signers=("0x" + "ee" * 20,))) == RefusalCode.NOT_REGISTERED


@pytest.mark.parametrize(
    "chain",
    [
        FakeChain(group("BTC/USD")),
        FakeChain(group("ETH/USD", "BTC/USD")),
        FakeChain(group("BTC/USD", "SOL/USD")),
        FakeChain(MAJORS, decimals=6),
    ],
    ids=["one feed less", "another order", "another feed", "other decimals"],
)
async def test_feeds_that_are_not_the_configured_ones_are_refused(chain: FakeChain) -> None:
    assert await chain_refuses(chain) == RefusalCode.CONFIGURATION_MISMATCH


async def test_a_moment_that_the_contract_has_passed_is_refused() -> None:
    assert await chain_refuses(FakeChain(MAJORS, last_moment=NOW)) == RefusalCode.MOMENT_PASSED
    assert await chain_refuses(FakeChain(MAJORS, last_moment=NOW - 10)) is None


def test_prices_stand_in_the_groups_order_and_zero_means_none() -> None:
    assert observations(MAJORS.feeds, {ETH: Decimal("4000.123456785")}, None) == Observations(
        prices=(0, 400012345678), unchanged=0, answers={"ETH/USD": Decimal("4000.12345678")}
    )


def test_no_price_at_all_is_not_signed() -> None:
    with pytest.raises(Refused) as caught:
        observations(MAJORS.feeds, {}, None)
    assert caught.value.reason == RefusalCode.NO_PRICES


async def test_what_is_signed_is_this_nodes_group_and_recovers_to_the_reporter() -> None:
    state = await FakeChain(MAJORS, last_moment=NOW - 10).group_state("majors")
    seen = Observations(prices=(7_000_000_000_000, 0), unchanged=2, answers={})
    report = sign(SIGNER, DOMAIN, state, NOW, seen, EVIDENCE)
    assert (report.group, report.group_hash) == ("majors", "0x" + "c3" * 32)
    assert (report.previous_moment, report.moment, report.prices) == (NOW - 10, NOW, (7_000_000_000_000, 0))
    assert (report.unchanged, report.evidence_root) == (2, EVIDENCE.tree().root)
    assert recover_reporter(DOMAIN, report) == report.reporter == SIGNER.address
    assert isinstance(FeedOnChain(BTC, 8, 3, 50, 60), type(state.feeds[0]))


def test_a_hint_recovers_to_the_reporter() -> None:
    signature = sign_hint(SIGNER, DOMAIN, "majors", BTC, 7_000_000_000_000, NOW, NOW - 10)
    assert recover(hint_digest(DOMAIN, "majors", BTC, 7_000_000_000_000, NOW, NOW - 10), signature) == SIGNER.address


@pytest.mark.parametrize(
    ("standing", "price", "bps", "left"),
    [
        (10_000, 10_050, 50, False),
        (10_000, 10_051, 50, True),
        (10_000, 9_950, 50, False),
        (10_000, 9_949, 50, True),
        (0, 9_949, 50, False),
        (10_000, 0, 50, False),
    ],
)
def test_a_price_leaves_its_threshold_beyond_it(standing: int, price: int, bps: int, left: bool) -> None:
    assert deviates(standing, price, bps) is left


@given(st.integers(min_value=1, max_value=2**64), st.integers(min_value=1, max_value=2**64), st.integers(1, 10_000))
def test_deviation_is_the_exact_fraction(standing: int, price: int, bps: int) -> None:
    exact = abs(Decimal(price) - standing) * 10_000 / standing
    if abs(exact - bps) > Decimal("1e-9"):
        assert deviates(standing, price, bps) is (exact > bps)


@given(st.decimals(min_value=Decimal("0.2"), max_value=Decimal(10**8), places=20))
def test_the_shown_answer_is_to_the_digit_what_is_signed(price: Decimal) -> None:
    seen = observations(MAJORS.feeds, {BTC: price}, None)
    shown = seen.answers["BTC/USD"]
    assert to_scaled(shown, 8) == seen.prices[0]
    assert abs(shown - price) <= Decimal("0.000000005")
