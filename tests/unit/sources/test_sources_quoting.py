"""The written rule from a ticker to a quote: age, book, price, range."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.types import FailureCode, Pair, Quote, SourceFailure
from sources import Ticker, judge, load_catalogue, parse_ticker

NOW = 1_710_328_245_000  # 2024-03-13T11:10:45Z
PAIR = Pair("BTC/USDT")


def ticker(last: str, bid: str | None = None, ask: str | None = None, time_ms: int | None = NOW) -> Ticker:
    return Ticker(last=Decimal(last), bid=bid and Decimal(bid), ask=ask and Decimal(ask), time_ms=time_ms)


def judged(what: Ticker, **changes: object) -> Quote | SourceFailure:
    rules: dict[str, object] = {
        "received_ms": NOW,
        "moment_ms": NOW,
        "max_age_ms": 60_000,
        "max_spread_bps": 150,
        "min_price": Decimal(1_000),
        "max_price": Decimal(10_000_000),
    }
    return judge(what, "venue", PAIR, **(rules | changes))  # type: ignore[arg-type]


def price_of(what: Ticker, **changes: object) -> Decimal:
    quote = judged(what, **changes)
    assert isinstance(quote, Quote), quote
    return quote.price


def code_of(what: Ticker, **changes: object) -> FailureCode:
    failure = judged(what, **changes)
    assert isinstance(failure, SourceFailure), failure
    return failure.code


def test_a_last_trade_within_the_book_is_the_price() -> None:
    assert price_of(ticker("70000", "69999", "70001")) == 70000
    assert price_of(ticker("69999", "69999", "70001")) == 69999
    assert price_of(ticker("70001", "69999", "70001")) == 70001


def test_a_last_trade_outside_the_book_is_old_and_the_mid_is_the_price() -> None:
    """Bitstamp, 2024-03-13: the last trade 68 below the bid."""
    assert price_of(ticker("73285", "73353", "73367")) == 73360


def test_without_a_book_the_last_trade_is_all_there_is() -> None:
    assert price_of(ticker("70000")) == 70000


def test_the_quote_keeps_what_it_was_made_of() -> None:
    assert judged(ticker("73285", "73353", "73367", NOW - 4_000), received_ms=NOW + 30) == Quote(
        pair=PAIR,
        source="venue",
        price=Decimal(73360),
        received_ms=NOW + 30,
        source_time_ms=NOW - 4_000,
        bid=Decimal(73353),
        ask=Decimal(73367),
        last=Decimal(73285),
    )


def test_a_crossed_book_is_refused_and_a_locked_one_is_not() -> None:
    assert code_of(ticker("70000", "70001", "70000")) is FailureCode.CROSSED
    assert price_of(ticker("70000", "70000", "70000")) == 70000


def test_a_book_wider_than_the_limit_means_no_price() -> None:
    assert price_of(ticker("10000", "9950", "10050"), max_spread_bps=100) == 10000
    assert code_of(ticker("10000", "9949.99", "10050"), max_spread_bps=100) is FailureCode.WIDE_SPREAD


def test_a_time_before_the_age_limit_has_expired() -> None:
    assert price_of(ticker("70000", time_ms=NOW - 60_000)) == 70000
    assert code_of(ticker("70000", time_ms=NOW - 60_001)) is FailureCode.EXPIRED


def test_age_counts_back_from_the_moment_and_not_from_the_receipt() -> None:
    late = ticker("70000", time_ms=NOW - 59_000)
    assert price_of(late, received_ms=NOW + 30_000) == 70000


def test_without_a_source_time_the_receipt_tells_the_age() -> None:
    silent = ticker("70000", time_ms=None)
    assert price_of(silent, received_ms=NOW - 60_000) == 70000
    assert code_of(silent, received_ms=NOW - 60_001) is FailureCode.EXPIRED


def test_a_future_time_does_not_make_an_old_receipt_young() -> None:
    ahead = ticker("70000", time_ms=NOW - 58_000)
    assert code_of(ahead, received_ms=NOW - 60_001) is FailureCode.EXPIRED


def test_a_clock_a_little_ahead_is_borne_and_one_far_ahead_is_not() -> None:
    """A recorded Binance session runs 1.27 s ahead."""
    assert price_of(ticker("70000", time_ms=NOW + 1_270)) == 70000
    assert price_of(ticker("70000", time_ms=NOW + 5_000)) == 70000
    assert code_of(ticker("70000", time_ms=NOW + 5_001)) is FailureCode.FUTURE


@pytest.mark.parametrize("last", ["999.99", "10000000.01"])
def test_a_price_outside_the_declared_magnitude_is_out_of_range(last: str) -> None:
    assert code_of(ticker(last)) is FailureCode.OUT_OF_RANGE


def test_the_range_is_asked_of_the_price_and_not_of_an_old_last_trade() -> None:
    assert price_of(ticker("1", "70000", "70002")) == 70001


@pytest.mark.needs_recordings
@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("binance", Decimal("73369.84")),
        ("bitfinex", Decimal(73350)),  # last 7 above the ask
        ("bitso", Decimal(73440)),
        ("bitstamp", Decimal(73360)),
        ("coinbase", Decimal("73367.8")),
        ("gate", Decimal("73364.15")),
        ("gemini", Decimal("73376.615")),
        ("kraken", Decimal("73380.6")),
        ("luno", FailureCode.WIDE_SPREAD),
        ("okx", FailureCode.EXPIRED),
    ],
)
def test_the_recorded_minute_of_2024_03_13(source: str, outcome: Decimal | FailureCode, recordings: Path) -> None:
    file = msgspec.json.decode(
        (recordings / "ticker_responses" / f"{source}.json").read_bytes(), type=dict[str, msgspec.Raw]
    )
    read = parse_ticker(load_catalogue()[source], "BTC/USDT", bytes(file["response"]))
    moment = NOW + 20_000 if source == "bitfinex" else NOW  # recorded 21 s after the others
    result = judged(read, received_ms=moment, moment_ms=moment)
    assert (result.price if isinstance(result, Quote) else result.code) == outcome


prices = st.decimals(min_value="1000", max_value="100000", places=2)


@given(last=prices, one=prices, other=prices)
def test_a_price_never_leaves_the_book_it_was_made_of(last: Decimal, one: Decimal, other: Decimal) -> None:
    bid, ask = sorted((one, other))
    result = judged(Ticker(last=last, bid=bid, ask=ask, time_ms=NOW))
    if isinstance(result, Quote):
        assert bid <= result.price <= ask
        assert result.price in (last, (bid + ask) / 2)
        assert (ask - bid) / ((ask + bid) / 2) * 10_000 <= Decimal("150.000001")
    else:
        assert result.code is FailureCode.WIDE_SPREAD


@given(source_time=st.integers(NOW - 200_000, NOW + 20_000), received=st.integers(NOW - 100_000, NOW + 1_000))
def test_nothing_older_than_the_limit_is_ever_quoted(source_time: int, received: int) -> None:
    result = judged(ticker("70000", time_ms=source_time), received_ms=received)
    if isinstance(result, Quote):
        assert NOW - result.as_of_ms() <= 60_000
        assert source_time <= received + 5_000
    else:
        assert result.code in (FailureCode.EXPIRED, FailureCode.FUTURE)
