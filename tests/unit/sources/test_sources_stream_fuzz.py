"""Whatever bytes a stream sends: nothing is raised, nothing unsound is handed on, and control words are not lost."""

from __future__ import annotations

import json
from typing import Any

import jmespath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.types import MAX_PRICE, MIN_PRICE, Pair
from sources import Reading, load_catalogue
from sources.latest import Line, Track
from sources.parse import MAX_VOLUME
from sources.stream_control import Control, Heard, needed
from sources.stream_reader import StreamReader, Trade, Update
from sources.stream_shape import EARLIEST_MS, LATEST_MS
from tests.unit.sources.test_sources_stream_messages import SAID

ENTRIES = load_catalogue()
NOW = 1_710_328_245_391
SOURCES = sorted(SAID)
TEXTS = {source: [text for text, _ in said] for source, (_, said, *_) in SAID.items()}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**25), 10**25),
    st.sampled_from(["NaN", "-Infinity", "1e999", "1e-999", "0", "-1", "9" * 200, "0." + "0" * 90 + "1", "", "\ud800"]),
    st.text(max_size=8),
)  # fmt: skip
trees = st.recursive(
    scalars, lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=4), each, max_size=3)
)


def changed(tree: Any, draw: Any) -> Any:
    """`tree` with some values exchanged for others, or left out."""
    if isinstance(tree, dict):
        return {key: changed(value, draw) for key, value in tree.items() if draw(st.integers(0, 30))}
    if isinstance(tree, list):
        return [changed(value, draw) for value in tree if draw(st.integers(0, 30))]
    return draw(trees) if draw(st.integers(0, 5)) == 0 else tree


@st.composite
def messages(draw: Any, source: str) -> bytes:
    text = draw(st.sampled_from(TEXTS[source]))
    how = draw(st.sampled_from(["values", "bytes", "noise"]))
    if how == "noise":
        return draw(st.binary(max_size=200))
    if how == "values" and text[0] in "{[":
        return json.dumps(changed(json.loads(text), draw)).encode("utf-8", "surrogatepass")
    raw = bytearray(text.encode())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 12))] = draw(st.binary(max_size=6))
    return bytes(raw)


@pytest.mark.parametrize("source", SOURCES)
@settings(max_examples=40)
@given(data=st.data())
def test_no_bytes_make_it_raise_and_what_it_hands_on_is_sound(source: str, data: st.DataObject) -> None:
    out: list[Update] = []
    track = Track(Line())
    reader = StreamReader(ENTRIES[source], {Pair(SAID[source][0]): track}, out.append)
    for raw in data.draw(st.lists(messages(source), max_size=6)):
        before = len(out)
        heard = reader.feed(raw, NOW)
        assert isinstance(heard, Heard)
        if heard in {Heard.OTHER, Heard.ACKNOWLEDGED, Heard.REJECTED, Heard.LEAVE, Heard.REPEATED, Heard.RENUMBERED}:
            assert len(out) == before
        assert len(reader.detail) <= 200
    for update in out:
        if isinstance(update, Trade):
            prices, time_ms = [update.price, update.size], update.time_ms
        else:
            prices = [each for each in (update.ticker.last, update.ticker.bid, update.ticker.ask) if each is not None]
            time_ms = update.ticker.time_ms
            assert update.ticker.volume is None or 0 <= update.ticker.volume <= MAX_VOLUME
        assert all(MIN_PRICE <= each <= max(MAX_PRICE, 10**18) for each in prices)
        assert time_ms is None or EARLIEST_MS <= time_ms < LATEST_MS
    assert list(track.readings) == [each for each in out if isinstance(each, Reading)]


@pytest.mark.parametrize("source", SOURCES)
@settings(max_examples=40)
@given(data=st.data())
def test_looking_for_bytes_first_never_changes_what_a_control_message_is(source: str, data: st.DataObject) -> None:
    stream = ENTRIES[source].stream
    assert stream is not None
    texts = [text for text in TEXTS[source] if text[0] == "{"]
    tree = changed(json.loads(data.draw(st.sampled_from(texts))), data.draw)
    raw = json.dumps(tree, ensure_ascii=False).encode("utf-8", "replace")
    heard, _ = Control(stream).read(raw)
    declared = [
        (Heard.ANSWERED, stream.answer.when if stream.answer else None),
        (Heard.REJECTED, stream.rejected),
        (Heard.ACKNOWLEDGED, stream.acknowledged),
        (Heard.LEAVE, stream.leave),
    ]
    plain = Heard.OTHER
    for kind, text in declared:
        if text is not None and jmespath.search(text, json.loads(raw)):
            plain = kind
            break
    assert heard is plain


@pytest.mark.parametrize(
    ("expression", "clauses"),
    [
        ("id && !error", [{b'"id"'}]),
        ("error.msg || msg", [{b'"error"', b'"msg"'}, {b'"msg"'}]),
        ("event == 'error' && msg", [{b'"event"', b'"error"', b'"msg"'}]),
        ("op == 'subscribe' && success", [{b'"op"', b'"subscribe"', b'"success"'}]),
        ("status == `200`", [{b'"status"'}]),
        ("success == `false` && error", [{b'"success"', b'"error"'}]),
        ("!error", [set()]),
        ("length(data) > `0`", [set()]),
        ("data[0].x", [{b'"x"'}]),
        ("left == right", [set()]),
        ("error == `null`", [set()]),
        ("event != 'x'", [set()]),
    ],
)
def test_what_a_message_must_hold_is_read_off_the_expression(expression: str, clauses: list[set[bytes]]) -> None:
    assert needed(jmespath.compile(expression).parsed) == {frozenset(clause) for clause in clauses}
