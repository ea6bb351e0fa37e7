"""Results read word by word are what eth_abi reads, and what it refuses is refused."""

from __future__ import annotations

import pytest
from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from hypothesis import given
from hypothesis import strategies as st

from contracts import artifacts
from contracts.abi import Abi, _type
from contracts.errors import ContractError
from contracts.words import NotThatShapeError, reader

FEED = "(bytes32,uint8,bool,uint48,address)"
SHAPES = {
    "words": ("uint256", "bool", "address", "bytes32", "bytes4"),
    "one tuple": (f"(bytes32,uint16,{FEED})",),
    "an array": ("uint8", f"{FEED}[]"),
    "arrays in a tuple": (f"(bytes32,address[],uint64,{FEED}[])",),
    "arrays beside each other": ("uint8[]", "uint256[]", "uint64"),
}


def values(kind: str) -> st.SearchStrategy[object]:
    if kind.endswith("[]"):
        return st.lists(values(kind[:-2]), max_size=4).map(tuple)
    if kind.startswith("("):
        return st.tuples(*(values(part) for part in parts(kind[1:-1])))
    if kind.startswith("uint"):
        return st.integers(0, 2 ** int(kind[4:]) - 1)
    if kind == "bool":
        return st.booleans()
    if kind == "address":
        return st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
    return st.binary(min_size=int(kind[5:]), max_size=int(kind[5:]))


def parts(inside: str) -> list[str]:
    found, depth = [""], 0
    for letter in inside:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and not depth:
            found.append("")
        else:
            found[-1] += letter
    return found


@pytest.mark.parametrize("name", SHAPES)
@given(data=st.data())
def test_what_eth_abi_wrote_is_read_as_it_reads_it(name: str, data: st.DataObject) -> None:
    types = SHAPES[name]
    given_ = tuple(data.draw(values(kind)) for kind in types)
    read = reader(types)
    assert read is not None
    raw = encode(types, given_)
    assert read(raw) == decode(types, raw) == given_


@pytest.mark.parametrize("name", SHAPES)
@given(data=st.data())
def test_bytes_that_are_spoilt_are_read_alike_or_refused(name: str, data: st.DataObject) -> None:
    types = SHAPES[name]
    raw = bytearray(encode(types, tuple(data.draw(values(kind)) for kind in types)))
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))]) if data.draw(st.booleans()) else bytes(raw)
    read = reader(types)
    assert read is not None
    try:
        expected = decode(types, cut)
    except (DecodingError, OverflowError):
        with pytest.raises(NotThatShapeError):
            read(cut)
    else:
        assert read(cut) == expected


def test_strings_and_arrays_of_what_has_no_size_are_left_to_eth_abi() -> None:
    for types in (("string",), ("bytes",), ("string[]",), ("uint8[][]",), ("uint8[2]",), ("int64",)):
        assert reader(types) is None


def test_the_oracles_own_shapes_are_read_word_by_word() -> None:
    entries = artifacts.load("FairmarkOracle").entries
    outputs = {
        entry["name"]: tuple(_type(item) for item in entry["outputs"])
        for entry in entries
        if entry["type"] == "function"
    }
    assert {name for name, types in outputs.items() if reader(types) is None} == {"eip712Domain", "feedDescription"}


def test_another_contracts_answer_is_named_as_such() -> None:
    abi: Abi = artifacts.load("FairmarkOracle").abi
    with pytest.raises(ContractError, match="readGroup returned 32 bytes that are not its result"):
        abi.result("readGroup", b"\xff" * 32)
    with pytest.raises(ContractError, match="another contract"):
        abi.result("owner", b"")
