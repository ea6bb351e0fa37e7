"""What a `[stream]` table may say, what is refused and with which words, and what the catalogue's ten say to send."""

# ruff: noqa: E501 - a message is one line, as it comes

from __future__ import annotations

import tomllib
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from core.types import Pair
from sources import load_catalogue
from sources.entries import CATALOGUE, SourceEntry
from sources.stream_entries import StreamFormat
from sources.stream_reader import subscriptions

ENTRIES = load_catalogue()
STREAMED = {name: entry for name, entry in ENTRIES.items() if entry.stream is not None}
NOW = 1_710_328_245_391

TABLE = """
url = "wss://stream.example.com/ws"
verified = "documented"
verified_on = 2026-11-21
documentation = "https://docs.example.com/ws"
ping_s = 20
silence_s = 45
[[subscribe]]
send = '{"op":"subscribe","args":[{items}]}'
item = '"ticker.{symbol}"'
[[messages]]
carries = "ticker"
when = { channel = "ticker" }
symbol = "s"
last = "c"
bid = "b[0]"
ask = "a[0]"
"""


def parsed(text: str) -> StreamFormat:
    return StreamFormat.model_validate(tomllib.loads(text))


def test_the_table_itself_is_sound() -> None:
    assert parsed(TABLE).messages[0].bid == "b[0]"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('url = "wss:', 'url = "ws:', "url"),
        ("silence_s = 45", "silence_s = 20", "a ping must have the time to be answered; make it longer than ping_s"),
        ("{items}", "", "without {items} it subscribes nothing"),
        ("{items}", "{items}{token}", "no such placeholder as {token}"),
        ("ticker.{symbol}", "ticker.{market}", "no such placeholder as {market}"),
        ("""item = '"ticker""", """trades = true\nitem = '"ticker""", "nothing is left where nobody wants the trades"),
        ('last = "c"\n', "", "a ticker needs last"),
        ('last = "c"', 'last = "c"\nprice = "p"', "a ticker has no price"),
        ('carries = "ticker"', 'carries = "book"', "a book has no last"),
        ('last = "c"', 'volume = "v[*]"\nlast = "c"', "'v[*]' is no plain path"),
        ('carries = "ticker"', 'carries = "trade"', "a trade needs price, size"),
        ('ask = "a[0]"\n', "", "bid and ask come together or not at all"),
        ('"b[0]"', '"b[*]"', "'b[*]' is no plain path: names, and indexes from 0 to 63"),
        ('"b[0]"', '"b[64]"', "'b[64]' is no plain path"),
        ('"b[0]"', '"b[-1]"', "'b[-1]' is no plain path"),
        ('"b[0]"', '"length(b)"', "'length(b)' is no plain path"),
        ('symbol = "s"', 'symbol = "s"\nsymbol_as = "{pair}"', "no such placeholder as {pair}"),
        ("ping_s = 20", "ping_s = 20\nrejected = 'error =='", "rejected: 'error ==' is no JMESPath"),
        ("ping_s = 20", "ping_s = 20\nheartbeat = 5", "heartbeat"),
        ("ping_s = 20", "ping_s = 20\n[answer]\nwhen = '['\nsend = 'x'\n", "answer.when"),
    ],
)
def test_a_fault_is_named(old: str, new: str, words: str) -> None:
    text = TABLE.replace(old, new, 1)
    if "[answer]" in new:  # a table goes behind the values
        text = TABLE + "[answer]\nwhen = '['\nsend = 'x'\n"
    with pytest.raises(ValidationError) as caught:
        parsed(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("carries", "rest"),
    [("book", 'bid = "b"\nask = "a"'), ("trade", 'price = "p"\nsize = "q"')],
)
def test_only_a_ticker_tells_what_was_traded_in_a_day(carries: str, rest: str) -> None:
    message = f'[[messages]]\ncarries = "{carries}"\nsymbol = "s"\nvolume = "v"\n{rest}\n'
    with pytest.raises(ValidationError, match=f"a {carries} has no volume"):
        parsed(TABLE + message)


def test_a_path_that_is_a_list_for_one_field_and_an_object_for_another_is_refused_when_a_reader_is_made() -> None:
    from sources.latest import Line, Track
    from sources.stream_reader import StreamReader

    tables = tomllib.loads((CATALOGUE / "okx.toml").read_text(encoding="utf-8"))
    tables["stream"]["messages"][0]["ask"] = "[1]"
    entry = SourceEntry.model_validate(tables)
    with pytest.raises(ValueError, match="takes for a list what another takes for an object"):
        StreamReader(entry, {Pair("BTC/USDT"): Track(Line())})


