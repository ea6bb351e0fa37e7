"""Objects that name a key twice are refused, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.codec import decode_digits, decode_unique


class _Members(list[Any]):
    """An object's members as they are to be written, twice-named keys and all."""


TEXT = st.text(st.sampled_from('ab:"\\ \t{}[],\n1é\U0001f600'), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(TEXT, inner), max_size=4).map(_Members),
    max_leaves=12,
)


def written(value: Any, space: str, ascii_only: bool) -> str:
    if isinstance(value, _Members):
        inside = [
            f"{json.dumps(k, ensure_ascii=ascii_only)}{space}:{space}{written(v, space, ascii_only)}" for k, v in value
        ]
        return "{" + f"{space},".join(inside) + "}"
    if isinstance(value, list):
        return "[" + ",".join(written(each, space, ascii_only) for each in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


def twice(value: Any) -> bool:
    if isinstance(value, _Members):
        keys = [key for key, _ in value]
        return len(set(keys)) < len(keys) or any(twice(inner) for _, inner in value)
    return isinstance(value, list) and any(twice(each) for each in value)


@given(VALUES, st.sampled_from(["", " ", "\n\t"]), st.booleans())
def test_a_key_named_twice_is_refused_and_everything_else_is_read(value: Any, space: str, ascii_only: bool) -> None:
    text = written(value, space, ascii_only).encode()
    if twice(value):
        with pytest.raises(msgspec.DecodeError, match="twice"):
            decode_unique(text)
    else:
        assert decode_unique(text) == decode_digits(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":1}',
        '{"a":1,"\\u0061":2}',
        '{"a" :1, "a" :2}',
        '[{"b":{"a":1,"c":"x:y","a":"2026-11-21T10:00:00"}}]',
        '{"a":{"x":1},"a":2}',
        '{"a\\":":1,"a\\":":2}',
    ],
)
def test_however_it_is_written(text: str) -> None:
    with pytest.raises(msgspec.DecodeError, match="an object names a key twice"):
        decode_unique(text.encode())


@pytest.mark.parametrize(
    "text", ['{"a":"b\\":","c":1}', '{"time":"11:10:45","a":{"time":":"}}', '[{"a":1},{"a":1}]', "1"]
)
def test_colons_in_strings_are_no_keys(text: str) -> None:
    assert decode_unique(text.encode()) == json.loads(text)
