"""History through the live rules: ticks, states, refused quotes, references."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.currency import DOLLARS, ConversionGraph
from core.quality import Quality
from core.types import FailureCode, Feed, Pair
from fairmark.replay.errors import ReplayError
from fairmark.replay.rows import Market, Row
from fairmark.replay.run import Answer, Refused, Replay
from sources import load_catalogue
from tests.support.depeg import BOTTOM, DOWN, STEP_MS, STEPS, Story

CATALOGUE = load_catalogue()
GRAPH = ConversionGraph(DOLLARS)
BTC, USDT, USDC = Pair("BTC/USD"), Pair("USDT/USD"), Pair("USDC/USD")
FEED = Feed(pair=BTC, min_price=Decimal(1_000), max_price=Decimal(10_000_000))
T0 = 1_710_328_245_000
"""A multiple of a second."""


@dataclass
class Sink:
    answers: list[Answer] = field(default_factory=list)
    rejected: list[Refused] = field(default_factory=list)

    def answer(self, answer: Answer) -> None:
        self.answers.append(answer)

    def refused(self, refused: Refused) -> None:
        self.rejected.append(refused)

    def codes(self) -> list[tuple[int, str, FailureCode]]:
        return [(each.time_ms - T0, each.market.source, each.code) for each in self.rejected]


def row(after_ms: int, source: str, price: str | Decimal, pair: str = "BTC/USD", volume: str | None = "1") -> Row:
    given = None if volume is None else Decimal(volume)
    return T0 + after_ms, Market(source, Pair(pair)), Decimal(price), given


def replayed(*rows: Row, feeds: tuple[Feed, ...] = (FEED,), **options: object) -> tuple[Sink, Replay]:
    sink = Sink()
    run = Replay(feeds, CATALOGUE, GRAPH, sink, **options)  # type: ignore[arg-type]
    for each in rows:
        run.take(each)
    run.finish()
    return sink, run


def three(after_ms: int, *prices: str) -> list[Row]:
    return [
        row(after_ms, source, price) for source, price in zip(("kraken", "gemini", "bitstamp"), prices, strict=True)
    ]


class TestTicks:
    def test_one_answer_stands_at_each_multiple_within_the_file(self) -> None:
        sink, _ = replayed(*three(300, "100000", "100010", "100020"), *three(2_700, "100030", "100040", "100050"))
        assert [(each.moment - T0, each.price) for each in sink.answers] == [
            (1_000, Decimal("100010.00000000")),
            (2_000, Decimal("100010.00000000")),
        ]

    def test_what_is_quoted_on_a_tick_belongs_to_it(self) -> None:
        sink, _ = replayed(*three(0, "100000", "100010", "100020"), *three(1_000, "100030", "100040", "100050"))
        assert [each.price for each in sink.answers] == [Decimal("100010.00000000"), Decimal("100040.00000000")]

    def test_ticks_are_multiples_of_the_epoch_whatever_the_first_quote(self) -> None:
        sink, _ = replayed(*three(1, "1e5", "1e5", "1e5"), *three(25_000, "1e5", "1e5", "1e5"), every_ms=10_000)
        assert [each.moment - T0 for each in sink.answers] == [5_000, 15_000, 25_000]

    def test_a_gap_is_filled_with_ticks_that_soon_have_no_price(self) -> None:
        sink, _ = replayed(*three(0, "1e5", "1e5", "1e5"), *three(100_000, "1e5", "1e5", "1e5"))
        states = [each.state for each in sink.answers]
        assert states == [Quality.OK] * 61 + [Quality.UNAVAILABLE] * 39 + [Quality.OK]

    def test_a_row_that_leaps_by_years_is_an_error(self) -> None:
        with pytest.raises(ReplayError, match="400 days after the row before"):
            replayed(*three(0, "1e5", "1e5", "1e5"), row(400 * 86_400_000, "kraken", "1e5"))

    def test_no_rows_no_answers(self) -> None:
        assert replayed()[0].answers == []


class TestStates:
    @pytest.mark.parametrize(
        ("sources", "state"), [(1, Quality.UNAVAILABLE), (2, Quality.DEGRADED), (3, Quality.OK), (5, Quality.OK)]
    )
    def test_degraded_is_fewer_than_wanted_and_no_fewer_than_required(self, sources: int, state: Quality) -> None:
        names = ("kraken", "gemini", "bitstamp", "unheard-of", "bitfinex")[:sources]
        sink, _ = replayed(*(row(0, name, "100000") for name in names))
        [answer] = sink.answers
        assert (answer.state, answer.sources) == (state, sources)
        assert (answer.price is None) == (state is Quality.UNAVAILABLE)

    def test_an_even_number_takes_the_lower_middle_one(self) -> None:
        sink, _ = replayed(row(0, "kraken", "100000"), row(0, "gemini", "100010"))
        assert sink.answers[0].price == Decimal("100000.00000000")


class TestRefusedQuotes:
    def test_zero_volume_is_not_traded(self) -> None:
        sink, _ = replayed(*three(0, "1e5", "1e5", "1e5"), row(0, "okx", "1e5", volume="0"))
        assert sink.codes() == [(0, "okx", FailureCode.NOT_TRADED)]
        assert sink.answers[0].sources == 3

    def test_an_unknown_volume_is_not_held_against_a_quote(self) -> None:
        sink, _ = replayed(*(row(0, name, "1e5", volume=None) for name in ("kraken", "gemini", "bitstamp")))
        assert sink.answers[0].sources == 3

    @pytest.mark.parametrize("price", ["0", "-1", "NaN", "Infinity", "1e40"])
    def test_a_price_that_can_be_none_is_refused_and_takes_its_markets_place(self, price: str) -> None:
        sink, _ = replayed(*three(0, "1e5", "1e5", "1e5"), row(500, "kraken", price), row(1_000, "gemini", "1e5"))
        assert sink.codes() == [(500, "kraken", FailureCode.INVALID_PRICE)]
        assert [each.sources for each in sink.answers] == [3, 2]

    def test_an_outlier_is_refused_and_a_quote_is_refused_once_for_each_reason(self) -> None:
        wild = [row(0, "okx", "140000")]
        sink, _ = replayed(*three(0, "100000", "100010", "100020"), *wild, row(5_000, "kraken", "100000"))
        assert sink.codes() == [(0, "okx", FailureCode.OUTLIER), (0, "okx", FailureCode.JUMP)]
        assert {each.sources for each in sink.answers} == {3}

    def test_the_last_answer_judges_the_next_quotes(self) -> None:
        """Two camps of two: without a last answer neither is right; with one, the camp near it is."""
        camps = [row(1_000, "kraken", "100000"), row(1_000, "gemini", "100010")]
        camps += [row(1_000, "okx", "120000"), row(1_000, "bitfinex", "120010")]
        sink, _ = replayed(*camps)
        assert sink.answers[0].price is None
        sink, _ = replayed(*three(0, "100000", "100010", "100020"), *camps)
        assert sink.answers[1].price == Decimal("100010.00000000")
        assert {code for _, source, code in sink.codes() if source in ("okx", "bitfinex")} == {FailureCode.JUMP}

    def test_an_old_quote_expires(self) -> None:
        later = [row(61_000, name, "100000") for name in ("kraken", "gemini", "bitstamp")]
        sink, _ = replayed(row(0, "okx", "100000"), *three(0, "1e5", "1e5", "1e5"), *later)
        assert (0, "okx", FailureCode.EXPIRED) in sink.codes()

    def test_a_price_that_never_moves_freezes(self) -> None:
        feed = Feed(pair=BTC, fresh_unchanged_ms=5_000, max_unchanged_ms=10_000)
        rows = [
            row(step * 1_000, name, "100000" if name == "okx" else str(100_000 + step))
            for step in range(15)
            for name in ("okx", "kraken", "gemini", "bitstamp")
        ]
        sink, _ = replayed(*rows, feeds=(feed,))
        assert (11_000, "okx", FailureCode.FROZEN) in sink.codes()

    def test_an_alias_and_a_currency_without_a_way_are_refused_for_what_they_are(self) -> None:
        assert CATALOGUE["coinbase"].alias_of("BTC/USDC") == BTC
        odd = [row(0, "coinbase", "1e5", "BTC/USDC"), row(0, "kraken", "1e5", "BTC/EUR")]
        sink, _ = replayed(*odd, *(row(0, name, "1e5") for name in ("gemini", "bitstamp", "okx")))
        assert sink.codes() == [
            (0, "coinbase", FailureCode.DEPENDENT),
            (0, "kraken", FailureCode.NO_CONVERSION),
        ]

    def test_rows_of_other_pairs_are_counted_and_nothing_else(self) -> None:
        sink, run = replayed(*three(0, "1e5", "1e5", "1e5"), row(0, "kraken", "3000", "ETH/USD"))
        assert (run.rows, run.unused, sink.rejected) == (4, 1, [])

    def test_a_late_row_speaks_for_its_own_time(self) -> None:
        early = row(-70_000, "okx", "1e5")
        sink, run = replayed(*three(0, "1e5", "1e5", "1e5"), early)
        assert run.late == 1
        assert [(source, code) for _, source, code in sink.codes()] == [("okx", FailureCode.EXPIRED)]


class TestConversion:
    def test_quotes_in_a_coin_are_converted_by_the_files_own_rates(self) -> None:
        rates = [row(0, name, "0.9", "USDT/USD") for name in ("kraken", "gemini")]
        coins = [row(0, name, "100000", "BTC/USDT") for name in ("binance", "okx", "bybit")]
        sink, _ = replayed(*rates, *coins)
        assert sink.answers[0].price == Decimal("90000.00000000")

    def test_without_a_rate_they_are_left_out(self) -> None:
        sink, _ = replayed(*(row(0, name, "100000", "BTC/USDT") for name in ("binance", "okx", "bybit")))
        assert sink.answers[0].price is None
        assert {code for *_, code in sink.codes()} == {FailureCode.NO_CONVERSION}


class TestReferences:
    MIXED = (*three(0, "100000", "100000", "100000"), row(0, "okx", "101000"), row(0, "bitfinex", "99900"))

    def test_the_error_is_counted_against_the_reference(self) -> None:
        _, run = replayed(*self.MIXED, references=[Market("bitfinex", BTC)])
        errors = run.summaries[BTC].errors
        assert (errors.percentile(50), errors.count) == (Decimal("10.01"), 1)
        assert errors.max == Decimal(100) * 10_000 / Decimal(99_900)

    def test_of_several_references_their_lower_median(self) -> None:
        named = [Market("bitfinex", BTC), Market("okx", BTC), Market("kraken", BTC)]
        _, run = replayed(*self.MIXED, references=named)
        assert run.summaries[BTC].errors.max == 0

    def test_an_excluded_reference_is_compared_with_and_does_not_answer(self) -> None:
        near = [row(0, "kraken", "100000"), row(0, "gemini", "100010"), row(0, "bitstamp", "100020")]
        own, _ = replayed(*near, references=[Market("kraken", BTC)])
        sink, run = replayed(*near, references=[Market("kraken", BTC)], exclude_references=True)
        assert (own.answers[0].price, own.answers[0].sources) == (Decimal("100010.00000000"), 3)
        assert (sink.answers[0].price, sink.answers[0].sources) == (Decimal("100010.00000000"), 2)
        assert run.summaries[BTC].errors.max == Decimal(1)
        assert sink.rejected == []

    def test_a_reference_in_a_coin_is_converted(self) -> None:
        rates = [row(0, name, "0.9", "USDT/USD") for name in ("kraken", "gemini")]
        coin = row(0, "binance", "100000", "BTC/USDT")
        prices = three(0, "90000", "90000", "90000")
        market = Market("binance", Pair("BTC/USDT"))
        _, run = replayed(*rates, coin, *prices, references=[market])
        assert (run.summaries[BTC].errors.count, run.summaries[BTC].errors.max) == (1, 0)

    def test_where_the_reference_shows_nothing_nothing_is_compared(self) -> None:
        _, run = replayed(*three(0, "1e5", "1e5", "1e5"), references=[Market("okx", BTC)])
        assert (run.summaries[BTC].errors.count, run.summaries[BTC].without_reference) == (0, 1)

    def test_a_reference_of_another_base_is_refused(self) -> None:
        with pytest.raises(ReplayError, match="prices none of the feeds"):
            replayed(references=[Market("kraken", Pair("ETH/USD"))])

    def test_a_percentile_is_rounded_as_the_greatest_error_is(self) -> None:
        summary = replayed()[1].summaries[BTC]
        summary.note(Decimal("100004.476"), Quality.OK, [Decimal(100_000)])
        assert summary.errors.max == Decimal("0.4476")
        assert summary.errors.percentile(50) == Decimal("0.45")

    @given(st.lists(st.integers(90_000, 110_000), min_size=1, max_size=60), st.integers(1, 100))
    def test_a_percentile_is_one_of_the_errors_to_a_hundredth(self, answers: list[int], percent: int) -> None:
        summary = replayed()[1].summaries[BTC]
        for answer in answers:
            summary.note(Decimal(answer), Quality.OK, [Decimal(100_000)])
        errors = sorted(Decimal(abs(answer - 100_000)) / 10 for answer in answers)
        assert summary.errors.percentile(percent) == errors[-(-len(errors) * percent // 100) - 1]


def depeg(victim: str) -> Iterator[Row]:
    """The story of `tests.support.depeg` as rows: five markets in dollars and coins, three of each rate, the truth."""
    story = Story(victim, seed=21)
    markets = [("binance", "BTC/USDT"), ("okx", "BTC/USDT"), ("kraken", "BTC/USDC"), ("bybit", "BTC/USDC")]
    markets += [(name, pair) for name in ("bitstamp", "gemini", "cryptocom") for pair in ("USDT/USD", "USDC/USD")]
    for step in range(0, STEPS, 2):
        at = step * STEP_MS
        for index, (source, pair) in enumerate(markets):
            price = story.price(Pair(pair), max(0, at - 500 * index)) * (1 + Decimal(index % 5 - 2) / 20_000)
            yield row(at, source, f"{price:.8f}", pair)
        yield row(at, "truth", f"{story.price(BTC, at):.8f}")


@pytest.mark.parametrize("victim", ["USDC", "USDT"])
def test_a_coin_that_loses_its_peg_does_not_take_the_answer_along(victim: str) -> None:
    """Every quote is in a coin; one falls to 0.86. The truth is in the file, and kept out of the answer."""
    step = STEP_MS * 2
    truth = Market("truth", BTC)
    sink, run = replayed(*depeg(victim), every_ms=step, references=[truth], exclude_references=True)
    errors = run.summaries[BTC].errors
    assert errors.count == len(sink.answers) > STEPS // 2 - 2
    assert errors.max is not None and errors.max <= 20
    assert Story(victim, seed=21).worth(victim, (DOWN + BOTTOM // 2) * STEP_MS) < Decimal("0.88")


def test_the_same_rows_give_the_same_answers() -> None:
    first, second = (replayed(*depeg("USDC"), every_ms=20_000)[0] for _ in range(2))
    assert first.answers == second.answers
    assert first.rejected == second.rejected
