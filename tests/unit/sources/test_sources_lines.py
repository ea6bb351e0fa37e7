"""Lines of JSON: whatever chunks they come in, the ticks are those of the lines, each read from its digits."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.types import FailureCode
from sources.lines import MAX_LINE_BYTES, LineReader, LineTick

NOW = 1_710_328_245_391
SOUND = b'{"symbol":"BTCUSDT","price":73369.84,"timestamp":1710328245391}\n'
TICK = LineTick("BTCUSDT", Decimal("73369.84"), NOW)


def line(symbol: str, price: str, time_ms: int = NOW) -> bytes:
    return f'{{"symbol":"{symbol}","price":{price},"timestamp":{time_ms}}}\n'.encode()


def all_at_once(data: bytes) -> tuple[list[LineTick], dict[FailureCode, int]]:
    reader = LineReader()
    return reader.feed(data), dict(reader.bad)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("0.1", "0.1"),
        ("65000", "65000"),
        ("73369.840", "73369.840"),
        ("1e-8", "1E-8"),
        ('"0.30000000000000000001"', "0.30000000000000000001"),
        ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
    ],
)
def test_a_price_is_its_digits_whether_a_number_or_a_text(written: str, read: str) -> None:
    (tick,) = LineReader().feed(line("X", written))
    assert str(tick.price) == read


def test_other_members_blank_lines_and_carriage_returns_are_no_fault() -> None:
    data = b'\n{"timestamp":1710328245391,"volume":[1,{"a":2}],"symbol":"BTCUSDT","price":73369.84}\r\n\r\n' + SOUND
    assert all_at_once(data) == ([TICK, TICK], {})


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"hello", FailureCode.MALFORMED),
        (b'{"symbol":"A","price":1', FailureCode.MALFORMED),
        (b'{"symbol":"A","timestamp":1710328245391}', FailureCode.MALFORMED),
        (b'{"price":1,"timestamp":1710328245391}', FailureCode.MALFORMED),
        (b'{"symbol":"A","price":1}', FailureCode.MALFORMED),
        (b'{"symbol":"A","price":1,"timestamp":1710328245}', FailureCode.MALFORMED),  # seconds
        (b'{"symbol":"A","price":1,"timestamp":"1710328245391"}', FailureCode.MALFORMED),
        (b'{"symbol":"","price":1,"timestamp":1710328245391}', FailureCode.MALFORMED),
        (b'{"symbol":"A","price":true,"timestamp":1710328245391}', FailureCode.MALFORMED),
        (b'{"symbol":"A","price":null,"timestamp":1710328245391}', FailureCode.MALFORMED),
        (b'{"symbol":"A","price":1,"price":2,"timestamp":1710328245391}', FailureCode.MALFORMED),
        (b'[{"symbol":"A","price":1,"timestamp":1710328245391}]', FailureCode.MALFORMED),
        (SOUND.strip() + SOUND.strip(), FailureCode.MALFORMED),
        (b"[" * 100_000, FailureCode.MALFORMED),
        (
            b'{"symbol":"A","x":' + b"[" * 40 + b"]" * 40 + b',"price":1,"timestamp":1710328245391}',
            FailureCode.MALFORMED,
        ),
        (b'{"symbol":"\xff\xfe","price":1,"timestamp":1710328245391}', FailureCode.MALFORMED),
        (b'{"symbol":"A","price":0,"timestamp":1710328245391}', FailureCode.INVALID_PRICE),
        (b'{"symbol":"A","price":-1,"timestamp":1710328245391}', FailureCode.INVALID_PRICE),
        (b'{"symbol":"A","price":1e16,"timestamp":1710328245391}', FailureCode.INVALID_PRICE),
        (b'{"symbol":"A","price":1e-16,"timestamp":1710328245391}', FailureCode.INVALID_PRICE),
        (b'{"symbol":"A","price":"NaN","timestamp":1710328245391}', FailureCode.INVALID_PRICE),
        (b'{"symbol":"A","price":"Infinity","timestamp":1710328245391}', FailureCode.INVALID_PRICE),
        (b'{"symbol":"A","price":1.' + b"0" * 5_000 + b',"timestamp":1710328245391}', FailureCode.INVALID_PRICE),
        (b'{"symbol":"A","price":1' + b" " * MAX_LINE_BYTES + b',"timestamp":1710328245391}', FailureCode.TOO_LARGE),
    ],
)
def test_a_bad_line_is_counted_and_skipped_and_its_neighbours_are_read(bad: bytes, code: FailureCode) -> None:
    reader = LineReader()
    data = SOUND + bad + b"\n" + SOUND
    ticks = [tick for start in range(0, len(data), 65_536) for tick in reader.feed(data[start : start + 65_536])]
    assert ticks == [TICK, TICK]
    assert dict(reader.bad) == {code: 1}
    assert 0 < len(reader.detail) <= 200


def test_an_object_over_two_lines_is_two_bad_lines() -> None:
    ticks, bad = all_at_once(SOUND.replace(b",", b",\n", 1) + SOUND)
    assert ticks == [TICK]
    assert bad == {FailureCode.MALFORMED: 2}


def test_without_any_newline_it_holds_no_more_than_the_greatest_line_and_counts_once() -> None:
    reader = LineReader()
    for _ in range(100):
        assert reader.feed(b"x" * 65_536) == []
        assert len(reader._tail) <= MAX_LINE_BYTES
    assert dict(reader.bad) == {FailureCode.TOO_LARGE: 1}
    assert reader.feed(b"the end of it\n" + SOUND) == [TICK]
    assert dict(reader.bad) == {FailureCode.TOO_LARGE: 1}


@pytest.mark.parametrize(("size", "taken"), [(MAX_LINE_BYTES, True), (MAX_LINE_BYTES + 1, False)])
def test_the_greatest_line_is_one_of_a_million_bytes(size: int, taken: bool) -> None:
    text = SOUND.strip()
    data = text[:-1] + b" " * (size - len(text)) + b"}\n"
    reader = LineReader()
    ticks = [tick for start in range(0, len(data), 50_000) for tick in reader.feed(data[start : start + 50_000])]
    assert ticks == ([TICK] if taken else [])
    assert dict(reader.bad) == ({} if taken else {FailureCode.TOO_LARGE: 1})


def test_what_a_lost_connection_left_unfinished_is_not_put_before_the_next_ones_first_line() -> None:
    reader = LineReader()
    assert reader.feed(SOUND + SOUND[:20]) == [TICK]
    reader.forget()
    assert reader.feed(SOUND) == [TICK]
    assert not reader.bad


sound_lines = st.builds(
    line,
    st.text("ABCDEFGHIJ-/", min_size=1, max_size=12),
    st.one_of(
        st.decimals(min_value="0.000000000001", max_value=10**12, allow_nan=False).map(lambda price: f"{price:f}"),
        st.decimals(min_value="0.001", max_value=10**6, places=4).map(lambda price: f'"{price:f}"'),
    ),
    st.integers(946_684_800_000, 4_102_444_799_999),
)
any_lines = st.one_of(sound_lines, st.binary(max_size=60).map(lambda raw: raw.replace(b"\n", b"") + b"\n"))


def one_by_one(data: bytes) -> list[LineTick]:
    """The reference: each line for itself, by another decoder."""
    ticks = []
    for text in data.split(b"\n")[:-1]:
        try:
            tree = json.loads(text, parse_float=Decimal)
            ticks.append(LineTick(tree["symbol"], Decimal(tree["price"]), tree["timestamp"]))
        except (ValueError, TypeError, KeyError):
            continue
    return ticks


@given(st.lists(any_lines, max_size=12), st.lists(st.integers(1, 80), min_size=1, max_size=30))
def test_chunks_may_end_anywhere(lines: list[bytes], sizes: list[int]) -> None:
    data = b"".join(lines)
    reader, ticks, start, turn = LineReader(), [], 0, 0
    while start < len(data):
        size = sizes[turn % len(sizes)]
        ticks += reader.feed(data[start : start + size])
        start, turn = start + size, turn + 1
    assert ticks == one_by_one(data)
    whole = LineReader()
    assert whole.feed(data) == ticks
    assert whole.bad == reader.bad


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_no_bytes_make_it_raise(chunks: list[bytes]) -> None:
    reader = LineReader()
    for chunk in chunks:
        reader.feed(chunk)
