"""The evidence tree is OpenZeppelin's, and commits to every member of a report."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import msgspec
import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import MalformedEvidenceError
from contracts.evidence import MAX_ROWS, NO_EVIDENCE, ROW, EvidenceTree, Statement, leaf, proves, scaled
from contracts.report import bytes32
from core import codec
from core.types import FailureCode, Mode, Pair, Quote, SourceFailure

BTC, BTC_USDT, USDT = Pair("BTC/USD"), Pair("BTC/USDT"), Pair("USDT/USD")
NOW = 1_710_328_245_000


def quote(source: str, pair: Pair = BTC, price: str = "70000", received: int = NOW, at: int | None = None) -> Quote:
    return Quote(pair=pair, source=source, price=Decimal(price), received_ms=received, source_time_ms=at)


def numbered(index: int) -> Quote:
    """The rows that the vectors below were made of."""
    return quote(
        f"source-{index}",
        BTC_USDT if index % 2 else BTC,
        f"{70_000 + Decimal(index) / 10**6}",
        NOW + index,
        NOW - 1_000 + index if index % 3 else None,
    )


@dataclass
class Vector:
    """What @openzeppelin/merkle-tree 1.0.8 makes of the first `n` rows: its root, the last row's leaf and proof."""

    n: int
    root: str
    leaf: str
    proof: tuple[str, ...]


VECTORS = (
    Vector(
        1,
        "0f04ae73efdfc51485daaf5a26252431aa615cb0a09f3b024d220ac62b4ba766",
        "0f04ae73efdfc51485daaf5a26252431aa615cb0a09f3b024d220ac62b4ba766",
        (),
    ),
    Vector(
        3,
        "392ce0034b9af1e0e8ccba499d288da3094f17b9134b02c21c819c15006e4b74",
        "49c267154e29c9f06ba21fb4e60e29bedd7471e3b37c3aa9d1c15d4b9269189d",
        (
            "0f04ae73efdfc51485daaf5a26252431aa615cb0a09f3b024d220ac62b4ba766",
            "580789607ada026f7c49f00767d4fc671e3d1ffedc4e42835b50b3a347f13cbf",
        ),
    ),
    Vector(
        8,
        "a99f1ff43b43b42146a89883336fbbe6068e77b393a292a9faa710412f9f7d6b",
        "6431fd52bb929e717062608f457b7066205bf1381fcf04d07e5bd059322d7098",
        (
            "8405720c293f023b1c755cc699e5e784887c034ee3595502672b1b1e737c6b56",
            "10bd8232589bd5ac7502712a49e3a749f3c5ab287c00a605de9f806fa6207aae",
            "870c89528f92926dc6b38227c64818473f7245c4c0a133a651c641632747771e",
        ),
    ),
    Vector(
        13,
        "cce6b418f22cda71c4f15dff511b14f9e3e1e6a3e9248fa7a954dad23a33514a",
        "68a097747f9500aaad712b5154c4bd4c80f9f115832701d668e5f3592fa808a9",
        (
            "8405720c293f023b1c755cc699e5e784887c034ee3595502672b1b1e737c6b56",
            "3126ce9a0d93b47cd9747b40ea86a656f332f7f8e045f9adf60f754899be97a2",
            "504ad8c1ec2f484606bb77bf5de333b22ada3df522c4ba99c33cbc8d8044562e",
            "88f35904198635c71b829386176817cf74e6c47fddfa3ba98769c1a9aff279b6",
        ),
    ),
)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector.n))
def test_the_tree_is_openzeppelins(vector: Vector) -> None:
    leaves = [leaf(BTC, numbered(index)) for index in range(vector.n)]
    tree = EvidenceTree(leaves)
    assert tree.root == "0x" + vector.root
    assert leaves[-1].hex() == vector.leaf
    assert [one.hex() for one in tree.proof(leaves[-1])] == list(vector.proof)


def test_a_leaf_is_the_abi_encoding_hashed_twice() -> None:
    one = quote("kraken", BTC_USDT, "70001.25", at=NOW - 500)
    row = (bytes32("BTC/USD"), bytes32("kraken"), bytes32("BTC/USDT"), 7000125 * 10**34, NOW - 500, NOW)
    assert leaf(BTC, one) == keccak(keccak(encode(ROW, row)))


def test_a_price_keeps_every_digit_it_can_have() -> None:
    assert scaled(Decimal("0.000000000000001000000000000000000001")) == 10**21 + 1
    assert scaled(Decimal("123456789012345.123456789012345678901234567890123456")) == int(
        "123456789012345123456789012345678901234567890123456"
    )


