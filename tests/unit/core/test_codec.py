"""JSON for domain values: exact digits, and bytes from outside that must not take the process down."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.codec import MAX_DEPTH, decode, decode_digits, encode
from core.types import Pair, Quote


def test_fractional_numbers_keep_every_digit() -> None:
    read = decode_digits(b'{"a": 0.1000, "b": [73369.84000000, 1e-3], "c": 12345678901234567890123}')
    assert str(read["a"]) == "0.1000"
    assert str(read["b"][0]) == "73369.84000000"
    assert read["b"][1] == Decimal("0.001")
    assert read["c"] == 12345678901234567890123


def test_a_quote_survives_the_trip() -> None:
    quote = Quote(pair=Pair("BTC/USD"), source="kraken", price=Decimal("73380.60000"), received_ms=1)
    back = decode(encode(quote), Quote)
    assert back == quote
    assert (str(back.price), type(back.pair)) == ("73380.60000", Pair)


def nested(depth: int, inner: str = "1") -> bytes:
    return ("[" * depth + inner + "]" * depth).encode()


def test_nesting_is_bounded_exactly() -> None:
    assert decode_digits(nested(MAX_DEPTH)) is not None
    with pytest.raises(msgspec.DecodeError, match="nested more than 32"):
        decode_digits(nested(MAX_DEPTH + 1))
    with pytest.raises(msgspec.DecodeError, match="nested more than 32"):
        decode(nested(MAX_DEPTH + 1), list)


def test_brackets_in_strings_and_beside_one_another_do_not_nest() -> None:
    text = '["' + "[" * 100 + r"\"[[{\\" + '", ' + ", ".join(["{}"] * 100) + "]"
    assert len(decode_digits(text.encode())) == 101


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=60,
)


@given(json_values)
def test_what_the_standard_library_writes_is_read_the_same(value: object) -> None:
    assert decode_digits(json.dumps(value).encode()) == value


@given(st.binary(max_size=200) | st.text(alphabet='[]{}",:\\1e-.a', max_size=200).map(str.encode))
def test_any_bytes_end_as_a_value_or_as_one_of_two_errors(data: bytes) -> None:
    try:
        decode_digits(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    except ArithmeticError:
        pass  # a number that no Decimal holds, such as 1e99999999999999999999


@pytest.mark.parametrize("opener", [b"[", b'{"a":'])
def test_a_bomb_of_brackets_is_refused_where_the_recursion_limit_was_raised(opener: bytes) -> None:
    """In a process of its own: before the bound, it ended with a segmentation fault."""
    script = (
        "import sys, msgspec\n"
        "import eth_account\n"
        "assert sys.getrecursionlimit() >= 100_000\n"
        "from core.codec import decode_digits\n"
        "try:\n"
        f"    decode_digits({opener!r} * 100_000)\n"
        "except msgspec.DecodeError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "JSON is nested more than 32 levels deep"), done.stderr
