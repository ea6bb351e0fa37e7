"""The rules over each feed's prices: degraded, held by the breaker; the configured order of the rules on reports."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from aggregator.attempts import FeedAnswer
from aggregator.validation import Fault, Received, validate
from core.errors import ConfigurationError
from core.quality import Quality
from core.types import REPORT_RULES, Quote
from tests.support.aggregator import BTC, ETH, NOW, SIGNERS, expected, group, received

FOUR = SIGNERS[:4]
PRICES = (6_000_000_000_000, 300_000_000_000)
GROUP = group(wanted_contributors=4, wanted_sources=3)


def quotes(count: int) -> list[Quote]:
    return [Quote(pair=BTC, source=f"source-{n}", price=Decimal(60_000), received_ms=NOW) for n in range(count)]


def answers(found: list[Received], **known: object) -> dict[str, FeedAnswer]:
    return {**validate(found, expected(GROUP, FOUR, **known), NOW).answers}


def honest(count: int, sources: int = 3) -> list[Received]:
    return [received(signer, PRICES, GROUP, quotes=quotes(sources)) for signer in FOUR[:count]]


class TestDegraded:
    def test_all_that_are_wanted(self) -> None:
        found = answers(honest(4))[BTC]
        assert (found.state, found.confidence, found.sources) == (Quality.OK, 1, 3)

    def test_fewer_reporters_than_wanted(self) -> None:
        found = answers(honest(3))[BTC]
        assert (found.state, found.confidence) == (Quality.DEGRADED, Decimal("0.75"))

    def test_fewer_sources_than_wanted_behind_the_middle_reporter(self) -> None:
        found = answers(honest(4, sources=2))[BTC]
        assert (found.state, found.confidence, found.sources) == (Quality.DEGRADED, Decimal("0.66"), 2)

    def test_one_poor_reporter_of_four_does_not_degrade_it_and_one_boaster_does_not_mend_it(self) -> None:
        rich = [received(signer, PRICES, GROUP, quotes=quotes(3)) for signer in FOUR[:3]]
        poor = [received(signer, PRICES, GROUP, quotes=quotes(1)) for signer in FOUR[:3]]
        assert answers([*rich, received(FOUR[3], PRICES, GROUP, quotes=quotes(9))])[BTC].state is Quality.OK
        assert answers([*poor, received(FOUR[3], PRICES, GROUP, quotes=quotes(9))])[BTC].confidence == Decimal("0.33")

    def test_a_feed_that_wants_no_more_than_it_requires_is_never_degraded(self) -> None:
        plain = group()
        found = [received(signer, PRICES, plain, quotes=quotes(3)) for signer in FOUR[:3]]
        assert validate(found, expected(plain, FOUR), NOW).answers[BTC].state is Quality.OK


class TestHeld:
    @pytest.fixture
    def known(self) -> dict[str, object]:
        feeds = expected(GROUP, FOUR).known.feeds
        limited = tuple(replace(feed, limit_bps=1_000, max_spread_bps=500) for feed in feeds)
        return {"feeds": limited, "standing": PRICES, "observed_ms": (NOW - 60_000, NOW - 240_000)}

    @staticmethod
    def moved(btc_bps: int, eth_bps: int) -> list[Received]:
        prices = (PRICES[0] * (10_000 + btc_bps) // 10_000, PRICES[1] * (10_000 + eth_bps) // 10_000)
        return [received(signer, prices, GROUP) for signer in FOUR]

    def test_an_answer_beyond_the_breakers_limit_is_submitted_and_held(self, known: dict[str, object]) -> None:
        outcome = validate(self.moved(1_001, 0), expected(GROUP, FOUR, **known), NOW)
        assert outcome.answers[BTC].held == "deviation"
        assert outcome.answers[BTC].why_held == (
            "+1001 bps from the standing 60000.00000000, 1000 at most, grown with the time since"
        )
        assert outcome.hints[0] != 255
        assert outcome.answers[ETH].held == ""

    def test_the_limit_grows_with_the_root_of_the_time_since_that_feeds_answer(self, known: dict[str, object]) -> None:
        found = answers(self.moved(1_000, 2_000), **known)
        assert (found[BTC].held, found[ETH].held) == ("", "")
        found = answers(self.moved(-1_001, 2_001), **known)
        assert (found[BTC].held, found[ETH].held) == ("deviation", "deviation")

    def test_reporters_that_lie_too_far_apart_hold_it(self, known: dict[str, object]) -> None:
        apart = [received(signer, (price, PRICES[1]), GROUP) for signer, price in zip(
            FOUR, (PRICES[0] * 99 // 100, PRICES[0], PRICES[0], PRICES[0] * 105 // 100), strict=True
        )]  # fmt: skip
        found = answers(apart, **known)
        assert (found[BTC].held, found[BTC].why_held) == ("dispersion", "the reporters lie 600 bps apart, 500 at most")
        assert found[ETH].held == ""

    def test_where_the_contract_has_no_limit_nothing_is_held(self) -> None:
        assert answers(self.moved(9_000, 9_000), standing=PRICES)[BTC].held == ""


class TestTheOrderOfTheRules:
    """A report of another moment that also has a price out of range: the first rule names it."""

    LOW = (PRICES[0], 1)

    def code(self, order: tuple[str, ...]) -> Fault | None:
        narrow = group(min_price=Decimal(1))
        wrong = received(FOUR[0], self.LOW, narrow, moment=NOW - 10)
        return validate([wrong], replace(expected(narrow, FOUR), order=order), NOW).judged[0].code

    def test_it_is_as_configured(self) -> None:
        assert self.code(REPORT_RULES) is Fault.WRONG_MOMENT
        assert self.code(("range", *(name for name in REPORT_RULES if name != "range"))) is Fault.OUT_OF_RANGE

    def test_every_rule_stands_wherever_it_stands(self) -> None:
        turned = tuple(reversed(REPORT_RULES))
        found = [*honest(4), received(FOUR[0], (PRICES[0] + 1, PRICES[1]), GROUP), received(FOUR[1], (1,), GROUP)]
        outcome = validate(found, replace(expected(GROUP, FOUR), order=turned), NOW)
        assert {str(one.code) for one in outcome.judged if one.code} >= {"equivocation"}
        assert outcome.answers[BTC].contributors == 3

    def test_an_order_that_leaves_one_out_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="signature is missing"):
            self.code(tuple(name for name in REPORT_RULES if name != "signature"))
