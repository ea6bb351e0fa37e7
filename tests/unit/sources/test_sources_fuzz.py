"""Whatever bytes a source sends: a ticker or a declared error, by every entry of the catalogue, in bounds.

Bodies start as what the simulator's venue really sends in that exchange's format, and are then broken: values exchanged
for others, bytes cut, doubled, overwritten; and there are bodies made to be expensive, as long as a body may be.
"""

from __future__ import annotations

import time
import tracemalloc
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.types import MAX_PRICE, MIN_PRICE, Pair, Quote, SourceFailure
from simulator.venues import VENUES, Market
from sources import ParseError, Ticker, judge, load_catalogue, parse_ticker
from sources.parse import MAX_BODY_BYTES

CATALOGUE = load_catalogue()
NOW = 1_710_328_245_000
SPEND_S = 2.0
"""For one body of the greatest length; it takes some milliseconds, where nothing else runs."""
SPACE_BYTES = 48 * 1024 * 1024


def sound(source: str) -> tuple[Pair, bytes]:
    entry = CATALOGUE[source]
    pair = entry.pairs[0]
    market = Market(pair, entry.symbol(pair), Decimal("70000.12"), Decimal("70000.11"), Decimal("70000.13"), NOW)
    return pair, VENUES[source].render(market)


SOURCES = [name for name in CATALOGUE if name in VENUES]


def check(source: str, pair: Pair, body: bytes) -> None:
    """Nothing but the declared errors; and what is read is sound enough for the rule, which never raises."""
    try:
        ticker = parse_ticker(CATALOGUE[source], pair, body)
    except ParseError as error:
        assert error.failure
        assert len(str(error)) < 500
        return
    assert isinstance(ticker, Ticker)
    for price in (ticker.last, ticker.bid, ticker.ask):
        assert price is None or MIN_PRICE <= price <= MAX_PRICE
        assert price is None or len(str(price)) <= 100
    assert ticker.volume is None or (ticker.volume.is_finite() and ticker.volume >= 0)
    judged = judge(
        ticker,
        source,
        pair,
        received_ms=NOW,
        moment_ms=NOW,
        max_age_ms=60_000,
        max_spread_bps=150,
        min_price=MIN_PRICE,
        max_price=MAX_PRICE,
        changed_ms=NOW,
        max_unchanged_ms=60_000,
    )
    assert isinstance(judged, Quote | SourceFailure)


ODD_NUMBERS = st.sampled_from(
    ["NaN", "Infinity", "-0", "0", "1e400", "1e-400", "9" * 31, "0." + "1" * 70, "1_0", "+1", "٣", "1e999999999", ""]
)
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | ODD_NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a body, the whole of it included."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inside for place in places(each, (*path, key)))]


def with_changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[path[0]] = with_changed(value[path[0]], path[1:], new)
    return changed


@pytest.mark.parametrize("source", SOURCES)
@settings(max_examples=60)
@given(data=st.data())
def test_a_body_with_odd_values_in_it(source: str, data: st.DataObject) -> None:
    pair, body = sound(source)
    tree = msgspec.json.decode(body)
    for _ in range(data.draw(st.integers(1, 3))):
        tree = with_changed(tree, data.draw(st.sampled_from(places(tree))), data.draw(ODD))
    check(source, pair, msgspec.json.encode(tree))


@pytest.mark.parametrize("source", SOURCES)
@settings(max_examples=60)
@given(data=st.data())
def test_a_body_with_broken_bytes(source: str, data: st.DataObject) -> None:
    pair, body = sound(source)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(body)))
        end = min(len(body), start + data.draw(st.integers(0, 12)))
        new = data.draw(
            st.binary(max_size=6) | st.just(body[start:end] * 2) | st.sampled_from([b'"', b"{", b"]", b"1e9"])
        )
        body = body[:start] + new + body[end:]
    check(source, pair, body)


def longest(head: bytes, piece: bytes, tail: bytes) -> bytes:
    return head + piece * ((MAX_BODY_BYTES - len(head) - len(tail)) // len(piece)) + tail


EXPENSIVE = {
    "empty lists": longest(b"[", b"[],", b"[]]"),
    "empty objects": longest(b'{"a":[', b"{},", b"{}]}"),
    "brackets": longest(b"", b"[", b""),
    "braces": longest(b"", b'{"":', b""),
    "a long number": longest(b'{"last":', b"9", b"}"),
    "a long fraction": longest(b'{"last":0.', b"1", b"}"),
    "a long exponent": longest(b'{"last":1e', b"9", b"}"),
    "a long number in text": longest(b'{"last":"', b"9", b'"}'),
    "backslashes": longest(b'{"a":"', b"\\\\", b'"}'),
    "escaped quotes and colons": longest(b'{"a":"', b'\\":', b'"}'),
    "an open string": longest(b'{"a":"', b"\\u0041", b""),
    "colons in strings": longest(b'{"a":"', b":", b'"}'),
    "spaced colons": longest(b"[", b'{"a" :1},', b"1]"),
    "many equal keys": longest(b"{", b'"a":1,', b'"b":1}'),
    "numbers": longest(b"[", b"0,", b"0]"),
    "fractions": longest(b"[", b"0.1,", b"0]"),
    "white space": longest(b"{", b" ", b"}"),
    "bytes that are no UTF-8": longest(b'{"a":"', b"\xff", b'"}'),
    "many keys": b"{" + b",".join(b'"%d":0' % number for number in range(24_000)) + b"}",
}


@pytest.mark.parametrize("kind", EXPENSIVE)
def test_a_body_made_to_be_expensive(kind: str) -> None:
    """By three entries: plain paths, a filter and a function in JMESPath."""
    body = EXPENSIVE[kind]
    assert len(body) <= MAX_BODY_BYTES
    for source in ("binance", "bitfinex", "bitso", "gate"):
        pair, _ = sound(source)
        started = time.process_time()
        check(source, pair, body)
        assert time.process_time() - started < SPEND_S
    tracemalloc.start()
    try:
        check("binance", sound("binance")[0], body)
        assert tracemalloc.get_traced_memory()[1] < SPACE_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("source", SOURCES)
def test_the_sound_body_is_a_quote(source: str) -> None:
    """That what is broken above was whole."""
    pair, body = sound(source)
    assert parse_ticker(CATALOGUE[source], pair, body).last == Decimal("70000.12")
