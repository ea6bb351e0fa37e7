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
observed = st.dictionaries(text, st.lists(whole, max_size=3).map(tuple), max_size=3)
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
    st.builds(
        Report, **head, **seen, signed=signed, answers=st.dictionaries(text, prices, max_size=3), observed=observed
    ),
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


def as_sent(message: object, **more: object) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(encode(message)) | more)


REFUSAL = Refusal(
    id="m", attempt="a", deployment="d", mode=Mode.TEST, fetcher="f", instance="i", reporter="0x", moment=1,
    code="c", detail="", quotes=(), failures=(), elapsed_ms=1,
)  # fmt: skip
SIGNED = SignedReport(
    group="majors", group_hash="0x", previous_moment=1, moment=2, prices=(1, 2), reporter="0x", signature="0x"
)
REPORT = Report(
    id="m", attempt="a", deployment="d", mode=Mode.TEST, fetcher="f", instance="i", signed=SIGNED, answers={},
    quotes=(), failures=(), observed={}, elapsed_ms=1,
)  # fmt: skip
FAILURE = {"pair": "BTC/USD", "source": "s", "code": "timeout"}
QUOTE = {"pair": "BTC/USD", "source": "s", "price": "1", "received_ms": 1}


def test_what_a_report_counted_is_bounded():
    counted = {"BTC/USD": [0, 2], "USDT/USD": [1]}
    assert decode(as_sent(REPORT, observed=counted)).observed == {"BTC/USD": (0, 2), "USDT/USD": (1,)}
    for bad in ({"x" * 33: [0]}, {f"{number}": [] for number in range(1_025)}, {"BTC/USD": ["0"]}, {"BTC/USD": 0}):
        with pytest.raises(MalformedMessageError, match="observed"):
            decode(as_sent(REPORT, observed=bad))


@pytest.mark.parametrize("name", ["id", "attempt", "deployment", "fetcher", "instance", "reporter", "code"])
def test_a_word_is_at_most_128_characters_long(name):
    assert getattr(decode(as_sent(REFUSAL, **{name: "x" * 128})), name) == "x" * 128
    with pytest.raises(MalformedMessageError, match=rf"<= 128 - at `\$\.{name}`"):
        decode(as_sent(REFUSAL, **{name: "x" * 129}))


def test_a_detail_is_at_most_500_characters_long():
    assert decode(as_sent(REFUSAL, detail="é" * 500)).detail == "é" * 500
    with pytest.raises(MalformedMessageError, match=r"<= 500 - at `\$\.detail`"):
        decode(as_sent(REFUSAL, detail="é" * 501))


@pytest.mark.parametrize(("name", "one"), [("quotes", QUOTE), ("failures", FAILURE)])
@pytest.mark.parametrize("message", [REFUSAL, REPORT], ids=["refusal", "report"])
def test_evidence_has_at_most_4096_entries(message, name, one):
    assert len(getattr(decode(as_sent(message, **{name: [one] * 4_096})), name)) == 4_096
    with pytest.raises(MalformedMessageError, match=rf"<= 4096 - at `\$\.{name}`"):
        decode(as_sent(message, **{name: [one] * 4_097}))


@pytest.mark.parametrize(
    ("most", "more", "says"),
    [
        ({"signature": "x" * 132}, {"signature": "x" * 133}, "signature has more than 132"),
        ({"group": "x" * 132}, {"group": "x" * 133}, "group has more than 132"),
        ({"evidence_root": "x" * 132}, {"evidence_root": "x" * 133}, "evidence_root has more than 132"),
        ({"prices": [1] * 256}, {"prices": [1] * 257}, "257 prices"),
        ({"prices": [2**64 - 1]}, {"prices": [2**64]}, "larger than its place"),
        ({"moment": 2**64 - 1}, {"moment": 2**64}, "larger than its place"),
        ({"unchanged": 2**256 - 1}, {"unchanged": 2**256}, "larger than its place"),
    ],
)
def test_a_signed_report_has_no_more_in_it_than_a_group_could_ask_for(most, more, says):
    signed = msgspec.json.decode(encode(REPORT))["signed"]
    assert isinstance(decode(as_sent(REPORT, signed=signed | most)), Report)
    with pytest.raises(MalformedMessageError, match=says):
        decode(as_sent(REPORT, signed=signed | more))


def test_size_is_bounded_both_ways():
    room = MAX_MESSAGE_BYTES - len(encode(msgspec.structs.replace(JOB, group="")))
    largest = msgspec.structs.replace(JOB, group="x" * room)
    assert decode(encode(largest)) == largest
    with pytest.raises(MalformedMessageError, match="1000001 bytes"):
        encode(msgspec.structs.replace(JOB, group="x" * (room + 1)))
    with pytest.raises(MalformedMessageError, match="1000001 bytes"):
        decode(b" " + encode(largest))
