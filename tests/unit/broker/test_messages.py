"""Messages: versioned by tag, validated when decoded, bounded in size, and equal after the trip."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import MalformedMessageError
from broker.messages import MAX_MESSAGE_BYTES, Hint, Job, Refusal, Report, decode, encode
from core.types import FailureCode, Mode, Pair, Quote, SignedReport, SourceFailure

JOB = Job(
    id="m-1", attempt="a-1", deployment="d", mode=Mode.TEST, group="majors", moment=1_710_328_245_390, budget_ms=800
)

text = st.text(max_size=20)
millis = st.integers(0, 2**48 - 1)
whole = st.integers(0, 2**63 - 1)
modes = st.sampled_from(Mode)
pairs = st.sampled_from([Pair("BTC/USD"), Pair("ETH/USDT"), Pair("USDC/USD")])
prices = st.decimals(min_value=Decimal("1e-15"), max_value=Decimal("1e15"), allow_nan=False)
quotes = st.builds(
    Quote,
    pair=pairs,
    source=text,
    price=prices,
    received_ms=millis,
    source_time_ms=st.none() | millis,
    bid=st.none() | prices,
    ask=st.none() | prices,
    last=st.none() | prices,
)
failures = st.builds(
    SourceFailure, pair=pairs, source=text, code=st.sampled_from(FailureCode), detail=text, elapsed_ms=millis
)
signed = st.builds(
    SignedReport,
    group=text,
    group_hash=text,
    previous_moment=millis,
    moment=millis,
    prices=st.lists(whole, max_size=8).map(tuple),
    reporter=text,
    signature=text,
)
head = {"id": text, "attempt": text, "deployment": text, "mode": modes}
seen = {
    "fetcher": text,
    "instance": text,
    "quotes": st.lists(quotes, max_size=3).map(tuple),
    "failures": st.lists(failures, max_size=3).map(tuple),
    "elapsed_ms": millis,
}
messages = st.one_of(
    st.builds(Job, **head, group=text, moment=millis, budget_ms=millis),
    st.builds(Report, **head, **seen, signed=signed, answers=st.dictionaries(text, prices, max_size=3)),
    st.builds(Refusal, **head, **seen, reporter=text, moment=millis, code=text, detail=text),
    st.builds(
        Hint,
        id=text,
        deployment=text,
        mode=modes,
        group=text,
        pair=pairs,
        price=whole,
        moment=millis,
        previous_moment=millis,
        reporter=text,
        signature=text,
    ),
)


@given(messages)
def test_every_message_is_equal_after_the_trip_and_of_its_own_type(message):
    back = decode(encode(message))
    assert back == message
    assert type(back) is type(message)


@given(prices)
def test_a_price_crosses_with_every_digit_and_never_as_a_number_that_could_become_a_float(price):
    quote = Quote(pair=Pair("BTC/USD"), source="s", price=price, received_ms=1)
    refusal = Refusal(
        id="m", attempt="a", deployment="d", mode=Mode.TEST, fetcher="f", instance="i", reporter="0x", moment=1,
        code="c", detail="", quotes=(quote,), failures=(), elapsed_ms=1,
    )  # fmt: skip
    data = encode(refusal)
    assert f'"price":"{price}"'.encode() in data
    assert str(decode(data).quotes[0].price) == str(price)


def test_the_tag_names_the_version():
    assert msgspec.json.decode(encode(JOB))["type"] == "job/1"


def changed(**more: object) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(encode(JOB)) | more)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (changed(type="job/2"), "job/2"),
        (changed(type="order/1"), "order/1"),
        (changed(extra=1), "unknown field `extra`"),
        (changed(moment="noon"), r"\$.moment"),
        (changed(moment=1.5), r"\$.moment"),
        (changed(mode="paper"), r"\$.mode"),
        (b'{"type":"job/1","id":"x"}', "missing required field `attempt`"),
        (b'{"id":"x"}', "type"),
        (b"[]", "object"),
        (b"", "truncated"),
        (b"not json", "malformed"),
        (b"\xff\xfe", "malformed"),
        (encode(JOB)[:-1], "truncated"),
        (encode(JOB) + b"{}", "trailing"),
        (b"[" * 100_000, "nested more than 32 levels deep"),
        (b'{"x":' + b"[" * 100_000, "nested more than 32 levels deep"),
    ],
)
def test_what_is_no_message_is_refused_saying_what_is_wrong(data, says):
    with pytest.raises(MalformedMessageError, match=says):
        decode(data)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data):
    try:
        decode(data)
    except MalformedMessageError as error:
        assert error.code == "malformed_message"


@pytest.mark.parametrize("pair", ["btc/usd", "BTC-USD", "BTC/BTC", ""])
def test_a_hint_for_what_is_no_pair_is_refused(pair):
    hint = Hint(
        id="m", deployment="d", mode=Mode.TEST, group="g", pair=Pair("BTC/USD"), price=1, moment=2, previous_moment=1,
        reporter="0x", signature="0x",
    )  # fmt: skip
    assert decode(encode(hint)) == hint
    with pytest.raises(MalformedMessageError):
        decode(msgspec.json.encode(msgspec.json.decode(encode(hint)) | {"pair": pair}))


def test_size_is_bounded_both_ways():
    room = MAX_MESSAGE_BYTES - len(encode(msgspec.structs.replace(JOB, group="")))
    largest = msgspec.structs.replace(JOB, group="x" * room)
    assert decode(encode(largest)) == largest
    with pytest.raises(MalformedMessageError, match="1000001 bytes"):
        encode(msgspec.structs.replace(JOB, group="x" * (room + 1)))
    with pytest.raises(MalformedMessageError, match="1000001 bytes"):
        decode(b" " + encode(largest))
