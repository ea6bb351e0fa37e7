from decimal import Decimal

import pytest

from core.errors import InvalidPriceError
from core.types import Deployment, Feed, Group, Pair, Quote, checked_price


def test_a_pair_has_a_base_a_quote_and_a_slug() -> None:
    pair = Pair("BTC/USD")
    assert (pair.base, pair.quote, pair.slug, str(pair)) == ("BTC", "USD", "BTC-USD", "BTC/USD")
    assert Pair.from_slug("btc-usd") == pair
    assert Pair.of("BTC", "USD") == pair


@pytest.mark.parametrize("text", ["", "BTC", "BTC/", "/USD", "btc/usd", "BTC/USD/EUR", "BTC-USD", "A/USD", "BTC/BTC"])
def test_what_is_no_pair_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not a pair"):
        Pair(text)


@pytest.mark.parametrize("text", ["0", "-1", "NaN", "Infinity", "-Infinity", "1E+16", "1E-16", "sNaN"])
def test_what_cannot_be_a_price_is_refused(text: str) -> None:
    with pytest.raises(InvalidPriceError):
        checked_price(Decimal(text))


@pytest.mark.parametrize("text", ["1E+15", "1E-15", "73369.84"])
def test_prices_keep_their_digits(text: str) -> None:
    assert str(checked_price(Decimal(text))) == str(Decimal(text))


def test_moments_lie_on_the_groups_grid() -> None:
    group = Group(name="majors", feeds=(Feed(pair=Pair("BTC/USD")),), grid_ms=10)
    assert group.moment_at(1_710_328_245_397) == 1_710_328_245_390
    assert group.moment_at(1_710_328_245_390) == 1_710_328_245_390


def test_a_quote_speaks_for_the_sources_time_but_never_for_the_future() -> None:
    def quote(source_time_ms: int | None) -> Quote:
        return Quote(
            pair=Pair("BTC/USD"), source="kraken", price=Decimal(1), received_ms=1_000, source_time_ms=source_time_ms
        )

    assert quote(400).as_of_ms() == 400
    assert quote(2_270).as_of_ms() == 1_000
    assert quote(None).as_of_ms() == 1_000


def test_deployments_differ_when_the_history_does() -> None:
    address = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
    one = Deployment(chain_id=31337, address=address, block_hash="0x" + "11" * 32)
    other = Deployment(chain_id=31337, address=address, block_hash="0x" + "22" * 32)
    assert one.id == "31337:0x5fbdb2315678afecb367f032d93f642f64180aa3:0x1111111111111111"
    assert other.id != one.id
