"""Contracts that only tests need, compiled when they are asked for. Mark such tests `needs_solc`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import solcx

from contracts.abi import Abi
from contracts.compile import COMPILER, SETTINGS, all_sources

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "solidity"


@functools.cache
def compile_fixture(name: str) -> dict[str, tuple[Abi, bytes]]:
    """The contracts in `fixtures/solidity/<name>.sol`: ABI and bytecode by name."""
    place = f"tests/solidity/{name}.sol"
    sources = {place: (FIXTURES / f"{name}.sol").read_text(encoding="utf-8")} | all_sources()
    return {
        contract: (Abi(found["abi"]), bytes.fromhex(found["evm"]["bytecode"]["object"]))
        for contract, found in compiled(sources, {place: {"*": ["abi", "evm.bytecode.object"]}})[place].items()
    }


def compiled(sources: dict[str, str], selection: dict[str, dict[str, list[str]]]) -> dict[str, Any]:
    """What the compiler says of `sources`, with the project's settings: its `contracts`."""
    asked = {
        "language": "Solidity",
        "sources": {place: {"content": text} for place, text in sources.items()},
        "settings": SETTINGS | {"outputSelection": selection},
    }
    contracts: dict[str, Any] = solcx.compile_standard(asked, solc_binary=COMPILER)["contracts"]
    return contracts
