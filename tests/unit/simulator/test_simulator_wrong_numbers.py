"""Well-formed answers with wrong numbers: each venue shows them in its own format, and each is refused for it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from core.types import FailureCode, Pair, Quote, SourceFailure
from simulator.board import Board
from simulator.exchange import Exchange
from simulator.faults import parse_faults
from simulator.prices import PriceModel
from simulator.venues import VENUES
from sources import ParseError, judge, load_catalogue, parse_ticker

CATALOGUE = load_catalogue()
NOW = 1_710_328_245_300
VENUE_NAMES = [name for name in CATALOGUE if name in VENUES]


def outcome(name: str, **fault: object) -> str:
    """What the parser and the rule make of the venue's first pair under the fault."""
    entry = CATALOGUE[name]
    pair = entry.pairs[0]
    board = Board(PriceModel(1), tick_ms=500, served={name: entry.pairs})
    here = Exchange(VENUES[name], {entry.symbol(each): each for each in entry.pairs}, board)
    [parsed] = parse_faults(fault)
    reply = here.reply(here.asked(entry.request_path(pair)), NOW, parsed)  # type: ignore[arg-type]
    try:
        ticker = parse_ticker(entry, pair, reply.body)
    except ParseError as error:
        return str(error.failure)
    found = judge(
        ticker,
        name,
        pair,
        received_ms=NOW,
        moment_ms=NOW,
        max_age_ms=60_000,
        max_spread_bps=150,
        min_price=Decimal(1_000),
        max_price=Decimal(10_000_000),
    )
    return "quote" if isinstance(found, Quote) else str(found.code)


@pytest.mark.parametrize("name", VENUE_NAMES)
def test_each_wrong_number_is_refused_for_what_it_is(name: str) -> None:
    venue, timed = VENUES[name], CATALOGUE[name].ticker.time is not None
    assert outcome(name, kind="huge") == "invalid_price"
    assert outcome(name, kind="inverse") == "out_of_range"
    assert outcome(name, kind="crossed") == ("crossed" if venue.book else "quote")
    assert outcome(name, kind="wide") == ("wide_spread" if venue.book else "quote")
    assert outcome(name, kind="ahead") == ("future" if timed else "quote")
    assert outcome(name, kind="untraded") == ("not_traded" if CATALOGUE[name].ticker.volume else "quote")


def test_the_rule_hints_at_a_pair_turned_over() -> None:
    ticker = parse_ticker(
        CATALOGUE["binance"],
        "BTC/USDT",
        (
            b'{"symbol":"BTCUSDT","lastPrice":"0.0000143","bidPrice":"0.0000143","askPrice":"0.0000143","closeTime":1710328245300}'
        ),
    )
    found = judge(
        ticker,
        "binance",
        Pair("BTC/USDT"),
        received_ms=NOW,
        moment_ms=NOW,
        max_age_ms=60_000,
        max_spread_bps=150,
        min_price=Decimal(1_000),
        max_price=Decimal(10_000_000),
    )
    assert isinstance(found, SourceFailure)
    assert found.code is FailureCode.OUT_OF_RANGE
    assert found.detail.endswith("; its inverse is: see `inverse` in the catalogue")
