"""Every venue answers in its exchange's own format, and the catalogue reads back the very numbers that went in."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.codec import decode_digits
from core.types import Pair
from simulator.venues import VENUES, Market, Venue
from simulator.venues.shape import text
from sources import ParseError, SourceEntry, load_catalogue, parse_ticker

CATALOGUE = load_catalogue()
DOCUMENTED = Path(__file__).parents[2] / "fixtures" / "tickers"
NOW_MS = 1_710_328_245_391
SERVED = [(name, pair) for name, entry in CATALOGUE.items() for pair in entry.pairs if not entry.is_inverse(pair)]
INVERSE = [(name, pair) for name, entry in CATALOGUE.items() for pair in entry.pairs if entry.is_inverse(pair)]


def market(name: str, pair: Pair, last: str = "65000.12", bid: str = "64999.1", ask: str = "65001.25") -> Market:
    symbol = CATALOGUE[name].symbol(pair)
    return Market(pair, symbol, Decimal(last), Decimal(bid), Decimal(ask), NOW_MS)


def shape(value: Any) -> Any:
    """Keys, nesting and JSON types, without the values."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, (int, Decimal)) else type(value).__name__


def rendered_shape(name: str, pair: Pair) -> Any:
    return shape(decode_digits(VENUES[name].render(market(name, pair))))


def test_every_source_of_the_catalogue_can_be_simulated() -> None:
    assert sorted(CATALOGUE) == sorted(VENUES)


def test_a_venue_goes_by_the_name_of_its_module() -> None:
    assert all(venue.body.__module__ == f"simulator.venues.{name}" for name, venue in VENUES.items())


@pytest.mark.needs_recordings
@pytest.mark.parametrize(
    "name",
    ["binance", "bitfinex", "bitso", "bitstamp", "coinbase", "gate", "gemini", "kraken", "luno", "okx"],
)
def test_a_simulated_body_has_the_keys_and_types_of_the_recorded_one(name: str, recordings: Path) -> None:
    file = decode_digits((recordings / "ticker_responses" / f"{name}.json").read_bytes())
    recorded = shape(file["response"])
    simulated = rendered_shape(name, Pair(file["symbol"]))
    if name == "okx":  # recorded from its websocket, whose envelope differs; the item is the same
        recorded, simulated = recorded["data"], simulated["data"]
    assert simulated == recorded


@pytest.mark.parametrize("path", sorted(DOCUMENTED.glob("*.json")), ids=lambda path: path.stem)
def test_a_simulated_body_has_the_keys_and_types_of_the_documented_one(path: Path) -> None:
    file = decode_digits(path.read_bytes())
    assert rendered_shape(file["exchange"], Pair(file["symbol"])) == shape(file["response"])


def test_every_format_stands_against_a_recorded_or_a_documented_body() -> None:
    documented = {path.stem for path in DOCUMENTED.glob("*.json")}
    assert {name for name, entry in CATALOGUE.items() if entry.verified == "documented"} == documented


@pytest.mark.parametrize(("name", "pair"), SERVED, ids=str)
def test_the_catalogue_reads_back_what_was_rendered(name: str, pair: Pair) -> None:
    venue, entry = VENUES[name], CATALOGUE[name]
    shown = market(name, pair)
    ticker = parse_ticker(entry, pair, venue.render(shown))
    assert ticker.last == shown.last
    assert (ticker.bid, ticker.ask) == ((shown.bid, shown.ask) if venue.book else (None, None))
    if venue.time:
        assert ticker.time_ms is not None
        assert 0 <= NOW_MS - ticker.time_ms < 1000  # some write whole seconds
    else:
        assert ticker.time_ms is None


