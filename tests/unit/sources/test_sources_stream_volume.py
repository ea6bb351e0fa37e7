"""The volume that a stream tells: kept while it tells no other, none where it tells none, refused as over REST."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.types import FailureCode, Pair, Quote, SourceFailure
from sources import SourceEntry, load_catalogue, parse_ticker
from sources.errors import ParseError
from sources.parse import MAX_VOLUME, Ticker
from sources.quoting import judge
from sources.stream_control import Heard
from tests.unit.sources.test_sources_stream_messages import Ear

BTC = Pair("BTC/USDT")
OURS = 1_672_515_782_136
D = Decimal


def ticker(last: str = "25.36", *, volume: str | None = None, time_ms: int = OURS) -> str:
    """Binance's. volume: as it stands in the JSON; None: it does not."""
    told = "" if volume is None else f',"v":{volume}'
    return f'{{"stream":"btcusdt@ticker","data":{{"E":{time_ms},"c":"{last}","b":"25.35","a":"25.37"{told}}}}}'


def book(number: int) -> str:
    return f'{{"stream":"btcusdt@bookTicker","data":{{"u":{number},"b":"25.35","a":"25.37"}}}}'


def trade(number: int) -> str:
    return f'{{"stream":"btcusdt@trade","data":{{"t":{number},"p":"25.36","q":"0.5","T":{OURS}}}}}'


def volumes(ear: Ear) -> list[Decimal | None]:
    return [each.ticker.volume for each in ear.track.readings]


def judged(found: Ticker) -> Quote | SourceFailure:
    return judge(
        found,
        "binance",
        BTC,
        received_ms=OURS,
        moment_ms=OURS,
        max_age_ms=5_000,
        max_spread_bps=150,
        min_price=D(1),
        max_price=D(100),
    )


def test_absent_is_not_zero_and_the_last_that_was_told_stands() -> None:
    ear = Ear("binance", "BTC/USDT")
    ear.says(ticker(), ticker(volume="null"), book(1), trade(1))
    assert volumes(ear) == [None] * 4
    ear.says(ticker(volume='"12.50"'), ticker(), book(2), trade(2), ticker(volume="13"), ticker(volume="null"))
    assert volumes(ear)[4:] == [D("12.50")] * 4 + [D(13)] * 2
    assert str(volumes(ear)[4]) == "12.50"


def test_zero_is_told_and_makes_the_price_not_traded_until_somebody_trades() -> None:
    ear = Ear("binance", "BTC/USDT")
    ear.says(ticker(volume='"0.000"'), book(1))
    assert volumes(ear) == [0, 0]
    for reading in ear.track.readings:
        found = judged(reading.ticker)
        assert isinstance(found, SourceFailure)
        assert found.code is FailureCode.NOT_TRADED
    ear.says(trade(1), book(2))
    assert volumes(ear)[2:] == [None, None], "a zero from before a trade is none any more, and how much is not known"
    assert isinstance(judged(ear.track.readings[-1].ticker), Quote)
    ear.says(ticker(volume='"0.5"'))
    found = judged(ear.track.readings[-1].ticker)
    assert isinstance(found, Quote)
    assert found.volume == D("0.5")


def test_a_new_connection_knows_of_no_volume() -> None:
    ear = Ear("binance", "BTC/USDT")
    ear.says(ticker(volume='"7"'))
    ear.reader.forget()
    ear.says(ticker())
    assert volumes(ear) == [None]


def over_rest(volume: str) -> Decimal | None:
    entry = SourceEntry.model_validate(
        load_catalogue()["binance"].model_dump()
        | {"ticker": {"path": "/{symbol}", "last": "c", "bid": "b", "ask": "a", "volume": "v"}}
    )
    return parse_ticker(entry, BTC, f'{{"c":"25.36","b":"25.35","a":"25.37","v":{volume}}}'.encode()).volume


def code_over_rest(volume: str) -> FailureCode:
    with pytest.raises(ParseError) as caught:
        over_rest(volume)
    return caught.value.failure


@pytest.mark.parametrize(
    ("volume", "code"),
    [
        ("-1", FailureCode.INVALID_PRICE),
        ('"-0.001"', FailureCode.INVALID_PRICE),
        ('"NaN"', FailureCode.INVALID_PRICE),
        ('"Infinity"', FailureCode.INVALID_PRICE),
        ('"-Infinity"', FailureCode.INVALID_PRICE),
        ("1.1e24", FailureCode.INVALID_PRICE),
        ('"1e999"', FailureCode.INVALID_PRICE),
        ('"many"', FailureCode.MALFORMED),
        ("[1]", FailureCode.MALFORMED),
        ("{}", FailureCode.MALFORMED),
        ("true", FailureCode.MALFORMED),
    ],
)
def test_what_cannot_be_a_volume_is_refused_with_the_code_that_rest_gives_it(volume: str, code: FailureCode) -> None:
    ear = Ear("binance", "BTC/USDT")
    ear.says(ticker(volume='"7"'))
    assert ear.says(ticker("99", volume=volume)) == [Heard.BAD]
    assert (ear.reader.code, code_over_rest(volume)) == (code, code)
    assert len(ear.reader.detail) <= 200
    ear.says(book(1))
    assert [each.ticker.last for each in ear.track.readings] == [D("25.36")] * 2, "nothing of it is kept"
    assert volumes(ear) == [D(7)] * 2


@given(st.decimals(min_value=0, max_value=MAX_VOLUME, places=12), st.booleans())
def test_every_volume_is_read_to_its_digits_as_over_rest(volume: Decimal, as_text: bool) -> None:
    text = json.dumps(format(volume, "f")) if as_text else format(volume, "f")
    ear = Ear("binance", "BTC/USDT")
    assert ear.says(ticker(volume=text)) == [Heard.DATA]
    assert volumes(ear) == [over_rest(text)] == [volume]


@pytest.mark.parametrize("source", ["bitstamp", "gemini"])
def test_the_two_streams_without_a_ticker_declare_no_volume(source: str) -> None:
    stream = load_catalogue()[source].stream
    assert stream is not None
    assert not any(each.volume for each in stream.messages)
    assert all(each.carries != "ticker" for each in stream.messages)


def test_every_streamed_ticker_declares_its_volume() -> None:
    for entry in load_catalogue().values():
        for each in entry.stream.messages if entry.stream else ():
            assert (each.volume is not None) == (each.carries == "ticker"), entry.name
