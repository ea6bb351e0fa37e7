"""What rounds and reads cost is written down, and stays so."""

from __future__ import annotations

import json

import pytest

from contracts import gas

ASKED = {
    "k3": {"n1": 76_000, "n10": 162_000, "n100": 1_040_000},
    "k5": {"n1": 88_000, "n10": 182_000, "n100": 1_130_000},
    "k13": {"n1": 132_000, "n10": 250_000, "n100": 1_450_000},
}


@pytest.mark.needs_anvil
async def test_the_snapshot_is_what_is_measured(anvil_path: str):
    assert gas.differences(await gas.measure(anvil_path), json.loads(gas.SNAPSHOT.read_bytes())) == []


def test_the_snapshot_is_within_what_was_asked_for():
    standing = json.loads(gas.SNAPSHOT.read_bytes())
    for k, sizes in ASKED.items():
        for size, most in sizes.items():
            assert standing[k][size] <= most, (k, size)
    assert standing["attest256_k3"] <= 58_000
    assert standing["get_price"]["fresh"] <= 8_000
    assert standing["get_price"]["attested"] <= 12_500
    # O(log n) over a ring of 64: the feed's place, its positions, the newest answer, and 7 places of the ring
    cold_read = 2_100
    assert 10 * cold_read <= standing["history_at_worst"]["price_at"] < 12 * cold_read
    assert 10 * cold_read <= standing["history_at_worst"]["twap"] < 12 * cold_read


def test_the_page_shows_the_snapshot():
    assert gas.PAGE.read_text() == gas.page(json.loads(gas.SNAPSHOT.read_bytes()))


def test_a_figure_that_moved_is_named():
    assert gas.differences({"a": {"b": 1_006}}, {"a": {"b": 1_000}}) == ["a.b: 1006, and 1000 stands"]
    assert gas.differences({"a": {"b": 1_005}}, {"a": {"b": 1_000}}) == []
