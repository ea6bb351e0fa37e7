"""From a body's bytes to a ticker, by value; and every way in which a body is none."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.types import FailureCode
from sources import ParseError, SourceEntry, Ticker, load_catalogue, parse_ticker
from sources.errors import EmptyBodyError, InvalidNumberError, MalformedBodyError
from sources.parse import MAX_BODY_BYTES, MAX_VOLUME, turned_over

CATALOGUE = load_catalogue()
FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "tickers"
RECORDED = ("binance", "bitfinex", "bitso", "bitstamp", "coinbase", "gate", "gemini", "kraken", "luno", "okx")
DOCUMENTED = tuple(sorted(file.stem for file in FIXTURES.glob("*.json")))


class Body(msgspec.Struct):
    """A recorded or documented body: its bytes as they stand in the file."""

    exchange: str
    symbol: str
    response: msgspec.Raw
    expected: dict[str, Decimal | None]


def read(file: Path) -> Body:
    return msgspec.json.decode(file.read_bytes(), type=Body)


def assert_read_as_expected(body: Body) -> None:
    ticker = parse_ticker(CATALOGUE[body.exchange], body.symbol, bytes(body.response))
    read_out = {"last": ticker.last, "bid": ticker.bid, "ask": ticker.ask, "timestamp": ticker.time_ms}
    if "volume" in body.expected:  # of recorded bodies the library that read them says nothing of it
        read_out["volume"] = ticker.volume
    assert read_out == body.expected


@pytest.mark.needs_recordings
@pytest.mark.parametrize("source", RECORDED)
def test_a_recorded_body_is_read_as_an_independent_library_reads_it(source: str, recordings: Path) -> None:
    assert_read_as_expected(read(recordings / "ticker_responses" / f"{source}.json"))


@pytest.mark.parametrize("source", DOCUMENTED)
def test_a_documented_body_is_read_as_its_documentation_says(source: str) -> None:
    assert_read_as_expected(read(FIXTURES / f"{source}.json"))


BINANCE = {
    "symbol": "BTCUSDT",
    "lastPrice": "73369.84",
    "bidPrice": "73369.83",
    "askPrice": "73369.85",
    "closeTime": 1710328245391,
}


def binance(**changes: object) -> Ticker:
    return parse_ticker(CATALOGUE["binance"], "BTC/USDT", json.dumps(BINANCE | changes).encode())


def test_a_price_is_its_digits_whether_text_or_number() -> None:
    assert binance(lastPrice="73369.840000001").last == Decimal("73369.840000001")
    body = json.dumps(BINANCE).replace('"73369.84"', "73369.840000000000000001").encode()
    assert parse_ticker(CATALOGUE["binance"], "BTC/USDT", body).last == Decimal("73369.840000000000000001")
    assert binance(lastPrice="7.336984e4").last == Decimal("73369.84")
    assert binance(lastPrice=73369).last == Decimal(73369)


@pytest.mark.parametrize(
    "value", ["0", "0.00000000", 0, "-1", "-0.5", "NaN", "nan", "Infinity", "-inf", "1e99", "1e-99", "9" * 30]
)
@pytest.mark.parametrize("field", ["lastPrice", "bidPrice", "askPrice"])
def test_what_cannot_be_a_price_is_refused(field: str, value: object) -> None:
    with pytest.raises(InvalidNumberError) as caught:
        binance(**{field: value})
    assert caught.value.failure is FailureCode.INVALID_PRICE


@pytest.mark.parametrize(
    "value", ["abc", " 1", "1,000", "0x10", "1_0", "١٢", True, {}, [], "1" * 50, "1e9999", "", None]
)
def test_what_is_no_number_is_malformed(value: object) -> None:
    with pytest.raises(MalformedBodyError) as caught:
        binance(lastPrice=value)
    assert caught.value.failure is FailureCode.MALFORMED


@pytest.mark.parametrize("body", [b"", b"  \n", b"null", b"{}", b"[]", b'""', b'{"other": 1}', b'{"lastPrice": null}'])
def test_a_body_with_no_price_in_it_is_empty(body: bytes) -> None:
    with pytest.raises(EmptyBodyError) as caught:
        parse_ticker(CATALOGUE["binance"], "BTC/USDT", body)
    assert caught.value.failure is FailureCode.EMPTY


@pytest.mark.parametrize(
    "body", [b"<html>", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 5_000, b"1" * 10_000, b"1e99999999999999999999"]
)
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBodyError):
        parse_ticker(CATALOGUE["binance"], "BTC/USDT", body)


def test_a_body_longer_than_any_ticker_is_not_even_decoded() -> None:
    with pytest.raises(MalformedBodyError, match="more than a ticker's"):
        parse_ticker(CATALOGUE["binance"], "BTC/USDT", b" " * (MAX_BODY_BYTES + 1))


def test_a_body_about_another_symbol_is_refused() -> None:
    with pytest.raises(MalformedBodyError, match="asked for BTCUSDT, and the body is about 'ETHUSDT'"):
        binance(symbol="ETHUSDT")


def test_a_kraken_body_for_another_pair_has_no_price_for_ours() -> None:
    body = b'{"error":[],"result":{"XETHZUSD":{"a":["1"],"b":["1"],"c":["1"]}}}'
    with pytest.raises(EmptyBodyError):
        parse_ticker(CATALOGUE["kraken"], "BTC/USD", body)


@pytest.mark.parametrize(
    ("source", "pair", "body", "message"),
    [
        ("kraken", "BTC/USD", {"error": ["EQuery:Unknown asset pair"]}, "EQuery:Unknown asset pair"),
        ("okx", "BTC/USDT", {"code": "51001", "msg": "Instrument ID does not exist", "data": []}, "does not exist"),
        ("bybit", "BTC/USDT", {"retCode": 10001, "retMsg": "Not supported symbols", "result": {}}, "Not supported"),
        ("kucoin", "BTC/USDT", {"code": "400100", "msg": "symbol not exists"}, "symbol not exists"),
        ("bitget", "BTC/USDT", {"code": "40034", "msg": "Parameter does not exist"}, "does not exist"),
        ("cryptocom", "BTC/USD", {"code": 40004, "message": "Invalid input"}, "Invalid input"),
        ("cryptocom", "BTC/USD", {"code": "40001", "message": "BAD_REQUEST"}, "BAD_REQUEST"),
        ("gemini", "BTC/USD", {"result": "error", "reason": "Bad", "message": "Supplied value"}, "Supplied value"),
        ("bitso", "BTC/USDT", {"success": False, "error": {"message": "Unknown OrderBook"}}, "Unknown OrderBook"),
        ("htx", "BTC/USDT", {"status": "error", "err-msg": "invalid symbol", "ts": 1}, "invalid symbol"),
        (
            "whitebit",
            "BTC/USDT",
            {"success": False, "message": {"market": ["Not available"]}, "result": []},
            "Not avail",
        ),
        ("whitebit", "BTC/USDT", {"success": False, "message": "", "result": []}, "refused"),
        ("btcturk", "BTC/USDT", {"success": False, "message": "INVALID_PAIR", "code": 1000}, "INVALID_PAIR"),
        ("bigone", "BTC/USDT", {"code": 10013, "message": "Resource not found"}, "Resource not found"),
        ("deribit", "BTC/USD", {"jsonrpc": "2.0", "error": {"message": "Invalid params"}}, "Invalid params"),
        ("independentreserve", "BTC/USD", {"SecondaryCurrencyCode": "Aud", "LastPrice": 1}, "not in USD"),
        ("independentreserve", "BTC/USD", {"Message": "Unknown code"}, "Unknown code"),
        ("dia", "BTC/USD", {"errorcode": 404, "errormessage": "no quotation"}, "no quotation"),
        ("coingecko", "BTC/USD", {"status": {"error_code": 429, "error_message": "Rate Limit"}}, "Rate Limit"),
    ],
)
def test_an_error_under_status_200_is_told_in_the_sources_words(
    source: str, pair: str, body: dict[str, object], message: str
) -> None:
    with pytest.raises(MalformedBodyError, match=message):
        parse_ticker(CATALOGUE[source], pair, json.dumps(body).encode())


def test_the_number_and_the_text_form_of_crypto_coms_envelope_are_both_read() -> None:
    response = json.loads((FIXTURES / "cryptocom.json").read_bytes())["response"]
    response |= {"id": "-1", "code": "0"}
    response["result"]["data"][0]["t"] = "1613580710768"
    ticker = parse_ticker(CATALOGUE["cryptocom"], "BTC/USD", json.dumps(response).encode())
    assert ticker.time_ms == 1613580710768


def timed(unit: str, value: object) -> int | None:
    entry = SourceEntry.model_validate(
        CATALOGUE["binance"].model_dump()
        | {"ticker": {"path": "/{symbol}", "last": "p", "time": "t", "time_unit": unit}}
    )
    return parse_ticker(entry, "BTC/USDT", json.dumps({"p": "1", "t": value}).encode()).time_ms


@pytest.mark.parametrize(
    ("unit", "value"),
    [
        ("s", 1710328265),
        ("s", "1710328265"),
        ("s", "1710328265.0009"),
        ("ms", 1710328265000),
        ("us", "1710328265000999"),
        ("ns", 1710328265000999999),
        ("iso8601", "2024-03-13T11:11:05Z"),
        ("iso8601", "2024-03-13T11:11:05.000999Z"),
        ("iso8601", "2024-03-13T12:11:05+01:00"),
    ],
)
def test_a_time_is_read_in_the_declared_unit_and_rounded_down(unit: str, value: object) -> None:
    assert timed(unit, value) == 1710328265000


@pytest.mark.parametrize(
    ("unit", "value"),
    [
        ("s", 1710328265000),  # milliseconds
        ("ms", 1710328265),  # seconds
        ("ms", None),
        ("ms", "now"),
        ("ms", -1),
        ("s", "1e300"),
        ("iso8601", "2024-03-13T11:11:05"),  # whose time?
        ("iso8601", "yesterday"),
        ("iso8601", 1710328265),
        ("iso8601", "0001-01-01T00:00:00+23:59"),
    ],
)
def test_a_time_in_another_unit_is_malformed_rather_than_believed(unit: str, value: object) -> None:
    with pytest.raises(MalformedBodyError, match="time"):
        timed(unit, value)


def example(**changes: object) -> SourceEntry:
    ticker = {"path": "/{symbol}", "last": "p", "bid": "b", "ask": "a", "volume": "v"}
    return SourceEntry.model_validate(CATALOGUE["binance"].model_dump() | {"ticker": ticker} | changes)


def with_volume(value: object) -> Decimal | None:
    body = json.dumps({"p": "2", "b": "2", "a": "4", "v": value}).encode()
    return parse_ticker(example(), "BTC/USDT", body).volume


def test_a_volume_may_be_there_be_zero_or_be_missing() -> None:
    assert with_volume("12.500") == Decimal("12.5")
    assert with_volume(0) == 0
    assert with_volume("1e20") == MAX_VOLUME
    assert with_volume(None) is None
    assert with_volume("") is None
    assert binance().volume is None


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("-1", InvalidNumberError),
        ("NaN", InvalidNumberError),
        ("1e21", InvalidNumberError),
        ("many", MalformedBodyError),
    ],
)
def test_what_cannot_be_a_volume_is_refused(value: object, error: type[ParseError]) -> None:
    with pytest.raises(error, match="volume"):
        with_volume(value)


def test_a_market_listed_the_other_way_round_is_turned_over() -> None:
    entry = example(symbols={"BTC/USDT": True}, inverse={"USDC/USDT": True})
    body = json.dumps({"p": "2", "b": "1.6", "a": "4", "v": "10"}).encode()
    assert parse_ticker(entry, "USDC/USDT", body) == Ticker(
        last=Decimal("0.5"), bid=Decimal("0.25"), ask=Decimal("0.625"), volume=Decimal(20)
    )


@given(st.lists(st.decimals(min_value="0.00000001", max_value="1000000000", places=8), min_size=3, max_size=3))
def test_turned_over_twice_a_ticker_is_itself_and_its_book_stays_in_order(prices: list[Decimal]) -> None:
    bid, last, ask = sorted(prices)
    ticker = Ticker(last=last, bid=bid, ask=ask, time_ms=1710328265000, volume=Decimal(3))
    over = turned_over(ticker)
    assert over.bid is not None
    assert over.ask is not None
    assert over.bid <= over.last <= over.ask
    back = turned_over(over)
    for mine, was in ((back.last, last), (back.bid, bid), (back.ask, ask)):
        assert mine is not None
        assert abs(mine - was) <= was * Decimal("1e-26")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(source=st.sampled_from(sorted(CATALOGUE)), body=st.binary(max_size=200))
def test_arbitrary_bytes_never_raise_anything_but_a_parse_error(source: str, body: bytes) -> None:
    entry = CATALOGUE[source]
    try:
        parse_ticker(entry, entry.pairs[0], body)
    except ParseError as error:
        assert isinstance(error.failure, FailureCode)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            key: json_values
            for key in ("symbol", "lastPrice", "bidPrice", "askPrice", "closeTime", "data", "result", "error", "msg")
        },
    ),
    st.sampled_from(sorted(CATALOGUE)),
)
def test_arbitrary_json_gives_a_ticker_of_real_prices_or_a_parse_error(tree: dict[str, object], source: str) -> None:
    entry = CATALOGUE[source]
    try:
        ticker = parse_ticker(entry, entry.pairs[0], json.dumps(tree).encode())
    except ParseError:
        return
    assert ticker.last > 0


@given(st.decimals(min_value="0.000001", max_value="1000000000", places=8).filter(lambda d: d > 0))
def test_every_price_survives_to_the_last_digit(price: Decimal) -> None:
    assert binance(lastPrice=str(price)).last == price
