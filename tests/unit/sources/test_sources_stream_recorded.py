"""Recorded sessions through the declared extraction: value by value what a plain reading of the same bytes gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from benchmarks.recorded import RECORDED, Recording, pairs
from sources import Reading
from sources.latest import Line, Track
from sources.stream_control import Heard
from sources.stream_reader import StreamReader, Trade, Update

Value = tuple[Any, ...]
"""("trade", symbol, price, size, time in ms) or ("ticker", symbol, bid, ask, time in ms or None)."""
D = Decimal


def iso_ms(text: str) -> int:
    return int(D(str(datetime.fromisoformat(text).timestamp())) * 1000)


def binance(tree: Any) -> list[Value]:
    stream, data = tree["stream"], tree["data"]
    if stream.endswith("@bookTicker"):
        return [("ticker", data["s"], D(data["b"]), D(data["a"]), None)]
    if stream.endswith(("@trade", "@aggTrade")):
        return [("trade", data["s"], D(data["p"]), D(data["q"]), data["T"])]
    return []


def bitstamp(tree: Any) -> list[Value]:
    data = tree["data"]
    if tree["event"] != "trade":
        return []
    symbol = tree["channel"].removeprefix("live_trades_")
    return [("trade", symbol, D(data["price_str"]), D(data["amount_str"]), int(data["microtimestamp"]) // 1000)]


def coinbase(tree: Any) -> list[Value]:
    if tree["type"] == "match":
        return [("trade", tree["product_id"], D(tree["price"]), D(tree["size"]), iso_ms(tree["time"]))]
    if tree["type"] == "ticker":
        return [("ticker", tree["product_id"], D(tree["best_bid"]), D(tree["best_ask"]), iso_ms(tree["time"]))]
    return []


def gemini(tree: Any) -> list[Value]:
    if tree["type"] != "trade":
        return []
    return [("trade", tree["symbol"], D(tree["price"]), D(tree["quantity"]), tree["timestamp"])]


def kraken(tree: Any) -> list[Value]:
    if isinstance(tree, dict):
        return []
    if tree[2] == "ticker":
        return [("ticker", tree[3], D(tree[1]["b"][0]), D(tree[1]["a"][0]), None)]
    if tree[2] == "trade":
        return [("trade", tree[3], D(each[0]), D(each[1]), int(D(each[2]) * 1000)) for each in tree[1]]
    return []


def okx(tree: Any) -> list[Value]:
    channel = tree["arg"]["channel"] if "data" in tree else None
    if channel == "tickers":
        return [
            ("ticker", each["instId"], D(each["bidPx"]), D(each["askPx"]), int(each["ts"])) for each in tree["data"]
        ]
    if channel == "trades":
        return [("trade", each["instId"], D(each["px"]), D(each["sz"]), int(each["ts"])) for each in tree["data"]]
    return []


PLAINLY: dict[str, Callable[[Any], list[Value]]] = {
    each.__name__: each for each in (binance, bitstamp, coinbase, gemini, kraken, okx)
}
FIRST_MESSAGES = 8_000
"""Of the two long recordings; the benchmark compares them whole."""


def plainly(recording: Recording) -> list[Value]:
    read = PLAINLY[recording.source]
    messages = recording.messages()[:FIRST_MESSAGES]
    return [value for _, raw in messages for value in read(json.loads(raw, parse_float=Decimal))]


def declared(recording: Recording) -> tuple[list[Value], StreamReader, list[Heard]]:
    out: list[Update] = []
    entry = recording.entry()
    tracks = {pair: Track(Line()) for pair in pairs(recording)}
    reader = StreamReader(entry, tracks, out.append)
    symbols = {pair: entry.stream_words(pair)["symbol"] for pair in tracks}
    found: list[Value] = []
    heard = []
    for at, raw in recording.messages()[:FIRST_MESSAGES]:
        out.clear()
        heard.append(reader.feed(raw, at))
        trades = [each for each in out if isinstance(each, Trade)]
        looks = [each for each in out if isinstance(each, Reading)]
        assert all(each.received_ms == at for each in out)
        if trades:  # and each changes the look of the market
            assert [each.ticker.last for each in looks][-1:] in ([trades[-1].price], [])
            found += [("trade", symbols[each.pair], each.price, each.size, each.time_ms) for each in trades]
        else:
            found += [
                ("ticker", symbols[each.pair], each.ticker.bid, each.ticker.ask, each.ticker.time_ms) for each in looks
            ]
    return found, reader, heard


@pytest.mark.needs_recordings
@pytest.mark.parametrize("recording", RECORDED, ids=lambda each: each.name)
def test_every_value_is_the_one_that_a_plain_reading_gives(recording: Recording) -> None:
    found, reader, heard = declared(recording)
    expected = plainly(recording)
    if recording.source == "binance":
        # a book shows once a last price is known, and its symbols are in small letters there
        seen: set[str] = set()
        shown = []
        for value in expected:
            if value[0] == "trade":
                seen.add(value[1])
            if value[1] in seen:
                shown.append((value[0], value[1].lower(), *value[2:]))
        expected = shown
    assert len(expected) > (0 if recording.name == "binance 2021" else 9)
    assert found == expected
    assert Heard.BAD not in heard
    assert (reader.missed, reader.gaps) == (0, 0), "the recordings are whole"


@pytest.mark.needs_recordings
@pytest.mark.parametrize("recording", RECORDED, ids=lambda each: each.name)
def test_every_answer_to_a_subscription_is_known_for_what_it_is(recording: Recording) -> None:
    _, _, heard = declared(recording)
    answered = {"bitstamp": 20, "coinbase": 3, "okx": 18}
    assert heard.count(Heard.ACKNOWLEDGED) == answered.get(recording.source, 0)
    assert not {Heard.REJECTED, Heard.LEAVE, Heard.ANSWERED} & set(heard)


@pytest.mark.needs_recordings
@pytest.mark.parametrize(
    ("recording", "told"),
    [
        (each, {"coinbase": ("product_id", "volume_24h"), "okx": ("instId", "vol24h")}[each.source])
        for each in RECORDED
        if each.source in {"coinbase", "okx"}
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_the_volume_of_each_recorded_ticker_is_read_to_the_digit(recording: Recording, told: tuple[str, str]) -> None:
    out: list[Update] = []
    entry = recording.entry()
    reader = StreamReader(entry, {pair: Track(Line()) for pair in pairs(recording)}, out.append)
    symbol, volume = told
    compared = 0
    for at, raw in recording.messages()[:FIRST_MESSAGES]:
        tree = json.loads(raw)
        items = tree.get("data", []) if recording.source == "okx" else [tree]
        out.clear()
        reader.feed(raw, at)
        expected = [(each[symbol], D(each[volume])) for each in items if volume in each]
        if expected:
            words = [(entry.stream_words(one.pair)["symbol"], one) for one in out]
            assert [(name, one.ticker.volume) for name, one in words if isinstance(one, Reading)] == expected
            compared += len(expected)
    assert compared > 9


@pytest.mark.needs_recordings
def test_a_trade_lost_from_a_recording_is_missed_and_a_message_told_twice_is_not_read_twice() -> None:
    recording = RECORDED[0]
    tracks = {pair: Track(Line()) for pair in pairs(recording)}
    out: list[Update] = []
    reader = StreamReader(recording.entry(), tracks, out.append)
    trades = [raw for _, raw in recording.messages()[:2_000] if b"@trade" in raw][:40]
    for number, raw in enumerate(trades):
        if number in {10, 11, 25}:
            continue
        reader.feed(raw, 1)
        if number % 7 == 0:
            assert reader.feed(raw, 1) is Heard.REPEATED
    assert (reader.missed, reader.gaps) == (3, 2)
    read = [each for each in out if isinstance(each, Trade)]
    assert [(each.id, each.missed) for each in read if each.missed] == [
        (str(json.loads(trades[12])["data"]["t"]), 2),
        (str(json.loads(trades[26])["data"]["t"]), 1),
    ]
    assert len(read) == 37
