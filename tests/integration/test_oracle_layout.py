"""Two halves of code on one storage: both must see every variable in the same slot. And the sources pass solhint."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from contracts.artifacts import load
from contracts.compile import ROOM, all_sources
from tests.support.oracle_kit import Lab
from tests.support.solidity import compiled

pytestmark = pytest.mark.needs_solc

HALVES = ("FairmarkOracle", "FairmarkGovernance")


def test_both_halves_see_the_same_slots() -> None:
    places = [f"src/{half}.sol" for half in HALVES]
    found = compiled(all_sources(), {place: {"*": ["storageLayout"]} for place in places})
    layouts: list[dict[str, tuple[int, int]]] = []
    ends = []
    for place, half in zip(places, HALVES, strict=True):
        layout: dict[str, Any] = found[place][half]["storageLayout"]
        slots = {one["label"]: (int(one["slot"]), one["offset"]) for one in layout["storage"]}
        layouts.append(slots)
        last = max(layout["storage"], key=lambda one: int(one["slot"]))
        ends.append(int(last["slot"]) + -(-int(layout["types"][last["type"]]["numberOfBytes"]) // 32))
    oracle, governing = layouts
    shared = oracle.keys() & governing.keys()
    assert shared >= {"_numbers", "_places", "_descriptions"}
    assert {name: oracle[name] for name in shared} == {name: governing[name] for name in shared}
    # what only the governing half has lies where the other has left room, and nowhere else
    reserved = oracle["_governed"][0]
    assert {slot for name, (slot, _) in governing.items() if name not in shared} == set(range(reserved, ends[1]))
    assert reserved < ends[1] <= reserved + 6
    # what only the oracle has (the long forms of its domain's strings) lies behind that, or is never written
    assert {name for name in oracle.keys() - shared} <= {"_governed", "_nameFallback", "_versionFallback"}


def test_each_half_fits_a_chains_limits() -> None:
    """EIP-170: 24,576 bytes of code. EIP-3860: twice that of code that makes it; the oracle's makes both halves."""
    lab = Lab()
    assert lab.chain is not None
    (governing,) = lab.read("governance")
    for half in (lab.address, governing):
        assert 0 < len(lab.chain.code(bytes.fromhex(half[2:]))) <= 24_576
    assert len(load("FairmarkOracle").bytecode) <= 49_152


def test_the_sources_pass_solhint() -> None:
    done = subprocess.run(["npm", "run", "-s", "lint"], cwd=ROOM, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
