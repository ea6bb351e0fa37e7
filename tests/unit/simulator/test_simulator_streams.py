"""What the simulated exchanges say is what the catalogue's declarations understand, word for word."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from core.types import Pair
from simulator.streams import DIALECTS
from simulator.streams.shape import Dialect, Frame, Wanted, encoded
from simulator.venues import Market
from sources import SourceEntry, load_catalogue
from sources.latest import Latest, Line
from sources.stream_entries import StreamFormat
from sources.stream_reader import Heard, StreamReader, Trade, Update, subscriptions

CATALOGUE = load_catalogue()
NOW = 1_795_000_000_000
MARKET_TIME = NOW - 250


def reader(entry: SourceEntry, pair: Pair, heard: list[Update] | None = None) -> tuple[StreamReader, Latest]:
    latest, line = Latest(), Line()
    line.up = True
    sink = None if heard is None else heard.append
    return StreamReader(entry, {pair: latest.track(entry.name, pair, line)}, sink), latest


def asked(entry: SourceEntry, dialect: Dialect, pair: Pair) -> list[tuple[object, list[Wanted]]]:
    """Each subscription that a client sends, and what the exchange makes of it."""
    sent = [json.loads(text) for text in subscriptions(entry, [pair], trades=True, now_ms=NOW)]
    return [(message, list(dialect.wants(message) or ())) for message in sent]


def declared(name: str) -> tuple[SourceEntry, StreamFormat, Dialect]:
    entry = CATALOGUE[name]
    assert entry.stream is not None
    return entry, entry.stream, DIALECTS[name]


@pytest.fixture(params=sorted(DIALECTS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_subscription_asks_for_the_pair_on_every_channel_and_is_heard_to_stand(name: str) -> None:
    entry, _, dialect = declared(name)
    pair = entry.streamed[0]
    symbol = entry.stream_words(pair)["symbol"]
    kinds = set()
    for message, wanted in asked(entry, dialect, pair):
        assert {each.symbol for each in wanted} == {symbol}
        kinds |= {each.kind for each in wanted}
        heard = [reader(entry, pair)[0].feed(encoded(each), NOW) for each in dialect.accept(message, wanted, NOW)]
        assert set(heard) == {Heard.ACKNOWLEDGED}
    assert kinds == set(dialect.show)


def test_a_refusal_is_heard_with_its_words(name: str) -> None:
    entry, _, dialect = declared(name)
    pair = entry.streamed[0]
    for message, wanted in asked(entry, dialect, pair):
        for each in wanted:
            listening, _ = reader(entry, pair)
            assert listening.feed(encoded(dialect.reject(message, each, NOW)), NOW) is Heard.REJECTED
            assert listening.detail


def test_what_is_shown_is_read_to_the_digit(name: str) -> None:
    entry, format_, dialect = declared(name)
    pair = entry.streamed[0]
    symbol = entry.stream_words(pair)["symbol"]
    last, bid, ask = Decimal("65044.17"), Decimal("65036.96"), Decimal("65046.72")
    market = Market(pair, entry.symbol(pair), last, bid, ask, MARKET_TIME)
    heard: list[Update] = []
    listening, latest = reader(entry, pair, heard)
    for show in dialect.show.values():
        assert listening.feed(encoded(show(market, Frame(symbol, 7_000, NOW))), NOW) is Heard.DATA
    reading = latest.as_of(name, pair, NOW)
    assert reading is not None
    assert (reading.ticker.last, reading.ticker.bid, reading.ticker.ask) == (last, bid, ask)
    assert reading.ticker.volume == (None if name in {"bitstamp", "gemini"} else market.volume)
    trades = [each for each in heard if isinstance(each, Trade)]
    assert [(each.price, each.pair) for each in trades] == [(last, pair)]
    times = {each.time_ms for each in trades}
    if any(each.carries == "trade" and each.time for each in format_.messages):
        assert all(time is not None and abs(time - MARKET_TIME) < 1_000 for time in times)


def test_the_declared_ping_is_answered_and_the_answer_is_no_fault(name: str) -> None:
    entry, format_, dialect = declared(name)
    if format_.ping is None:
        return  # a ping frame, which the connection answers
    text = format_.ping.replace("{now_s}", str(NOW // 1000))
    pong = dialect.pong(text if text == "ping" else json.loads(text), NOW)
    assert pong is not None
    assert reader(entry, entry.streamed[0])[0].feed(encoded(pong), NOW) is Heard.OTHER


def test_heartbeats_are_no_fault_and_those_that_want_an_answer_get_the_right_one(name: str) -> None:
    entry, _, dialect = declared(name)
    pair = entry.streamed[0]
    wanted = [each for _, wants in asked(entry, dialect, pair) for each in wants]
    for beat in (*dialect.greet(NOW), *dialect.beat(wanted, NOW)):
        listening, _ = reader(entry, pair)
        heard = listening.feed(encoded(beat), NOW)
        if dialect.must_answer is None:
            assert heard is Heard.OTHER
        else:
            assert heard is Heard.ANSWERED
            assert dialect.must_answer(json.loads(listening.answer))


def test_the_word_for_leaving_is_understood(name: str) -> None:
    entry, format_, dialect = declared(name)
    assert (dialect.leave is None) == (format_.leave is None)
    if dialect.leave is not None:
        assert reader(entry, entry.streamed[0])[0].feed(encoded(dialect.leave), NOW) is Heard.LEAVE
