"""One exchange's answers: generated, pinned, faulty, or replayed to the byte."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from core.codec import decode_digits
from core.types import Pair
from simulator.board import Board
from simulator.errors import RecordingError
from simulator.exchange import Asked, Exchange
from simulator.faults import RequestFault, parse_faults
from simulator.prices import PriceModel
from simulator.recorded import RecordedBody, load_recordings
from simulator.venues import VENUES
from sources import Ticker, load_catalogue, parse_ticker
from sources.batch_body import read_batch

CATALOGUE = load_catalogue()
NOW_MS = 1_710_328_245_391
BTC_USD, ETH_USD = Pair("BTC/USD"), Pair("ETH/USD")


def exchange(name: str, recorded: dict[Pair, RecordedBody] | None = None, *, replay_only: bool = False) -> Exchange:
    entry = CATALOGUE[name]
    board = Board(PriceModel(1), tick_ms=500, served={name: entry.pairs})
    symbols = {entry.symbol(pair): pair for pair in entry.pairs}
    inverse = [pair for pair in entry.pairs if entry.is_inverse(pair)]
    return Exchange(VENUES[name], symbols, board, recorded, replay_only=replay_only, inverse=inverse)


def ask(here: Exchange, pair: Pair) -> Asked:
    return here.asked(CATALOGUE[here.name].request_path(pair))


def fault(**fields: object) -> RequestFault:
    (only,) = parse_faults(fields)
    assert only.kind != "refused"
    return only  # type: ignore[return-value]


def test_the_reply_says_which_numbers_stand_in_its_body() -> None:
    here = exchange("coinbase")
    reply = here.reply(ask(here, BTC_USD), NOW_MS)
    ticker = parse_ticker(CATALOGUE["coinbase"], BTC_USD, reply.body)
    assert (reply.status, reply.outcome) == (200, "ok")
    assert (ticker.last, ticker.bid, ticker.ask, ticker.time_ms) == (reply.last, reply.bid, reply.ask, reply.time_ms)


def test_a_body_is_the_same_within_its_slot_and_never_from_the_future() -> None:
    here = exchange("coinbase")
    asked = ask(here, BTC_USD)
    first = here.reply(asked, NOW_MS)
    assert first.time_ms == 1_710_328_245_300
    assert here.reply(asked, NOW_MS + 8) is first
    assert here.reply(asked, NOW_MS + 9).time_ms == 1_710_328_245_400


def test_a_pin_shows_at_once() -> None:
    board = Board(PriceModel(1), tick_ms=500, served={"coinbase": [BTC_USD]})
    here = Exchange(VENUES["coinbase"], {"BTC-USD": BTC_USD}, board)
    here.reply(ask(here, BTC_USD), NOW_MS)
    board.pin({"coinbase:BTC/USD": "50000.5"})
    assert here.reply(ask(here, BTC_USD), NOW_MS).last == Decimal("50000.5")


def test_an_unknown_symbol_and_another_path() -> None:
    here = exchange("coinbase")
    unknown = here.reply(here.asked("/products/ABC-USD/ticker"), NOW_MS)
    assert (unknown.status, unknown.body, unknown.outcome) == (404, b'{"message":"NotFound"}', "unknown")
    assert here.reply(here.asked("/"), NOW_MS).body == b'{"error":"Not Found"}'


def test_faults_that_bring_no_ticker() -> None:
    here = exchange("kraken")
    asked = ask(here, BTC_USD)
    limited = here.reply(asked, NOW_MS, fault(kind="429", retry_after_s=3))
    assert (limited.status, limited.headers, limited.outcome, limited.last) == (429, {"Retry-After": "3"}, "429", None)
    assert here.reply(asked, NOW_MS, fault(kind="429")).headers == {}
    assert here.reply(asked, NOW_MS, fault(kind="500")).status == 500
    empty = here.reply(asked, NOW_MS, fault(kind="empty"))
    assert (empty.status, empty.body) == (200, b"")


def test_a_malformed_body_is_cut_in_half() -> None:
    here = exchange("kraken")
    asked = ask(here, BTC_USD)
    sound, cut = here.reply(asked, NOW_MS), here.reply(asked, NOW_MS, fault(kind="malformed"))
    assert cut.status == 200
    assert sound.body.startswith(cut.body)
    with pytest.raises(ValueError, match="truncated"):
        decode_digits(cut.body)


def test_an_outlier_is_wrong_by_its_factor_in_every_number() -> None:
    here = exchange("coinbase")
    asked = ask(here, BTC_USD)
    sound, wrong = here.reply(asked, NOW_MS), here.reply(asked, NOW_MS, fault(kind="outlier"))
    ticker = parse_ticker(CATALOGUE["coinbase"], BTC_USD, wrong.body)
    assert sound.last is not None
    assert ticker.last == wrong.last
    assert abs(ticker.last - sound.last * 10) <= sound.last * 10 / 1000
    assert (ticker.bid, ticker.ask) == (wrong.bid, wrong.ask)


def test_zero_is_zero() -> None:
    here = exchange("coinbase")
    reply = here.reply(ask(here, BTC_USD), NOW_MS, fault(kind="zero"))
    assert Decimal(json.loads(reply.body)["price"]) == 0
    assert reply.last == 0


def test_a_stale_answer_is_the_one_given_then() -> None:
    here = exchange("coinbase")
    asked = ask(here, BTC_USD)
    then, stale = here.reply(asked, NOW_MS - 91_000), here.reply(asked, NOW_MS, fault(kind="stale", seconds=91))
    assert stale.last == then.last
    assert stale.time_ms == NOW_MS - 91_000


def test_many_pairs_are_answered_at_once_each_with_its_own_fault() -> None:
    here = exchange("okx")
    entry = CATALOGUE["okx"]
    asked = here.asked(entry.batch_path(entry.pairs))
    assert tuple(each.pair for each in asked.many) == entry.pairs
    btc, eth, sol = (Pair(f"{base}/USDT") for base in ("BTC", "ETH", "SOL"))
    faults = {btc: fault(kind="outlier", factor=2), eth: fault(kind="stale", seconds=91)}
    reply, shown = here.reply_many(asked, NOW_MS, faults)
    assert {pair: each.outcome for pair, each in shown.items() if each.outcome != "ok"} == {
        btc: "outlier",
        eth: "stale",
    }
    found = read_batch(entry, entry.pairs, reply.body)
    for pair, each in shown.items():
        ticker = found[pair]
        assert isinstance(ticker, Ticker)
        assert (ticker.last, ticker.bid, ticker.ask, ticker.time_ms) == (each.last, each.bid, each.ask, each.time_ms)
    sound = here.reply(ask(here, sol), NOW_MS)
    assert (shown[sol].last, shown[sol].time_ms) == (sound.last, sound.time_ms)
    assert shown[eth].time_ms == 1_710_328_245_300 - 91_000


def test_a_list_with_a_symbol_it_does_not_know_is_refused_or_answered_without_it() -> None:
    strict, lenient = exchange("kraken"), exchange("coingecko")
    refused = strict.reply(strict.asked("/0/public/Ticker?pair=XXBTZUSD,NOSUCH"), NOW_MS)
    assert refused.body == b'{"error":["EQuery:Unknown asset pair"]}'
    path = CATALOGUE["coingecko"].batch_path(["BTC/USD", "ETH/USD"]).replace("ethereum", "nosuch")
    (only,) = lenient.asked(path).many
    assert only.pair == BTC_USD


def test_where_bodies_are_recorded_lists_are_not_made_up() -> None:
    here = exchange("gate", {BTC_USD: recorded("gate", b"[]")})
    assert here.reply(here.asked("/api/v4/spot/tickers"), NOW_MS).status == 404


def test_a_market_listed_the_other_way_round_shows_its_own_price() -> None:
    here = exchange("backpack")
    pair = Pair("USDC/USDT")
    reply = here.reply(ask(here, pair), NOW_MS)
    shown = Decimal(json.loads(reply.body)["lastPrice"])
    assert reply.last == 1 / shown
    assert Decimal("1.0001") < shown < Decimal("1.001")  # USDT stands above USDC there
    assert parse_ticker(CATALOGUE["backpack"], pair, reply.body).last == reply.last
    assert here.reply(ask(here, pair), NOW_MS, fault(kind="zero")).last == 0


def recorded(name: str, body: bytes) -> RecordedBody:
    return RecordedBody(venue=name, pair=BTC_USD, body=body, last=Decimal(7))


def test_a_recorded_body_is_answered_to_the_byte_and_other_pairs_go_on() -> None:
    here = exchange("coinbase", {BTC_USD: recorded("coinbase", b'{ "price" : "7.0" }')})
    reply = here.reply(ask(here, BTC_USD), NOW_MS)
    assert (reply.status, reply.body, reply.outcome, reply.last) == (200, b'{ "price" : "7.0" }', "replayed", 7)
    assert here.reply(ask(here, ETH_USD), NOW_MS).outcome == "ok"


def test_in_a_replay_what_was_not_recorded_is_unknown() -> None:
    here = exchange("coinbase", {BTC_USD: recorded("coinbase", b"{}")}, replay_only=True)
    assert here.reply(ask(here, BTC_USD), NOW_MS).body == b"{}"
    assert here.reply(ask(here, ETH_USD), NOW_MS).body == b'{"message":"NotFound"}'


def test_in_a_replay_a_pinned_pair_is_answered_in_the_venues_own_format() -> None:
    usdt = Pair("USDT/USD")
    board = Board(PriceModel(1), tick_ms=500, served={"coinbase": [usdt]})
    here = Exchange(VENUES["coinbase"], {"USDT-USD": usdt}, board, replay_only=True)
    board.pin({"coinbase:USDT/USD": "1"})
    ticker = parse_ticker(CATALOGUE["coinbase"], usdt, here.reply(ask(here, usdt), NOW_MS).body)
    assert ticker.last == 1
    assert ticker.time_ms == 1_710_328_245_300


def test_wrong_numbers_never_touch_a_recorded_body() -> None:
    here = exchange("coinbase", {BTC_USD: recorded("coinbase", b"{}")}, replay_only=True)
    assert here.reply(ask(here, BTC_USD), NOW_MS, fault(kind="outlier")).body == b"{}"


@pytest.mark.needs_recordings
def test_the_recordings_are_read_with_what_is_expected_of_them(recordings: Path) -> None:
    bodies = load_recordings(recordings / "ticker_responses")
    gate = bodies["gate", Pair("BTC/USDT")]
    assert (gate.last, gate.bid, gate.ask, gate.time_ms) == (
        Decimal("73373.9"),
        Decimal("73364.1"),
        Decimal("73364.2"),
        None,
    )
    luno = bodies["luno", Pair("BTC/USDT")]
    assert (luno.last, luno.time_ms) == (Decimal("73998.98"), 1_710_328_244_969)


@pytest.mark.needs_recordings
def test_every_recorded_pair_can_be_asked_for_and_is_answered_as_it_stands_in_its_file(recordings: Path) -> None:
    folder = recordings / "ticker_responses"
    for (name, pair), body in load_recordings(folder).items():
        here = exchange(name, {pair: body}, replay_only=True)
        reply = here.reply(ask(here, pair), NOW_MS)
        assert reply.body in (folder / f"{name}.json").read_bytes()
        assert parse_ticker(CATALOGUE[name], pair, reply.body).last == reply.last


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"exchange":"x","symbol":"btc","response":{}}'])
def test_a_file_that_is_no_recording_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "odd.json").write_text(content)
    with pytest.raises(RecordingError, match=r"odd\.json is no recorded ticker"):
        load_recordings(tmp_path)