def test_a_symbol_that_would_break_out_of_its_message_is_refused_with_its_pair() -> None:
    tables: dict[str, Any] = tomllib.loads((CATALOGUE / "okx.toml").read_text(encoding="utf-8"))
    tables["stream"]["symbol"] = '{base}","'
    with pytest.raises(ValidationError, match="is no symbol: letters, digits"):
        SourceEntry.model_validate(tables)


def test_ten_exchanges_are_streamed_and_each_can_show_all_its_pairs() -> None:
    assert set(STREAMED) == {
        "binance", "bitget", "bitstamp", "bybit", "coinbase", "cryptocom", "gate", "gemini", "kraken", "okx",
    }  # fmt: skip
    for entry in STREAMED.values():
        assert entry.streamed == tuple(Pair(text) for text in entry.symbols)


FIRST = {
    "binance": '{"method":"SUBSCRIBE","params":["btcusdt@ticker","btcusdt@bookTicker","ethusdt@ticker","ethusdt@bookTicker"],"id":7}',
    "bitget": '{"op":"subscribe","args":[{"instType":"SPOT","channel":"ticker","instId":"BTCUSDT"},{"instType":"SPOT","channel":"ticker","instId":"ETHUSDT"}]}',
    "bitstamp": '{"event":"bts:subscribe","data":{"channel":"order_book_btcusd"}}',
    "bybit": '{"req_id":"7","op":"subscribe","args":["tickers.BTCUSDT","orderbook.1.BTCUSDT","tickers.ETHUSDT","orderbook.1.ETHUSDT"]}',
    "coinbase": '{"type":"subscribe","product_ids":["BTC-USD","ETH-USD"],"channels":["ticker","heartbeat"]}',
    "cryptocom": '{"id":7,"method":"subscribe","params":{"channels":["ticker.BTC_USD","ticker.ETH_USD"]}}',
    "gate": '{"time":1710328245,"channel":"spot.tickers","event":"subscribe","payload":["BTC_USDT","ETH_USDT"]}',
    "gemini": '{"id":"7","method":"subscribe","params":["btcusd@bookTicker","btcusd@trade","ethusd@bookTicker","ethusd@trade"]}',
    "kraken": '{"method":"subscribe","params":{"channel":"ticker","event_trigger":"bbo","symbol":["BTC/USD","ETH/USD"]}}',
    "okx": '{"op":"subscribe","args":[{"channel":"tickers","instId":"BTC-USDT"},{"channel":"tickers","instId":"ETH-USDT"}]}',
}  # fmt: skip


@pytest.mark.parametrize("source", sorted(FIRST))
def test_the_first_subscription_is_the_documented_one(source: str) -> None:
    entry = STREAMED[source]
    sent = subscriptions(entry, entry.streamed[:2], trades=False, now_ms=NOW, first=7)
    assert sent[0] == FIRST[source]


@pytest.mark.parametrize("source", sorted(STREAMED))
@pytest.mark.parametrize("trades", [False, True])
def test_every_subscription_is_json_names_every_pair_and_keeps_to_the_exchanges_batches(
    source: str, trades: bool
) -> None:
    entry = STREAMED[source]
    assert entry.stream is not None
    sent = subscriptions(entry, entry.streamed, trades=trades, now_ms=NOW)
    for text in sent:
        msgspec.json.decode(text)
        assert "{" + "symbol" not in text
    wanted = [each for each in entry.stream.subscribe if trades or not each.trades]
    assert len(sent) == sum(-(-len(entry.streamed) // each.batch) for each in wanted)
    for pair in entry.streamed:
        symbol = entry.stream_words(pair)["symbol"]
        assert sum(symbol in text for text in sent) >= len(wanted), pair


def test_subscriptions_are_numbered_on_so_that_answers_can_be_told_apart() -> None:
    entry = STREAMED["bybit"]
    sent = [msgspec.json.decode(text) for text in subscriptions(entry, entry.streamed, trades=True, now_ms=NOW)]
    assert [each["req_id"] for each in sent] == [str(number) for number in range(1, len(sent) + 1)]