@pytest.mark.parametrize("price", ["NaN", "Infinity", "-1", "0", "1E+999999", "1E-999999", "1E+40"])
def test_what_is_no_price_has_no_leaf(price: str) -> None:
    with pytest.raises(MalformedEvidenceError, match="no price"):
        leaf(BTC, quote("kraken", price=price))


@pytest.mark.parametrize(
    "bad", [quote("k" * 33), quote("köln"), quote("kraken", received=-1), quote("kraken", at=2**48)]
)
def test_what_does_not_fit_a_row_has_no_leaf(bad: Quote) -> None:
    with pytest.raises(MalformedEvidenceError):
        leaf(BTC, bad)


@given(st.integers(1, 40), st.data())
def test_every_leaf_is_proven_and_nothing_else(count: int, data: st.DataObject) -> None:
    leaves = [leaf(BTC, numbered(index)) for index in range(count)]
    tree = EvidenceTree(data.draw(st.permutations(leaves)))
    assert tree.root == EvidenceTree(leaves).root
    for one in leaves:
        assert proves(tree.root, one, tree.proof(one))
    stranger = leaf(USDT, numbered(data.draw(st.integers(0, count - 1))))
    assert not any(proves(tree.root, stranger, tree.proof(one)) for one in leaves)
    with pytest.raises(KeyError):
        tree.proof(stranger)


def test_a_report_without_evidence_proves_nothing() -> None:
    assert not proves(NO_EVIDENCE, bytes(32), ())


STATEMENT = Statement(
    deployment="31337:0xaa:0x01",
    mode=Mode.TEST,
    fetcher="fetcher-a",
    instance="1",
    answers={"BTC/USD": Decimal("70000.00000000")},
    quotes=(quote("kraken"), quote("binance", BTC_USDT, "70070"), quote("kraken", USDT, "0.999")),
    failures=(SourceFailure(pair=BTC, source="okx", code=FailureCode.TIMEOUT),),
    observed={"BTC/USD": (0, 1), "USDT/USD": (2,)},
    elapsed_ms=41,
)


def test_quotes_are_counted_for_feeds_and_for_the_rates_that_convert_them() -> None:
    tree = STATEMENT.tree()
    assert [(feed, one.source, one.pair) for feed, one in STATEMENT.rows()] == [
        ("BTC/USD", "kraken", BTC),
        ("BTC/USD", "binance", BTC_USDT),
        ("USDT/USD", "kraken", USDT),
    ]
    for feed, one in STATEMENT.rows():
        assert proves(tree.root, leaf(feed, one), tree.proof(leaf(feed, one)))


CHANGES: dict[str, object] = {
    "deployment": "1:0xaa:0x01",
    "mode": Mode.LIVE,
    "fetcher": "fetcher-b",
    "instance": "2",
    "answers": {},
    "quotes": (*STATEMENT.quotes[:2], msgspec.structs.replace(STATEMENT.quotes[2], bid=Decimal(1))),
    "failures": (),
    "observed": {"BTC/USD": (0, 1), "USDC/USD": (2,)},
    "elapsed_ms": 42,
}


@pytest.mark.parametrize("member", Statement.__struct_fields__)
def test_whatever_is_changed_changes_the_root(member: str) -> None:
    changed = msgspec.structs.replace(STATEMENT, **{member: CHANGES[member]})
    assert changed.tree().root != STATEMENT.tree().root


def test_a_statement_has_the_same_root_after_a_trip_over_the_wire() -> None:
    assert codec.decode(codec.encode(STATEMENT), Statement).tree().root == STATEMENT.tree().root


@pytest.mark.parametrize(
    ("observed", "why"),
    [
        ({"BTC/USD": (0, 1)}, "1 quotes count for nothing"),
        ({"BTC/USD": (0, 1, 2, 3)}, "no quote 3"),
        ({"BTC/USD": (0, 2, 1)}, "ascending"),
        ({"BTC/USD": (0, 0, 1, 2)}, "ascending"),
        ({"BTC/USD": (-1, 0, 1, 2)}, "ascending"),
    ],
)
def test_quotes_that_are_not_named_rightly_have_no_root(observed: dict[str, tuple[int, ...]], why: str) -> None:
    with pytest.raises(MalformedEvidenceError, match=why):
        msgspec.structs.replace(STATEMENT, observed=observed).tree()


def test_the_work_that_a_report_may_ask_for_is_bounded() -> None:
    crowd = {f"F{number}/USD": (0, 1, 2) for number in range(MAX_ROWS // 3 + 1)}
    with pytest.raises(MalformedEvidenceError, match=f"at most {MAX_ROWS}"):
        msgspec.structs.replace(STATEMENT, observed=crowd).tree()
