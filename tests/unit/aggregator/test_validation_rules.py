"""The rules over an attempt's reports: each alone, their order, and what must hold whatever f of n reporters do."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.attempts import FailureReason, Verdict
from aggregator.running import report_record
from aggregator.validation import Fault, Judged, Received, Warn, identify, misconfigured, validate
from contracts.report import Domain, median_hints
from core.types import Mode
from tests.support.aggregator import (
    BTC,
    DOMAIN,
    ETH,
    HASH,
    NOW,
    SIGNERS,
    STRANGER,
    expected,
    group,
    received,
)

GROUP = group()
FOUR = SIGNERS[:4]
PRICES = (6_000_000_000_000, 300_000_000_000)


def honest(count: int) -> list[Received]:
    return [received(signer, PRICES, GROUP) for signer in FOUR[:count]]


def codes(found: list[Received]) -> list[Fault | None]:
    return [judged.code for judged in validate(found, expected(GROUP, FOUR), NOW).judged]


def test_a_records_detail_is_cut_whatever_a_sender_put_into_it() -> None:
    judged = Judged(honest(1)[0], Verdict.REJECTED, Fault.MALFORMED, "x" * 10_000)
    assert report_record(judged).detail == "x" * 500


def test_valid_reports_are_all_included_ascending_by_signer() -> None:
    outcome = validate(honest(4), expected(GROUP, FOUR), NOW)
    assert outcome.reason is None
    assert [int(one.signer or "", 16) for one in outcome.included] == sorted(int(s.address, 16) for s in FOUR)
    assert outcome.answers[BTC].price == Decimal("60000.00000000")
    assert (outcome.answers[BTC].contributors, outcome.answers[BTC].spread_bps) == (4, 0)
    assert outcome.without == {}


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"deployment": "1:0xother:0x"}, Fault.WRONG_DEPLOYMENT),
        ({"mode": Mode.LIVE}, Fault.WRONG_MODE),
        ({"moment": NOW - 10}, Fault.WRONG_MOMENT),
        ({"group_hash": "0x" + "ee" * 32}, Fault.WRONG_GROUP_HASH),
        ({"previous_moment": NOW - 120_000}, Fault.STALE_PREVIOUS),
        ({"domain": Domain(Mode.LIVE, 31337, DOMAIN.address)}, Fault.NOT_A_MEMBER),
        ({"domain": Domain(Mode.TEST, 1, DOMAIN.address)}, Fault.NOT_A_MEMBER),
    ],
)
def test_a_report_about_something_else_is_rejected_with_its_code(bad: dict[str, object], code: Fault) -> None:
    assert codes([*honest(3), received(FOUR[3], PRICES, GROUP, **bad)]) == [None, None, None, code]


def test_a_stranger_is_rejected_whatever_address_he_claims() -> None:
    report = received(STRANGER, PRICES, GROUP).report
    forged = msgspec.structs.replace(report, signed=msgspec.structs.replace(report.signed, reporter=FOUR[3].address))
    assert codes([identify(forged, DOMAIN, 1)]) == [Fault.NOT_A_MEMBER]


@pytest.mark.parametrize("prices", [(PRICES[0],), (*PRICES, 1), ()])
def test_a_report_needs_one_price_a_feed(prices: tuple[int, ...]) -> None:
    assert codes([received(FOUR[0], prices, GROUP)]) == [Fault.MALFORMED]


def test_a_price_out_of_its_feeds_range_rejects_the_whole_report() -> None:
    narrow = group(BTC, ETH, max_price=Decimal(50_000))
    outcome = validate([received(FOUR[0], PRICES, narrow)], expected(narrow, FOUR), NOW)
    assert outcome.judged[0].code is Fault.OUT_OF_RANGE
    assert "BTC/USD 60000.00000000" in outcome.judged[0].detail


def test_a_missing_price_is_no_price_out_of_range() -> None:
    assert codes([received(FOUR[0], (0, PRICES[1]), GROUP)]) == [None]


def test_a_moment_that_the_contract_would_not_take_any_more_expires_every_report() -> None:
    outcome = validate(honest(4), expected(GROUP, FOUR), NOW + GROUP.max_age_ms + 1)
    assert [judged.code for judged in outcome.judged] == [Fault.EXPIRED] * 4
    assert outcome.reason is FailureReason.NO_QUORUM


def test_equivocation_rejects_both_reports_and_keeps_them() -> None:
    other = received(FOUR[0], (PRICES[0] + 1, PRICES[1]), GROUP)
    outcome = validate([*honest(4), other], expected(GROUP, FOUR), NOW)
    assert [judged.code for judged in outcome.judged] == [Fault.EQUIVOCATION, None, None, None, Fault.EQUIVOCATION]
    assert outcome.reason is None
    assert outcome.answers[BTC].contributors == 3


def test_a_report_for_another_group_of_the_same_moment_is_no_equivocation() -> None:
    other = received(FOUR[0], PRICES, GROUP, group_hash="0x" + "ee" * 32)
    assert codes([*honest(3), other]) == [None, None, None, Fault.WRONG_GROUP_HASH]


def test_two_previous_moments_for_one_moment_are_equivocation() -> None:
    other = received(FOUR[0], PRICES, GROUP, previous_moment=NOW - 70_000)
    assert codes([*honest(3), other]) == [Fault.EQUIVOCATION, None, None, Fault.EQUIVOCATION]


def test_fewer_valid_reports_than_the_threshold_are_no_quorum() -> None:
    outcome = validate([*honest(2), received(STRANGER, PRICES, GROUP)], expected(GROUP, FOUR), NOW)
    assert outcome.reason is FailureReason.NO_QUORUM
    assert outcome.detail == "2 valid reports, 3 are needed (rejected: not_a_member)"


def test_a_feed_with_too_few_contributors_is_left_alone_and_the_others_go_on() -> None:
    found = [*honest(2), received(FOUR[2], (PRICES[0], 0), GROUP)]
    outcome = validate(found, expected(GROUP, FOUR), NOW)
    assert outcome.reason is None
    assert set(outcome.answers) == {BTC}
    assert outcome.without == {ETH: "2 contributors, 3 are needed"}
    assert outcome.hints[1] == 255


def test_a_round_needs_one_feed_at_least() -> None:
    found = [received(signer, (0, 0), GROUP) for signer in FOUR]
    assert validate(found, expected(GROUP, FOUR), NOW).reason is FailureReason.NO_FEED


def test_an_outlier_is_included_with_a_warning_and_cannot_move_the_median_out_of_the_others() -> None:
    found = [*honest(3), received(FOUR[3], (PRICES[0] * 10, PRICES[1]), GROUP)]
    outcome = validate(found, expected(GROUP, FOUR), NOW)
    assert outcome.judged[3].verdict is Verdict.INCLUDED
    assert outcome.judged[3].warnings == {BTC: Warn.OUTLIER}
    assert outcome.answers[BTC].price == Decimal("60000.00000000")


@pytest.mark.parametrize("said", [Decimal("NaN"), Decimal("Infinity"), Decimal("1E+999999"), Decimal("59999")])
def test_an_unsigned_answer_that_is_not_what_was_signed_is_a_warning(said: Decimal) -> None:
    one = received(FOUR[0], PRICES, GROUP)
    # the reporter's own word, as far as evidence goes: its root is of this
    lying = replace(
        one, report=msgspec.structs.replace(one.report, answers={"BTC/USD": said, "ETH/USD": Decimal(3000)})
    )
    outcome = validate([lying, *honest(4)[1:]], expected(GROUP, FOUR), NOW)
    assert outcome.judged[0].warnings == {BTC: Warn.ANSWER_DIFFERS}


def test_feeds_that_differ_from_the_contracts_are_told_apart() -> None:
    known = expected(GROUP, FOUR).known
    assert misconfigured(GROUP, known) is None
    assert "ETH/USD" in (misconfigured(group(BTC), known) or "")
    assert misconfigured(group(ETH, BTC), known) is not None
    assert misconfigured(group(decimals=6), known) is not None


STANDS = (10**12,)
price = st.integers(min_value=100_000_000, max_value=2**62)


@st.composite
def byzantine(draw: st.DrawFn) -> tuple[int, list[int], list[Received]]:
    """f, the honest prices, and what came in: f of 3f + 1 signers did what they liked, in any order."""
    f = draw(st.integers(min_value=1, max_value=3))
    n = 3 * f + 1
    one = group(BTC, f=f, threshold=2 * f + 1, min_contributors=2 * f + 1, max_price=Decimal(2) ** 63)
    base = draw(st.integers(min_value=10**9, max_value=10**15))
    honest_prices = draw(
        st.lists(st.integers(min_value=base, max_value=base + base // 50), min_size=n - f, max_size=n - f)
    )
    found = [received(SIGNERS[f + i], (value,), one) for i, value in enumerate(honest_prices)]
    for liar in SIGNERS[:f]:
        match draw(
            st.sampled_from(
                ["value", "none", "silent", "twice", "moment", "previous", "hash", "unchanged", "both", "forged"]
            )
        ):
            case "value":
                found.append(received(liar, (draw(price),), one))
            case "none":
                found.append(received(liar, (0,), one))
            case "twice":
                found += [received(liar, (draw(price),), one) for _ in range(2)]
            case "moment":
                found.append(received(liar, (draw(price),), one, moment=NOW - 10))
            case "previous":
                found.append(received(liar, (draw(price),), one, previous_moment=1))
            case "unchanged":
                found.append(received(liar, (0,), one, unchanged=1, standing=STANDS))
            case "both":
                found.append(received(liar, (draw(price),), one, unchanged=1, standing=STANDS))
            case "forged":
                found.append(replace(received(liar, (draw(price),), one), unproven="another root"))
            case "hash":
                found.append(received(liar, (draw(price),), one, group_hash="0x" + "ee" * 32))
    return f, honest_prices, draw(st.permutations(found))


@settings(max_examples=60, deadline=None)
@given(byzantine())
def test_whatever_f_reporters_do_the_answer_lies_within_the_honest_range(
    case: tuple[int, list[int], list[Received]],
) -> None:
    f, honest_prices, found = case
    one = group(BTC, f=f, threshold=2 * f + 1, min_contributors=2 * f + 1, max_price=Decimal(2) ** 63)
    outcome = validate(found, expected(one, SIGNERS[: 3 * f + 1], standing=STANDS), NOW)
    assert outcome.reason is None
    answer = int(outcome.answers[BTC].price.scaleb(8))
    assert min(honest_prices) <= answer <= max(honest_prices)
    signed = [included.report.signed for included in outcome.included]
    assert outcome.hints == median_hints(signed, one.feeds, STANDS)
    named = signed[outcome.hints[0]]
    assert (STANDS[0] if named.unchanged else named.prices[0]) == answer
    assert outcome.answers[BTC].attested is bool(named.unchanged)
    assert len(outcome.judged) == len(found)


STANDING = (PRICES[0] + 7, PRICES[1])
KNOWN = {"standing": STANDING}


def mixed(index: int, prices: tuple[int, int], unchanged: int) -> Received:
    return received(FOUR[index], prices, GROUP, unchanged=unchanged, standing=STANDING)


def test_unchanged_observes_the_standing_answer_in_rank_and_contributors() -> None:
    found = [mixed(0, (0, 0), 0b11), mixed(1, PRICES, 0), mixed(2, (PRICES[0] + 9, 0), 0b10)]
    outcome = validate(found, expected(GROUP, FOUR, **KNOWN), NOW)
    assert outcome.reason is None
    btc, eth = outcome.answers[BTC], outcome.answers[ETH]
    assert (btc.price, btc.contributors, btc.attested) == (Decimal("60000.00000007"), 3, True)
    assert (btc.reporter, btc.spread_bps) == (FOUR[0].address.lower(), 0)
    assert (eth.price, eth.contributors, eth.attested) == (Decimal("3000.00000000"), 3, True)
    assert all(judged.warnings == {} for judged in outcome.judged)


def test_of_equal_observations_one_that_calls_it_unchanged_is_named_so_that_nothing_is_written() -> None:
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        found = [mixed(order[0], STANDING, 0), mixed(order[1], STANDING, 0), mixed(order[2], (0, STANDING[1]), 0b01)]
        outcome = validate(found, expected(GROUP, FOUR, **KNOWN), NOW)
        assert outcome.answers[BTC].attested
        assert outcome.included[outcome.hints[0]].signer == FOUR[order[2]].address.lower()
        assert not outcome.answers[ETH].attested


def test_unchanged_says_nothing_of_a_feed_that_never_had_an_answer() -> None:
    found = [mixed(index, (PRICES[0], 0), 0b10) for index in range(4)]
    outcome = validate(found, expected(GROUP, FOUR, standing=(STANDING[0], 0)), NOW)
    assert set(outcome.answers) == {BTC}
    assert outcome.without == {ETH: "0 contributors, 3 are needed"}


@pytest.mark.parametrize(("prices", "unchanged"), [(PRICES, 0b01), (PRICES, 0b10), ((0, 0), 0b100)])
def test_a_price_beside_its_bit_or_a_bit_without_a_feed_is_malformed(prices: tuple[int, int], unchanged: int) -> None:
    found = received(FOUR[0], prices, GROUP, unchanged=unchanged, standing=(*STANDING, 1))
    assert [one.code for one in validate([found], expected(GROUP, FOUR, **KNOWN), NOW).judged] == [Fault.MALFORMED]


def test_hash_of_the_kit_is_what_the_rules_compare() -> None:
    assert expected(GROUP, FOUR).known.group_hash == HASH