@pytest.mark.parametrize(("name", "pair"), INVERSE, ids=str)
def test_the_catalogue_turns_over_what_is_listed_the_other_way_round(name: str, pair: Pair) -> None:
    venue, entry = VENUES[name], CATALOGUE[name]
    listed = Market(Pair.of(pair.quote, pair.base), entry.symbol(pair), Decimal("1.25"), Decimal(1), Decimal(2), NOW_MS)
    ticker = parse_ticker(entry, pair, venue.render(listed))
    assert ticker.last == Decimal("0.8")
    assert (ticker.bid, ticker.ask) == ((Decimal("0.5"), Decimal(1)) if venue.book else (None, None))
    assert venue.symbol_asked(entry.request_path(pair)) == entry.symbol(pair)


@given(
    st.sampled_from(SERVED),
    st.decimals(min_value=Decimal("0.00000001"), max_value=Decimal(10) ** 8, places=8),
)
def test_no_digit_is_lost_whatever_the_price(served: tuple[str, Pair], last: Decimal) -> None:
    name, pair = served
    shown = market(name, pair, str(last), str(last), str(last))
    assert parse_ticker(CATALOGUE[name], pair, VENUES[name].render(shown)).last == last


@pytest.mark.parametrize(("name", "pair"), SERVED, ids=str)
def test_the_catalogue_asks_where_the_exchange_answers(name: str, pair: Pair) -> None:
    entry = CATALOGUE[name]
    assert VENUES[name].symbol_asked(entry.request_path(pair)) == entry.symbol(pair)


@pytest.mark.parametrize("name", sorted(VENUES))
def test_an_unknown_symbol_is_refused_in_a_way_that_gives_no_price(name: str) -> None:
    entry: SourceEntry = CATALOGUE[name]
    status, body = VENUES[name].render_refusal("nosuchthing", NOW_MS)
    if status == 200:
        with pytest.raises(ParseError):
            parse_ticker(entry, entry.pairs[0], body)
    else:
        assert status in {400, 404}
        assert isinstance(decode_digits(body), dict)


@pytest.mark.parametrize("name", sorted(VENUES))
def test_zeros_are_rendered_too(name: str) -> None:
    entry = CATALOGUE[name]
    body = VENUES[name].render(market(name, entry.pairs[0], "0", "0", "0"))
    with pytest.raises(ParseError) as caught:
        parse_ticker(entry, entry.pairs[0], body)
    assert caught.value.code == "invalid_price"


def some_venue(**changes: Any) -> Venue:
    fields: dict[str, Any] = {"name": "x", "path": "/t", "body": lambda _m: {}, "refuse": lambda _s, _n: (404, {})}
    return Venue(**(fields | changes))


def targets() -> Iterator[tuple[Venue, str, str | None]]:
    by_query = some_venue(symbol_in="s", needs={"kind": "spot"})
    yield by_query, "/t?kind=spot&s=BTC-USD", "BTC-USD"
    yield by_query, "/t?s=BTC-USD&more=1&kind=spot", "BTC-USD"
    yield by_query, "/t?s=BTC-USD", None
    yield by_query, "/t?kind=spot", None
    yield by_query, "/u?kind=spot&s=BTC-USD", None
    by_path = some_venue(path="/p/{symbol}/ticker")
    yield by_path, "/p/BTC-USD/ticker", "BTC-USD"
    yield by_path, "/p/doge%3Ausd/ticker?x=1", "doge:usd"
    yield by_path, "/p/a/b/ticker", None
    yield by_path, "/p//ticker", None
    yield by_path, "/p/ticker", None


@pytest.mark.parametrize(("venue", "target", "symbol"), list(targets()))
def test_which_symbol_a_request_asks_for(venue: Venue, target: str, symbol: str | None) -> None:
    assert venue.symbol_asked(target) == symbol


def test_what_is_no_ticker_is_not_found() -> None:
    assert VENUES["binance"].render_refusal(None, NOW_MS) == (404, b'{"error":"Not Found"}')


@pytest.mark.parametrize(
    ("number", "places", "written"),
    [("65000.12", 0, "65000.12"), ("65000.12", 5, "65000.12000"), ("1E-8", 0, "0.00000001"), ("1E+3", 0, "1000")],
)
def test_numbers_are_written_in_digits(number: str, places: int, written: str) -> None:
    assert text(Decimal(number), places) == written
