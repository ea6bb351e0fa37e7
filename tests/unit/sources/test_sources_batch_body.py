"""A body with many markets: each wanted ticker by value, and every way in which one, or all of them, is none."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.codec import MAX_DEPTH, check_depth
from core.types import FailureCode, Pair
from simulator.venues import VENUES, Market
from sources import ParseError, SourceEntry, Ticker, load_catalogue, parse_ticker
from sources.batch_body import _check_depth, _object, read_batch
from sources.errors import EmptyBodyError, MalformedBodyError

CATALOGUE = load_catalogue()
BATCHED = sorted(name for name, entry in CATALOGUE.items() if entry.batch is not None)
NOW_MS = 1_710_328_245_391
BTC, ETH, DOGE = Pair("BTC/USDT"), Pair("ETH/USDT"), Pair("DOGE/USDT")
TIME = 1_790_000_000_123


def ticker(last: str, bid: str | None, ask: str | None, time_ms: int | None, volume: str | None) -> Ticker:
    bid_, ask_, volume_ = (None if each is None else Decimal(each) for each in (bid, ask, volume))
    return Ticker(last=Decimal(last), bid=bid_, ask=ask_, time_ms=time_ms, volume=volume_)


def binance_item(symbol: str, last: str) -> dict[str, Any]:
    book = {"bidPrice": "71", "askPrice": "73", "bidQty": "1", "askQty": "1"}
    return {"symbol": symbol, "lastPrice": last, **book, "volume": "9.5", "openTime": TIME - 1, "closeTime": TIME}


READ = ticker("72.5", "71", "73", TIME, "9.5")
WHOLE_SECONDS = ticker("72.5", "71", "73", 1_790_000_000_000, "9.5")
TIMELESS = ticker("72.5", "71", "73", None, "9.5")

# In the documentations' shapes, with a market beside it that nobody asked for.
BODIES: dict[str, tuple[str, Any, Ticker]] = {
    "binance": ("BTC/USDT", [binance_item("ETHUSDT", "1"), binance_item("BTCUSDT", "72.5")], READ),
    "binanceus": ("BTC/USD", [binance_item("BTCUSD", "72.5"), binance_item("ETHUSD", "1")], READ),
    "bigone": (
        "BTC/USDT",
        {
            "code": 0,
            "data": [
                {
                    "asset_pair_name": "BTC-USDT",
                    "bid": {"price": "71", "order_count": 1, "quantity": "0.2"},
                    "ask": {"price": "73", "order_count": 1, "quantity": "2.8"},
                    "close": "72.5",
                    "volume": "9.5",
                },
                {"asset_pair_name": "ONE-USDT", "bid": None, "ask": None, "close": "0", "volume": "0"},
            ],
        },
        TIMELESS,
    ),
    "bitget": (
        "BTC/USDT",
        {
            "code": "00000",
            "msg": "success",
            "requestTime": TIME + 5,
            "data": [
                {"symbol": "ETHUSDT", "lastPr": "0", "ts": "0"},
                {
                    "symbol": "BTCUSDT",
                    "lastPr": "72.5",
                    "bidPr": "71",
                    "askPr": "73",
                    "baseVolume": "9.5",
                    "ts": str(TIME),
                },
            ],
        },
        READ,
    ),
    "bitso": (
        "BTC/USDT",
        {
            "success": True,
            "payload": [
                {"book": "btc_mxn", "last": "1", "created_at": "2026-09-21T14:13:20+00:00"},
                {
                    "book": "btc_usdt",
                    "last": "72.5",
                    "bid": "71",
                    "ask": "73",
                    "volume": "9.5",
                    "created_at": "2026-09-21T14:13:20+00:00",
                },
            ],
        },
        WHOLE_SECONDS,
    ),
    "bitstamp": (
        "BTC/USD",
        [
            {"pair": "BTC/EUR", "last": "1", "timestamp": "1790000000"},
            {"pair": "BTC/USD", "last": "72.5", "bid": "71", "ask": "73", "volume": "9.5", "timestamp": "1790000000"},
        ],
        WHOLE_SECONDS,
    ),
    "btcturk": (
        "BTC/USDT",
        {
            "data": [
                {"pair": "BTCTRY", "timestamp": TIME, "last": 1, "bid": 1, "ask": 1, "volume": 1},
                {"pair": "BTCUSDT", "timestamp": TIME, "last": 72.5, "bid": 71, "ask": 73, "volume": 9.5},
            ],
            "success": True,
            "message": None,
            "code": 0,
        },
        READ,
    ),
    "bybit": (
        "BTC/USDT",
        {
            "retCode": 0,
            "retMsg": "OK",
            "result": {
                "category": "spot",
                "list": [
                    {"symbol": "ETHUSDT", "lastPrice": ""},
                    {
                        "symbol": "BTCUSDT",
                        "lastPrice": "72.5",
                        "bid1Price": "71",
                        "ask1Price": "73",
                        "volume24h": "9.5",
                    },
                ],
            },
            "retExtInfo": {},
            "time": TIME,
        },
        READ,
    ),
    "coingecko": (
        "BTC/USD",
        {
            "bitcoin": {"usd": 72.5, "last_updated_at": 1_790_000_000},
            "tether": {"usd": 1, "last_updated_at": 1_790_000_000},
        },
        ticker("72.5", None, None, 1_790_000_000_000, None),
    ),
    "cryptocom": (
        "BTC/USD",
        {
            "id": -1,
            "method": "public/get-tickers",
            "code": 0,
            "result": {
                "data": [
                    {"i": "BTCUSD-PERP", "a": "1", "t": TIME},
                    {"i": "BTC_USD", "a": "72.5", "b": "71", "k": "73", "v": "9.5", "t": TIME},
                ]
            },
        },
        READ,
    ),
    "gate": (
        "BTC/USDT",
        [
            {"currency_pair": "KFC_USDT", "last": "7", "lowest_ask": "", "highest_bid": ""},
            {
                "currency_pair": "BTC_USDT",
                "last": "72.5",
                "lowest_ask": "73",
                "highest_bid": "71",
                "base_volume": "9.5",
            },
        ],
        TIMELESS,
    ),
    "hitbtc": (
        "BTC/USDT",
        {
            "BTCUSDT": {
                "ask": "73",
                "bid": "71",
                "last": "72.5",
                "volume": "9.5",
                "timestamp": "2026-09-21T14:13:20.123Z",
            },
            "ETHUSDT": {"ask": None, "bid": None, "last": None},
        },
        READ,
    ),
    "htx": (
        "BTC/USDT",
        {
            "data": [
                {"symbol": "hbcbtc", "close": 5.175e-5, "amount": 1.5, "bid": 5.126e-5, "ask": 5.214e-5},
                {"symbol": "btcusdt", "close": 72.5, "amount": 9.5, "bid": 71, "bidSize": 1, "ask": 73, "askSize": 2},
            ],
            "status": "ok",
            "ts": TIME,
        },
        READ,
    ),
    "kraken": (
        "BTC/USD",
        {
            "error": [],
            "result": {
                "XXBTZUSD": {
                    "a": ["73", "1", "1.000"],
                    "b": ["71", "2", "2.000"],
                    "c": ["72.5", "0.1"],
                    "v": ["4", "9.5"],
                },
                "XETHZUSD": {"a": ["1", "1", "1"], "b": ["1", "1", "1"], "c": ["1", "1"], "v": ["1", "1"]},
            },
        },
        TIMELESS,
    ),
    "kucoin": (
        "BTC/USDT",
        {
            "code": "200000",
            "data": {
                "time": TIME,
                "ticker": [
                    {"symbol": "SHA-USDT", "buy": None, "sell": None, "last": None, "vol": "0"},
                    {
                        "symbol": "BTC-USDT",
                        "symbolName": "BTC-USDT",
                        "buy": "71",
                        "sell": "73",
                        "last": "72.5",
                        "vol": "9.5",
                    },
                ],
            },
        },
        READ,
    ),
    "okx": (
        "BTC/USDT",
        {
            "code": "0",
            "msg": "",
            "data": [
                {"instType": "SPOT", "instId": "BCD-BTC", "last": "0.0000769", "ts": "1621441741434"},
                {
                    "instType": "SPOT",
                    "instId": "BTC-USDT",
                    "last": "72.5",
                    "askPx": "73",
                    "bidPx": "71",
                    "vol24h": "9.5",
                    "ts": str(TIME),
                },
            ],
        },
        READ,
    ),
    "upbit": (
        "BTC/USDT",
        [
            {"market": "USDT-ETH", "trade_price": 1, "trade_timestamp": TIME, "acc_trade_volume_24h": 1},
            {
                "market": "USDT-BTC",
                "trade_price": 72.5,
                "trade_timestamp": TIME,
                "acc_trade_volume_24h": 9.5,
                "timestamp": TIME + 7,
            },
        ],
        ticker("72.5", None, None, TIME, "9.5"),
    ),
}


def test_every_batch_of_the_catalogue_is_tested_by_value() -> None:
    assert sorted(BODIES) == BATCHED


@pytest.mark.parametrize("name", BATCHED)
def test_a_documented_batch_is_read_as_its_documentation_says(name: str) -> None:
    pair, body, expected = BODIES[name]
    assert read_batch(CATALOGUE[name], [Pair(pair)], json.dumps(body).encode()) == {pair: expected}


def markets(entry: SourceEntry, prices: list[Decimal]) -> list[Market]:
    return [
        Market(pair, entry.symbol(pair), price, price - price / 1000, price + price / 1000, NOW_MS)
        for pair, price in zip(entry.pairs, prices, strict=False)
    ]


@pytest.mark.parametrize("name", BATCHED)
@given(
    prices=st.lists(
        st.decimals(min_value=Decimal("0.0001"), max_value=Decimal(10) ** 6, places=6), min_size=2, max_size=4
    )
)
def test_in_a_batch_a_ticker_is_read_as_it_is_alone(name: str, prices: list[Decimal]) -> None:
    entry, venue = CATALOGUE[name], VENUES[name]
    shown = markets(entry, prices)
    batch = read_batch(entry, [market.pair for market in shown], venue.render_batch(shown, NOW_MS))
    assert batch == {market.pair: parse_ticker(entry, market.pair, venue.render(market)) for market in shown}


@pytest.mark.parametrize("name", BATCHED)
def test_the_catalogue_asks_for_many_where_the_exchange_answers(name: str) -> None:
    entry = CATALOGUE[name]
    symbols = [entry.symbol(pair) for pair in entry.pairs]
    asked = VENUES[name].symbols_asked(entry.batch_path(entry.pairs), symbols)
    assert asked == symbols
    assert VENUES[name].symbols_asked(entry.request_path(entry.pairs[0]), symbols) is None


@pytest.mark.parametrize(
    ("source", "pairs", "path"),
    [
        ("binance", ["BTC/USDT", "ETH/USDC"], "/api/v3/ticker/24hr?symbols=%5B%22BTCUSDT%22,%22ETHUSDC%22%5D"),
        ("kraken", ["BTC/USD", "DOGE/USD"], "/0/public/Ticker?pair=XXBTZUSD,XDGUSD"),
        ("okx", ["BTC/USDT", "ETH/USDT"], "/api/v5/market/tickers?instType=SPOT"),
        ("bigone", ["BTC/USDT", "ETH/USDT"], "/api/v3/asset_pairs/tickers?pair_names=BTC-USDT,ETH-USDT"),
    ],
)
def test_how_many_are_asked_for(source: str, pairs: list[str], path: str) -> None:
    assert CATALOGUE[source].batch_path(pairs) == path


def okx(*items: object, **envelope: object) -> bytes:
    return json.dumps({"code": "0", "msg": "", "data": items} | envelope).encode()


def item(symbol: str, **changes: object) -> dict[str, object]:
    fields = {"instId": symbol, "last": "2", "bidPx": "1", "askPx": "3", "vol24h": "5", "ts": str(TIME)}
    return fields | changes


def test_what_is_broken_or_missing_costs_its_own_pair_alone() -> None:
    body = okx(item("BTC-USDT", last="NaN"), item("ETH-USDT"), item("DOGE-USDT"), item("DOGE-USDT"))
    sol = Pair("SOL/USDT")
    found = read_batch(CATALOGUE["okx"], [BTC, ETH, DOGE, sol], body)
    assert found[ETH] == ticker("2", "1", "3", TIME, "5")
    failures = {pair: found[pair] for pair in (BTC, DOGE, sol)}
    assert {pair: (error.failure, str(error)) for pair, error in failures.items() if isinstance(error, ParseError)} == {
        BTC: (FailureCode.INVALID_PRICE, "last: NaN is not a finite number"),
        DOGE: (FailureCode.MALFORMED, "DOGE-USDT is in the batch 2 times"),
        sol: (FailureCode.EMPTY, "SOL-USDT is not in the batch"),
    }


def test_a_symbol_is_looked_for_in_its_own_place_only() -> None:
    body = okx(item("BTC-USDC", note="BTC-USDT"), {"last": "1"}, item(7))  # type: ignore[arg-type]
    assert isinstance(read_batch(CATALOGUE["okx"], [BTC], body)[BTC], EmptyBodyError)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (okx(code="50011", msg="Too Many Requests"), "Too Many Requests"),
        (b'{"code":"0","msg":""}', "data is not there"),
        (b'{"code":"0","data":{}}', "not a batch of the declared shape"),
        (b'{"code":"0","data":["BTC-USDT"]}', "not a batch of the declared shape"),
        (b"<html>", "not a batch of the declared shape"),
        (b"[]", "not a batch of the declared shape"),
        (b'{"code":"0","data":[{"instId":"BTC-USDT"', "not closed"),
        (b"[" * 100_000, "nested more than"),
        (b'{"data":' * 5_000, "nested more than"),
        (b" " * 1_048_577, "more than a batch's"),
    ],
)
def test_what_is_no_batch_is_malformed_as_a_whole(body: bytes, message: str) -> None:
    with pytest.raises(MalformedBodyError, match=message):
        read_batch(CATALOGUE["okx"], [BTC], body)


json_texts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='[]{}"\\a,:', max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='[]{}"\\a', max_size=6), inner, max_size=3)
    ),
    max_leaves=12,
)

KEYED = [name for name in BATCHED if (form := CATALOGUE[name].batch) is not None and form.symbol_echo is None]


@pytest.mark.parametrize("spaced", [False, True], ids=["compact", "spaced"])
@pytest.mark.parametrize("name", KEYED)
def test_a_symbol_that_stands_twice_in_a_keyed_batch_is_refused(name: str, spaced: bool) -> None:
    entry = CATALOGUE[name]
    shown = markets(entry, [Decimal(70_000), Decimal(90_000)])
    body = VENUES[name].render_batch(shown, NOW_MS)
    if spaced:
        body = json.dumps(json.loads(body), indent=2).encode()
    first, second = (entry.batch_symbol(market.pair) for market in shown)
    found = read_batch(entry, [market.pair for market in shown], body)
    assert [each.last for each in found.values() if isinstance(each, Ticker)] == [70_000, 90_000]
    twice = body.replace(f'"{second}"'.encode(), f'"{first}"'.encode())
    with pytest.raises(MalformedBodyError, match="names a key twice"):
        read_batch(entry, [shown[0].pair], twice)


def test_a_list_of_items_that_stands_twice_is_refused() -> None:
    body = okx(item("BTC-USDT", last="70000"))
    with pytest.raises(MalformedBodyError, match="names a key twice"):
        read_batch(CATALOGUE["okx"], [BTC], body[:-1] + b"," + body[1:])


@given(
    st.lists(st.tuples(st.text(alphabet='a:"\\{}[]é\n', max_size=2), json_texts), max_size=4),
    st.sampled_from([("", ""), (" ", "\n ")]),
)
def test_an_object_is_refused_exactly_where_it_names_a_key_twice(
    named: list[tuple[str, Any]], space: tuple[str, str]
) -> None:
    before, after = space
    told = [f"{json.dumps(key)}{before}:{after}{json.dumps(value)}" for key, value in named]
    raw = msgspec.Raw(("{" + f"{before},{after}".join(told) + "}").encode())
    names = [key for key, _ in named]
    if len(set(names)) == len(names):
        assert list(_object(raw)) == names
    else:
        with pytest.raises(msgspec.DecodeError, match="names a key twice"):
            _object(raw)


def test_no_bytes_are_an_empty_batch() -> None:
    with pytest.raises(EmptyBodyError):
        read_batch(CATALOGUE["okx"], [BTC], b" \n")


def test_an_error_message_in_place_of_a_list_is_told_in_the_sources_words() -> None:
    with pytest.raises(MalformedBodyError, match="Invalid symbol"):
        read_batch(CATALOGUE["binance"], [BTC], b'{"code":-1121,"msg":"Invalid symbol."}')
    with pytest.raises(MalformedBodyError, match="Unknown asset pair"):
        read_batch(CATALOGUE["kraken"], [Pair("BTC/USD")], b'{"error":["EQuery:Unknown asset pair"]}')


@given(st.sampled_from(BATCHED), st.binary(max_size=200))
def test_arbitrary_bytes_never_raise_anything_but_a_parse_error(name: str, body: bytes) -> None:
    entry = CATALOGUE[name]
    try:
        found = read_batch(entry, entry.pairs[:2], body)
    except ParseError:
        return
    assert all(isinstance(each, ParseError) for each in found.values())


@given(json_texts, st.integers(min_value=0, max_value=40))
def test_the_quick_look_at_depth_agrees_with_the_thorough_one(value: Any, wraps: int) -> None:
    for turn in range(wraps):
        value = [value] if turn % 2 else {"[": value}
    body = msgspec.json.encode(value)
    try:
        check_depth(body)
    except msgspec.DecodeError:
        with pytest.raises(MalformedBodyError):
            _check_depth(body)
    else:
        _check_depth(body)
    assert MAX_DEPTH == 32


GOOD_BATCH: dict[str, Any] = {
    "path": "/all?s={symbols}",
    "max_symbols": 5,
    "symbol_echo": "s",
    "last": "p",
}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"bid": "b"}, "bid and ask come together"),
        ({"time": "t", "common_time": "t"}, "either time or common_time"),
        ({"max_symbols": None}, "max_symbols goes with a path that names"),
        ({"path": "/all"}, "max_symbols goes with a path that names"),
        ({"path": "/all/{base}?s={symbols}"}, "the only placeholder"),
        ({"path": "/all", "max_symbols": None, "symbol_echo": None}, "says which is which"),
        ({"max_bytes": 2 * 1024 * 1024 + 1}, "less than or equal to 2097152"),
        ({"last": "p["}, "p["),
        ({"items": "data[0]"}, "items"),
        ({"each": "x"}, "each"),
        ({"lst": "p"}, "lst"),
    ],
)
def test_a_mistake_in_a_batch_table_is_reported(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=r"batch|symbols") as caught:
        SourceEntry.model_validate(CATALOGUE["mexc"].model_dump() | {"batch": GOOD_BATCH | changes})
    assert problem in str(caught.value)
    assert SourceEntry.model_validate(CATALOGUE["mexc"].model_dump() | {"batch": GOOD_BATCH}).batch is not None
