"""The simulated market: deterministic, bounded, near one truth, and in sensible steps."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.types import Pair
from simulator.prices import BOUND_BPS, STARTS, UNLISTED_START, PriceModel, VenueQuote, quantum

BPS = Decimal(10_000)
ticks = st.integers(min_value=0, max_value=10**11)
seeds = st.integers(min_value=0, max_value=2**32)
currencies = st.sampled_from(sorted(STARTS))
venues = st.sampled_from(["binance", "kraken", "okx"])
pairs = st.sampled_from(
    [Pair(text) for text in ("BTC/USD", "BTC/USDT", "ETH/USDC", "DOGE/USDT", "TON/USD", "USDT/USD", "USDC/USDT")]
)


@given(seeds, currencies, ticks)
def test_a_price_depends_on_seed_and_tick_alone(seed: int, currency: str, tick: int) -> None:
    assert PriceModel(seed).true_usd(currency, tick) == PriceModel(seed).true_usd(currency, tick)


@given(seeds, currencies, ticks, st.integers(min_value=0, max_value=1000))
def test_one_tick_moves_a_price_by_no_more_than_the_volatility(
    seed: int, currency: str, tick: int, volatility: int
) -> None:
    model, start = PriceModel(seed, volatility), STARTS[currency]
    step = abs(model.true_usd(currency, tick + 1) - model.true_usd(currency, tick))
    assert step <= start * volatility / BPS + quantum(start)


@given(seeds, currencies, ticks, st.integers(min_value=0, max_value=1000))
def test_no_price_leaves_its_bound(seed: int, currency: str, tick: int, volatility: int) -> None:
    start = STARTS[currency]
    price = PriceModel(seed, volatility).true_usd(currency, tick)
    assert abs(price - start) <= start * BOUND_BPS / BPS + quantum(start)


def test_a_price_does_move() -> None:
    model = PriceModel(seed=1)
    assert len({model.true_usd("BTC", tick) for tick in range(100)}) > 90


def test_another_seed_is_another_market() -> None:
    assert PriceModel(1).true_usd("BTC", 1_000) != PriceModel(2).true_usd("BTC", 1_000)


def test_without_volatility_a_price_stands_at_its_start() -> None:
    assert PriceModel(1, 0).true_usd("ETH", 123_456) == Decimal(3_500)


def test_stablecoins_stay_near_the_dollar_and_are_not_one() -> None:
    model = PriceModel(1)
    for tick in range(0, 100_000, 997):
        assert Decimal("1.0001") < model.true_usd("USDT", tick) < Decimal("1.0007")
        assert Decimal("0.9995") < model.true_usd("USDC", tick) < Decimal("1.0001")


@given(seeds, venues, pairs, ticks)
def test_a_quote_is_ordered_and_within_a_few_bps_of_the_truth(seed: int, venue: str, pair: Pair, tick: int) -> None:
    model = PriceModel(seed)
    quote = model.quote(venue, pair, tick)
    true = model.true_usd(pair.base, tick) / model.true_usd(pair.quote, tick)
    assert 0 < quote.bid <= quote.last <= quote.ask
    assert quote.bid < quote.ask
    for number in (quote.last, quote.bid, quote.ask):
        assert abs(number - true) <= true * 5 / BPS
        assert -int(number.as_tuple().exponent) <= 8
        assert len(number.as_tuple().digits) <= 7


def test_venues_differ() -> None:
    model = PriceModel(1)
    quotes = {venue: model.quote(venue, Pair("BTC/USD"), 7).last for venue in ("kraken", "coinbase", "gemini")}
    assert len(set(quotes.values())) == 3


def test_a_pair_in_usdt_is_priced_in_usdt() -> None:
    pins = {"BTC/USD": Decimal(60_000), "USDT/USD": Decimal("0.5")}
    quote = PriceModel(1).quote("binance", Pair("BTC/USDT"), 1, pins)
    assert abs(quote.last - 120_000) < 120


def test_a_pinned_true_price_stands_whatever_the_tick() -> None:
    pins = {"BTC/USD": Decimal("65000.12")}
    assert {PriceModel(1).true_usd("BTC", tick, pins) for tick in range(50)} == {Decimal("65000.12")}


def test_a_pinned_venue_shows_that_price_exactly_and_only_there() -> None:
    pins = {"kraken:USDT/USD": Decimal(1)}
    quote = PriceModel(1).quote("kraken", Pair("USDT/USD"), 1, pins)
    assert quote.last == 1
    assert quote.bid < 1 < quote.ask
    assert PriceModel(1).quote("coinbase", Pair("USDT/USD"), 1, pins).last != 1


def test_a_currency_that_nobody_listed_has_a_price_too() -> None:
    assert PriceModel(1, 0).true_usd("XRP", 5) == UNLISTED_START


def test_a_quote_wrong_by_a_factor() -> None:
    quote = VenueQuote(Decimal(100), Decimal(99), Decimal(101))
    assert quote.times(Decimal(10)) == VenueQuote(Decimal(1000), Decimal(990), Decimal(1010))
    assert quote.times(Decimal(0)) == VenueQuote(Decimal(0), Decimal(0), Decimal(0))


@pytest.mark.parametrize(
    ("price", "step"), [("65000.12", "0.01"), ("0.15", "0.0000001"), ("1.0004", "0.000001"), ("0.00001", "0.00000001")]
)
def test_price_steps(price: str, step: str) -> None:
    assert quantum(Decimal(price)) == Decimal(step)
