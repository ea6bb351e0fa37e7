"""Every error that the contracts declare is one that a test has seen, by its name and its arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.artifacts import ARTIFACTS, CONTRACTS, load
from contracts.devchain.chain import ChainError
from contracts.errors import CallRevertedError
from contracts.report import bytes32
from tests.support.oracle_kit import FEEDS, ORACLE, OWNER, STRANGER, Lab

BTC = bytes32(FEEDS[0])
ZERO = "0x" + "00" * 20
WBTC, USD = "0x" + "11" * 20, "0x" + "00" * 18 + "0348"
PRICE = 7_250_000_000_000


@pytest.fixture(scope="module")
def shared() -> Lab:
    lab = Lab()
    lab.submit(lab.reports([(PRICE, 500, 10)] * 3))
    return lab


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    assert shared.chain is not None
    before, now = shared.chain.snapshot(), shared.clock.now_ms()
    yield shared
    shared.chain.revert(before)
    shared.clock.advance(now - shared.clock.now_ms())


def refused(name: str, *arguments: object):
    return pytest.raises(CallRevertedError, match=rf"^{name}\(" + ", ".join(map(str, arguments)))


def made(lab: Lab, contract: str, *arguments: Any) -> None:
    """Run its constructor without keeping it; its own errors by name, and those of the oracle that it asks."""
    artifact = load(contract)
    assert lab.chain is not None
    code = artifact.bytecode + artifact.abi.construct(*arguments)
    try:
        lab.chain.estimate(b"", code, sender=bytes.fromhex(OWNER.address[2:]))
    except ChainError as error:
        assert error.data is not None, error
        data = bytes.fromhex(error.data[2:])
        own = artifact.abi.error(data)
        raise CallRevertedError(*(ORACLE.error(data) if own[0] == "Reverted" else own)) from None


def asked(lab: Lab, contract: str, at: str, function: str, *arguments: Any, by: Any = STRANGER) -> Any:
    abi = load(contract).abi
    return abi.result(function, lab.run(abi.call(function, *arguments), to=at, abi=abi, by=by))


@pytest.mark.parametrize("window", [0, 2**24, 2**255])
def test_a_window_is_positive_and_at_most_194_days(lab: Lab, window: int):
    with refused("BadWindow", window):
        lab.read("twap", BTC, window)


def test_the_longest_window_is_refused_only_for_its_history(lab: Lab):
    with refused("HistoryTooShort"):
        lab.read("twap", BTC, 2**24 - 1)


def test_the_future_has_no_price(lab: Lab):
    now = lab.clock.now_ms() // 1000
    with refused("HistoryTooShort", "0x" + BTC.hex(), now + 1):
        lab.read("priceAt", BTC, now + 1)


@pytest.mark.parametrize("decimals", [(37, 6), (8, 37)])
def test_assets_of_absurd_decimals_have_no_quotes(lab: Lab, decimals: tuple[int, int]):
    with refused("BadDecimals"):
        made(lab, "FairmarkQuoteAdapter", lab.address, BTC, WBTC, decimals[0], USD, decimals[1], 60)


def test_an_asset_is_not_priced_in_itself(lab: Lab):
    with refused("OracleUnsupportedPair", WBTC, WBTC):
        made(lab, "FairmarkQuoteAdapter", lab.address, BTC, WBTC, 8, WBTC, 8, 60)


@pytest.mark.parametrize("contract", ["FairmarkFeedAdapter", "FairmarkQuoteAdapter", "FairmarkGatedFeedAdapter"])
def test_an_adapter_needs_a_feed_that_the_oracle_has(lab: Lab, contract: str):
    rest = {"FairmarkQuoteAdapter": (WBTC, 8, USD, 6, 60), "FairmarkGatedFeedAdapter": (ZERO, 60)}.get(contract, ())
    with refused("UnknownFeed", "0x" + bytes32("NO/FEED").hex()):
        made(lab, contract, lab.address, bytes32("NO/FEED"), *rest)


def test_a_feed_does_not_move_to_nowhere_nor_by_a_stranger(lab: Lab):
    directory = lab.create("FairmarkDirectory", OWNER.address)
    with refused("NoOracle"):
        asked(lab, "FairmarkDirectory", directory, "move", BTC, ZERO, by=OWNER)
    with refused("OwnableUnauthorizedAccount", STRANGER.address.lower()):
        asked(lab, "FairmarkDirectory", directory, "move", BTC, WBTC)
    with refused("UnknownFeed"):
        asked(lab, "FairmarkDirectory", directory, "oracleOf", BTC)


@pytest.mark.parametrize("contract", ["FairmarkOracle", "FairmarkDirectory"])
def test_there_is_an_owner_from_the_first_block_on(lab: Lab, contract: str):
    rest = (False, ZERO, ZERO) if contract == "FairmarkOracle" else (ZERO,)
    with refused("OwnableInvalidOwner", ZERO):
        made(lab, contract, *rest)


def test_nobody_initializes_an_oracle_again(lab: Lab):
    for by in (STRANGER, OWNER):
        with refused("NotAllowed", by.address.lower()):
            lab.run(ORACLE.call("initialize", by.address, by.address), by=by)


# ------------------------------------------------------------------------------------------------ ERC-7726's arithmetic


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(amount=st.one_of(st.integers(0, 10**12), st.integers(0, 2**256 - 1)), forward=st.booleans())
def test_a_quote_is_exact_rounded_down_and_reverts_only_where_it_does_not_fit(lab: Lab, amount: int, forward: bool):
    adapter = lab.create("FairmarkQuoteAdapter", lab.address, BTC, WBTC, 8, USD, 6, 60)
    up, down = PRICE * 10**6, 10 ** (8 + 8)
    exact = amount * up // down if forward else amount * down // up
    pair = (WBTC, USD) if forward else (USD, WBTC)
    if exact < 2**256:
        assert asked(lab, "FairmarkQuoteAdapter", adapter, "getQuote", amount, *pair) == (exact,)
    else:
        with pytest.raises(CallRevertedError, match=r"^Panic"):
            asked(lab, "FairmarkQuoteAdapter", adapter, "getQuote", amount, *pair)


# ------------------------------------------------------------------------------------------------ all of them

NEVER = {"AddressEmptyCode", "FailedCall", "InvalidShortString", "StringTooLong"}
"""Of OpenZeppelin's library code, in constructors whose arguments are our own."""


def test_every_declared_error_is_named_by_a_test_of_the_oracle():
    files = [json.loads((ARTIFACTS / f"{contract}.json").read_bytes()) for contract in CONTRACTS]
    declared = {entry["name"] for file in files for entry in file["abi"] if entry["type"] == "error"}
    here = Path(__file__).parent
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(here.glob("test_oracle_*.py")))
    named = set(re.findall(r'(?:refused\(|fails\(|match=r?f?|error\.name == |\), |== \()"\^?([A-Z]\w+)', text))
    assert declared - named == NEVER
